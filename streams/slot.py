"""One worker a slot: on one machine a file lock refuses the second; across machines Kafka fences the first."""

from __future__ import annotations

import fcntl
import logging
import os
from pathlib import Path

from streams.errors import Fenced

log = logging.getLogger(__name__)


class SlotLock:
    """Holds the slot's file until this process ends, however it ends. Raises Fenced when another process has it."""

    def __init__(self, folder: Path, slot_id: str) -> None:
        path = folder / f"{slot_id}.lock"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._file = open(path, "a+")  # noqa: SIM115 - it stays open as long as the lock is held
        except OSError as error:  # Kafka still fences; a read-only or full disk must not stop scoring
            log.warning("no lock file for this slot (%s); only Kafka keeps a second worker out", error)
            return
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._file.seek(0)
            owner = self._file.read().strip() or "unknown"
            self._file.close()
            raise Fenced(
                f"slot {slot_id} is running already on this machine (process {owner}); "
                "give each worker a --slot of its own or stop that process"
            ) from None
        self._file.truncate(0)
        self._file.write(str(os.getpid()))
        self._file.flush()

    def close(self) -> None:
        """Let the slot go."""
        if hasattr(self, "_file"):
            self._file.close()
