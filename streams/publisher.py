"""Commits a batch beside the decoding of the next: one thread, in order, at most one batch waiting."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

Work = TypeVar("Work")


class Publisher(Generic[Work]):
    """Runs `publish` on a thread of its own.

    After a failure, work that waited is dropped and the next call raises what failed.
    """

    def __init__(self, publish: Callable[[Work], None]) -> None:
        self._publish = publish
        self._changed = threading.Condition()
        self._waiting: Work | None = None
        self._busy = self._closed = False
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="publisher", daemon=True)
        self._thread.start()

    def submit(self, work: Work) -> None:
        """Hand a batch over; blocks while another one waits. Raises what an earlier one failed with."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting is None or self._failure is not None)
            self._raise_failure()
            self._waiting = work
            self._changed.notify_all()

    def join(self) -> None:
        """Block until everything handed over is decided. Raises what failed."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting is None and not self._busy)
            self._raise_failure()

    def close(self) -> None:
        """Drop what waits and end the thread once the running publish returns."""
        with self._changed:
            self._waiting, self._closed = None, True
            self._changed.notify_all()
        self._thread.join()

    def _raise_failure(self) -> None:
        if self._failure is not None:
            self._changed.wait_for(lambda: not self._busy)
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
                self._publish(work)
            except BaseException as error:
                failure = error
            work = None
            with self._changed:
                self._busy = False
                if failure is not None:
                    self._failure, self._waiting = failure, None
                self._changed.notify_all()
