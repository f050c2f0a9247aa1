"""How much memory this process has, and whether that is more than its quota: asked between batches.

The resident set counts, not the address space: a limit of the kernel on that (RLIMIT_AS) would fail a model that maps
much and touches little, amid a batch. A slot over its quota gives back what is free, and ends in order if that does not
help: whoever supervises starts it again.
"""

from __future__ import annotations

import gc
import logging
import os
from collections.abc import Callable

from streams.trim import Trimmer

log = logging.getLogger(__name__)


def resident_bytes() -> int | None:
    """Return the resident memory of this process; None where the system does not tell (elsewhere than on Linux)."""
    try:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE")
    except (OSError, ValueError, IndexError):
        return None


class Residence:
    """The memory of this process. resident: returns it in bytes, None where it is not known."""

    def __init__(
        self, resident: Callable[[], int | None] = resident_bytes, trim: Callable[[], None] | None = None
    ) -> None:
        self._resident, self._trim = resident, trim or Trimmer().now
        self._said = False

    def over(self, quota: int | None, settle: Callable[[], None]) -> int | None:
        """Return the bytes that the process keeps where they are more than its quota, None where they are not.

        settle: called before anything is decided, to let go of batches in hand.
        """
        if quota is None:
            return None
        found = self._resident()
        if found is None:
            if not self._said:
                self._said = True
                log.warning("quotas.memory is not kept: this system does not tell how much memory a process has")
            return None
        if found <= quota:
            return None
        settle()
        gc.collect()
        self._trim()
        found = self._resident()
        return found if found is not None and found > quota else None
