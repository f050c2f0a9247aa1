"""Ends a process whose loop stands still, so that whoever supervises it can start it again."""

from __future__ import annotations

import faulthandler

HANG_SECONDS = 300.0  # Kafka's max.poll.interval.ms: by then the group has given its partitions to others


class Watchdog:
    """Call it with every turn of a loop: when calls stay away for `seconds`, the process ends with status 1.

    It says first, on standard error, where each thread is. It waits in C: a thread that never lets go of the
    interpreter does not stop it. There is one in a process.
    """

    def __init__(self, seconds: float = HANG_SECONDS) -> None:
        self._seconds = seconds

    def __call__(self) -> None:
        faulthandler.dump_traceback_later(self._seconds, exit=True)

    def close(self) -> None:
        """Watch no longer."""
        faulthandler.cancel_dump_traceback_later()
