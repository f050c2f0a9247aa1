"""What the signals of a worker process do."""

from __future__ import annotations

import logging
import os
import signal
import threading

from streams.worker import Worker

log = logging.getLogger(__name__)

DRAIN_SECONDS = 20.0  # a worker told to stop ends within this, whatever hangs


class Signals:
    """SIGTERM and SIGINT end the process within DRAIN_SECONDS, whatever hangs; SIGUSR1 goes on after a limit or a hold.

    Its handlers are the only ones from the start to the end: a signal between two handlers would be lost.
    """

    def __init__(self) -> None:
        self._stopping = self._resuming = False
        self._worker: Worker | None = None
        signal.signal(signal.SIGTERM, self._stop)
        signal.signal(signal.SIGINT, self._stop)
        signal.signal(signal.SIGUSR1, self._resume)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGUSR1})  # one to a child of a supervisor waited until now

    def stopping(self) -> bool:
        """Say whether the process was told to stop."""
        return self._stopping

    def tell(self, worker: Worker) -> None:
        """Pass signals on to the worker, also those that came before: its order may name what was forgiven since."""
        self._worker = worker
        if self._resuming:
            worker.resume()
        if self._stopping:
            worker.stop()

    def ignore(self) -> None:
        """A second signal must not undo an orderly end."""
        for again in (signal.SIGTERM, signal.SIGINT):
            signal.signal(again, signal.SIG_IGN)

    def _stop(self, *_: object) -> None:
        if self._stopping:
            return
        self._stopping = True
        if self._worker is not None:
            self._worker.stop()
        overdue = threading.Timer(DRAIN_SECONDS, _give_up)
        overdue.daemon = True
        overdue.start()

    def _resume(self, *_: object) -> None:
        self._resuming = True
        if self._worker is not None:
            self._worker.resume()


def _give_up() -> None:
    saying = threading.Thread(target=_say_overdue, daemon=True)  # what hangs may hold the log's lock
    saying.start()
    saying.join(2)
    os._exit(5)


def _say_overdue() -> None:
    log.error("did not stop within %.0f s; ending now, what was not committed will be scored again", DRAIN_SECONDS)
    logging.shutdown()
