"""A slot's vitals, which `streams.signs` puts together, in a file that the supervisor reads who autoscales it.

Imports nothing of Kafka, for the supervisor's sake.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections.abc import Callable
from pathlib import Path

from schemas.errors import RecordInvalid
from schemas.vitals import Vitals

log = logging.getLogger(__name__)

EVERY_SECONDS = 1.0


def vitals_path(folder: Path, slot_id: str) -> Path:
    """Return where a slot keeps its vitals, in the folder of the slots."""
    return folder / f"{slot_id}.vitals"


def read(path: Path) -> Vitals | None:
    """Return the last vitals of a slot; None where there are none or they cannot be read."""
    try:
        return Vitals.parse(path.read_bytes())
    except (OSError, RecordInvalid):
        return None


class VitalsFile(threading.Thread):
    """Writes a slot's vitals every EVERY_SECONDS until `close`. A disk that is full is said once and stops nothing."""

    def __init__(self, path: Path, vitals: Callable[[], Vitals]) -> None:
        super().__init__(name="vitals", daemon=True)
        self._path, self._vitals = path, vitals
        self._ended = threading.Event()
        self._said = False

    def run(self) -> None:
        """Write until `close`."""
        self._write()
        while not self._ended.wait(EVERY_SECONDS):
            self._write()

    def close(self) -> None:
        """Stop, and leave no vitals of a slot that has ended."""
        self._ended.set()
        self.join(2 * EVERY_SECONDS)
        with contextlib.suppress(OSError):
            if (found := read(self._path)) is not None and found.process == os.getpid():
                self._path.unlink()

    def _write(self) -> None:
        beside = self._path.with_suffix(f".{os.getpid()}.tmp")
        try:
            beside.write_bytes(self._vitals().to_line())
            os.replace(beside, self._path)  # a reader sees the old ones or the new ones
        except OSError as error:
            if not self._said:
                self._said = True
                log.warning("the slot's load is not noted (%s): who autoscales it does not see it", error)
