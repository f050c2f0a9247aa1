"""Put on the path of a supervised worker by tests: it ends as by a crash in native code, for real.

It dies on an event that has DEADLY among its bytes, or at once where DEADLY_START is set. With DEADLY_HANG it stands
still on the event instead of dying, and may do so for that many seconds. With DEADLY_LEAK it keeps so many MiB more
with each batch.
"""

from __future__ import annotations

import os
import struct
import sys
import time
from collections.abc import Sequence
from typing import Any

DEADLY = struct.pack("<d", 6.66e66)

if "penstock.cli" in sys.orig_argv and "-" in sys.orig_argv:  # a worker that is told its slot
    if os.environ.get("DEADLY_START"):
        os.abort()

    import schemas.decode

    hang = os.environ.get("DEADLY_HANG")
    if hang is not None:
        import streams.watchdog

        streams.watchdog.Watchdog.__init__.__defaults__ = (float(hang),)  # type: ignore[attr-defined]

    decode = schemas.decode.EventDecoder.decode
    leak = int(os.environ.get("DEADLY_LEAK", 0)) << 20
    kept: list[bytes] = []

    def deadly(self: Any, values: Sequence[bytes | None]) -> Any:
        if leak:
            kept.append(b"x" * leak)
        if any(DEADLY in value for value in values if value):
            if hang is None:
                os.abort()
            time.sleep(600)
        return decode(self, values)

    schemas.decode.EventDecoder.decode = deadly  # type: ignore[method-assign]
