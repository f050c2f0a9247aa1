"""Gives freed memory back to the system: other threads free batches than made them, and glibc keeps such pages."""

from __future__ import annotations

import ctypes
import time

PERIOD = 5.0  # seconds; a trim takes a millisecond or two


class Trimmer:
    """Calls glibc's malloc_trim once in PERIOD; does nothing where there is no glibc."""

    def __init__(self) -> None:
        self._trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        self._last = time.monotonic()

    def __call__(self) -> None:
        if time.monotonic() - self._last >= PERIOD:
            self.now()

    def now(self) -> None:
        """Do it whenever the last time was."""
        self._last = time.monotonic()
        if self._trim is not None:
            self._trim(0)
