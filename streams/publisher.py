"""Commits a batch beside the decoding of the next: one thread, in order, at most one batch waiting."""

from __future__ import annotations

import threading
from collections.abc import Callable

from streams.errors import StartOver

STUCK_SECONDS = 12.0  # twice what the broker gives a transaction: librdkafka has been seen never to return


class Publisher:
    """Runs what it is given on a thread of its own.

    After a failure, work that waited is dropped and the next call raises what failed. Work that does not return within
    `stuck_seconds` is given up with StartOver: its thread is left alone, and its producers must not be used again.
    """

    def __init__(self, stuck_seconds: float = STUCK_SECONDS) -> None:
        self._stuck_seconds = stuck_seconds
        self._changed = threading.Condition()
        self._waiting: Callable[[], None] | None = None
        self._busy = self._closed = self._stuck = False
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="publisher", daemon=True)
        self._thread.start()

    def submit(self, work: Callable[[], None]) -> None:
        """Hand work over; blocks while another one waits. Raises what an earlier one failed with."""
        with self._changed:
            self._wait(lambda: self._waiting is None or self._failure is not None)
            self._raise_failure()
            self._waiting = work
            self._changed.notify_all()

    def join(self) -> None:
        """Block until everything handed over is decided. Raises what failed."""
        with self._changed:
            self._wait(lambda: self._waiting is None and not self._busy)
            self._raise_failure()

    def close(self) -> None:
        """Drop what waits and end the thread once the running work returns; one that is stuck is left alone."""
        with self._changed:
            self._waiting, self._closed = None, True
            self._changed.notify_all()
        if not self._stuck:
            self._thread.join(self._stuck_seconds)

    def _wait(self, true: Callable[[], bool]) -> None:
        if self._stuck or not self._changed.wait_for(true, self._stuck_seconds):
            self._stuck = True
            raise StartOver(f"a transaction did not return within {self._stuck_seconds:.0f} s")

    def _raise_failure(self) -> None:
        if self._failure is not None:
            failure, self._failure, self._waiting = self._failure, None, None
            raise failure

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting is not None or self._closed)
                if self._closed:
                    return
                work, self._waiting, self._busy = self._waiting, None, True
                self._changed.notify_all()
            failure = None
            try:
                assert work is not None
                work()
            except BaseException as error:
                failure = error
            work = None
            with self._changed:
                self._busy = False
                if failure is not None:
                    self._failure, self._waiting = failure, None
                self._changed.notify_all()
