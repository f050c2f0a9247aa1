"""What topics take on the disk of the embedded broker: confluent-kafka cannot ask a broker for the size of its logs."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import psutil


def logs(broker: int) -> Path:
    """Return the folder of the logs of an embedded broker, by its pid: they lie beside its properties."""
    return Path(psutil.Process(broker).cmdline()[-1]).parent / "log"


def held(folder: Path, *topics: str) -> int:
    """Return the bytes of all segments of topics, those that wait for their removal and all."""
    total = 0
    for topic in topics:
        for segment in folder.glob(f"{topic}-*/*.log*"):
            with suppress(FileNotFoundError):  # removed since it was listed
                total += segment.stat().st_size
    return total
