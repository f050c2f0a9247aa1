"""Makes a worker do what control asks for: builds each new state beside what runs, then has the worker change over.

A state that cannot be built is refused and what runs goes on. One that reads or writes elsewhere, or under other
promises, needs new clients: then the worker ends in order and another one begins in the same process.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from models.errors import RepositoryUnavailable
from schemas.control import State
from schemas.errors import Explained, SourceUnavailable
from streams.building import Builder, Built, Wanted
from streams.reports import Reports
from streams.worker import Worker

log = logging.getLogger(__name__)

RETRY_SECONDS = (1.0, 2.0, 5.0, 10.0, 30.0)  # where a repository or a registry does not answer now
PASSING = (RepositoryUnavailable, SourceUnavailable)


class Obedience(threading.Thread):
    """Builds what control asks for, one state after the other, and offers it to the worker.

    running: what the worker scores with now. moved: called with a state that needs new clients.
    """

    def __init__(
        self,
        builder: Builder,
        running: Built,
        worker: Worker,
        reports: Reports,
        moved: Callable[[Built, Worker], None],
    ) -> None:
        super().__init__(name="obedience", daemon=True)
        self._builder, self._running, self._worker = builder, running, worker
        self._known = [running]  # whose models are loaded: what scores, and what came before
        self._reports, self._moved = reports, moved
        self._wanted: State | None = None
        self._news = threading.Condition()
        self._ended = False

    def want(self, state: State) -> None:
        """Take note of the newest state; from any thread."""
        with self._news:
            self._wanted = state
            self._news.notify_all()

    def run(self) -> None:
        """Obey until `close`."""
        tries = 0
        while (
            state := self._next(RETRY_SECONDS[min(tries - 1, len(RETRY_SECONDS) - 1)] if tries else None)
        ) is not None:
            self._reports.tell(wanted=state.revision)
            try:
                tries = tries + 1 if self._obey(state) else 0
            except Exception:  # whatever is wrong with a state, the worker goes on with the one it has
                log.exception("revision %d cannot be built", state.revision)
                tries = 0

    def close(self) -> None:
        """End after what is being built."""
        with self._news:
            self._ended = True
            self._news.notify_all()
        self.join(5)

    def _next(self, again_after: float | None) -> State | None:
        """Return the next state; the same again after so many seconds, where it could not be built for a while."""
        with self._news:
            last = self._wanted if again_after is not None else None
            self._news.wait_for(
                lambda: self._ended or (self._wanted is not None and self._wanted is not last), again_after
            )
            if self._ended:
                return None
            state = self._wanted
            if again_after is None:
                self._wanted = None
            return state

    def _obey(self, state: State) -> bool:
        """Build a state and offer it; True when it is to be tried again."""
        if state.revision == self._running.wanted.revision:
            return False
        failure: Explained | None = None
        try:
            built = self._builder.build(Wanted.of_state(state))
        except PASSING as error:
            log.error("revision %d cannot be built now: %s; revision %d goes on", state.revision, error, self._revision)
            self._reports.tell(detail=str(error))
            with self._news:
                self._wanted = self._wanted or state
            return True
        except Explained as error:
            failure = error
        if failure is not None:
            self._refuse(state, failure)
            return False
        if built.site != self._running.site:
            log.info("revision %d reads or writes elsewhere: new clients are made", state.revision)
            self._moved(built, self._worker)
            return False
        self._offer(built)
        return False

    @property
    def _revision(self) -> int:
        return self._running.wanted.revision

    def _offer(self, built: Built) -> None:
        self._worker.offer(built.plan)
        scoring = self._worker.plan  # perhaps not even the one that was offered last
        self._known = [each for each in self._known if each.plan is scoring or each is self._running] + [built]
        self._running = built
        self._builder.keep(*self._known)
        self._reports.tell(
            revision=built.wanted.revision,
            arms=built.arms,
            state="paused" if built.wanted.paused else "running",
            detail="",
            refused=None,
        )

    def _refuse(self, state: State, error: Explained) -> None:
        log.error("revision %d is refused: %s; revision %d goes on", state.revision, error, self._revision)
        self._reports.tell(refused=state.revision, detail=str(error))
