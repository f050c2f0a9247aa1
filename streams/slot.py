"""One worker a slot: on one machine a file lock refuses the second; across machines Kafka fences the first."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
from pathlib import Path

from streams.errors import Fenced

log = logging.getLogger(__name__)


class SlotLock:
    """Holds the slot's file until this process ends, however it ends. Raises Fenced when another process has it.

    Kafka still fences where there is no such file: a disk that is full or read-only, or has no locks, stops no scoring.
    """

    def __init__(self, folder: Path, slot_id: str) -> None:
        self._file: int | None = None
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._file = os.open(folder / f"{slot_id}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = self._owner()
            self.close()
            raise Fenced(
                f"slot {slot_id} is running already on this machine (process {owner}); "
                "give each worker a --slot of its own or stop that process"
            ) from None
        except OSError as error:
            self.close()
            log.warning("no lock file for this slot (%s); only Kafka keeps a second worker out", error)
            return
        with contextlib.suppress(OSError):  # it says who holds the lock, and is not what holds it
            os.ftruncate(self._file, 0)
            os.pwrite(self._file, str(os.getpid()).encode(), 0)

    def _owner(self) -> str:
        with contextlib.suppress(OSError):
            if self._file is not None and (said := os.pread(self._file, 20, 0)):
                return said.decode(errors="replace").strip()
        return "unknown"

    def close(self) -> None:
        """Let the slot go."""
        if self._file is not None:
            os.close(self._file)
            self._file = None
