"""Put on the path of a supervised worker by tests: it ends as by a crash in native code, for real.

It dies on an event that has DEADLY among its bytes, or at once where DEADLY_START is set.
"""

from __future__ import annotations

import os
import struct
import sys
from collections.abc import Sequence
from typing import Any

DEADLY = struct.pack("<d", 6.66e66)

if "penstock.cli" in sys.orig_argv and "-" in sys.orig_argv:  # a worker that is told its slot
    if os.environ.get("DEADLY_START"):
        os.abort()

    import schemas.decode

    decode = schemas.decode.EventDecoder.decode

    def deadly(self: Any, values: Sequence[bytes | None]) -> Any:
        if any(DEADLY in value for value in values if value):
            os.abort()
        return decode(self, values)

    schemas.decode.EventDecoder.decode = deadly  # type: ignore[method-assign]
