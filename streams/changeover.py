"""Makes a worker do what control asks for: builds each new state beside what runs, then has the worker change over.

A state that cannot be built is refused and what runs goes on. One that reads or writes elsewhere, or under other
promises, needs new clients: then the worker ends in order and another one begins in the same process.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import replace

from confluent_kafka import KafkaException

from models.errors import RepositoryUnavailable
from schemas.control import State
from schemas.errors import Explained, SourceUnavailable
from streams.building import Builder, Built, Wanted
from streams.errors import Unanswered
from streams.reports import Reports
from streams.worker import Worker

log = logging.getLogger(__name__)

RETRY_SECONDS = (1.0, 2.0, 5.0, 10.0, 30.0)  # where what is needed (see PASSING) is not there now
PASSING = (RepositoryUnavailable, SourceUnavailable, Unanswered, KafkaException, OSError)


class Changeover(threading.Thread):
    """Builds what control asks for, one state after the other, and offers it to the worker.

    running: what the worker scores with now. moved: called with a state that needs new clients; the last thing done.
    """

    def __init__(
        self,
        builder: Builder,
        running: Built,
        worker: Worker,
        reports: Reports,
        moved: Callable[[Built, Worker], None],
    ) -> None:
        super().__init__(name="changeover", daemon=True)
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
        again: State | None = None  # what could not be built for a while
        tries = 0
        while (state := self._next(again, RETRY_SECONDS[min(tries, len(RETRY_SECONDS) - 1)])) is not None:
            tries = tries + 1 if state is again else 0
            self._reports.tell(wanted=state.revision)
            again = state if self._obey(state) else None

    def close(self) -> None:
        """End after what is being built."""
        with self._news:
            self._ended = True
            self._news.notify_all()
        self.join(5)

    def _next(self, again: State | None, seconds: float) -> State | None:
        """Return the newest state as soon as there is one, else `again` after so many seconds; None at the end."""
        with self._news:
            self._news.wait_for(lambda: self._ended or self._wanted is not None, seconds if again is not None else None)
            if self._ended:
                return None
            state, self._wanted = self._wanted or again, None
            return state

    def _obey(self, state: State) -> bool:
        """Build a state and offer it; True when it is to be tried again."""
        failure: Exception | None = None
        try:
            wanted = Wanted.of_state(state)
            if wanted == self._running.wanted:  # not only its number: control may have been begun anew
                self._pause(state.paused)
                return False
            built = self._builder.build(wanted)
        except Exception as error:  # whatever is wrong with a state, the worker goes on with the one it has
            failure = error
        if isinstance(failure, PASSING):
            log.error("revision %d cannot be built now: %s; %s", state.revision, failure, self._goes_on)
            self._reports.tell(detail=str(failure))
        elif failure is not None:
            self._refuse(state, failure)
        elif built.site != self._running.site:
            log.info("revision %d reads or writes elsewhere: new clients are made", state.revision)
            self._ended = True  # another one obeys with the next worker, and this one must not touch what that runs
            self._moved(built, self._worker)
        else:
            self._offer(built)
            self._reports.tell(detail="", refused=None)
        if failure is not None:
            failure.__traceback__ = None  # it holds this frame, and so all that was loaded before it failed
            self._builder.keep(*self._known)
            self._pause(state.paused)
        return isinstance(failure, PASSING)

    @property
    def _goes_on(self) -> str:
        return f"revision {self._running.wanted.revision} goes on"

    def _offer(self, built: Built) -> None:
        """Have the worker score by a state. Loaded stays what it scores with, what it was offered since and may be
        taking now, and, for a way back, the last state that has other models.
        """
        self._worker.offer(built.plan)
        scoring, known = self._worker.plan, self._known
        since = next((at for at, each in enumerate(known) if each.plan is scoring), len(known) - 1)
        before = next((each for each in reversed(known) if each.arms != built.arms), None)
        self._known = [each for at, each in enumerate(known) if at >= since or each is before] + [built]
        self._running = built
        self._builder.keep(*self._known)
        self._reports.tell(
            revision=built.wanted.revision, arms=built.arms, state="paused" if built.plan.paused else "running"
        )

    def _pause(self, paused: bool) -> None:
        """Let what runs rest or go on as a state asks that cannot be built: a pause needs no model."""
        if paused != self._running.plan.paused:
            self._offer(replace(self._running, plan=replace(self._running.plan, paused=paused)))

    def _refuse(self, state: State, failure: Exception) -> None:
        told = str(failure)
        if not isinstance(failure, Explained):
            told = f"a defect of Penstock, which the log tells in full: {failure!r}"
        log.error(
            "revision %d is refused: %s; %s",
            state.revision,
            told,
            self._goes_on,
            exc_info=None if isinstance(failure, Explained) else failure,
        )
        self._reports.tell(refused=state.revision, detail=told)
