"""A worker process under control: which state it starts with, and what follows the changes while it runs."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import replace

from models.errors import RepositoryUnavailable
from schemas.control import State
from schemas.deployment import group_of
from schemas.errors import ArmUnknown, Explained
from schemas.vitals import Vitals
from streams import control
from streams.building import Builder, Built, Wanted
from streams.changeover import PASSING, Changeover
from streams.desired import Desired
from streams.options import Options
from streams.orders import FROM_STDIN
from streams.reports import ENDED, Reports
from streams.rollout import ways_back
from streams.worker import Worker

log = logging.getLogger(__name__)

BACK = 5  # states before the present one that a start tries where that one is refused


class Controlled:
    """What a process does about control besides scoring. name: of the deployment."""

    def __init__(self, name: str, options: Options, builder: Builder) -> None:
        self.name, self.kafka, self._builder = name, options.kafka, builder
        self._newest: State | None = None
        self._lock = threading.Lock()
        self._changeover: Changeover | None = None
        self._reports: Reports | None = None
        self._moved: Built | None = None
        self.refused: tuple[int, str] | None = None  # the state that the start could not build, and why
        self.awaited: tuple[int, str] | None = None  # the state that it could not fetch, and why: it is tried again
        self.removed = False  # control has the deployment no more: the process ends
        self._worker: Worker | None = None
        self._follower = Desired(options.kafka, name, self._changed)
        self._follower.start()

    def make_topics(self) -> None:
        """Make the topic in which slots say what they run: not before control is known to have the deployment."""
        control.TOPICS.ensure(self.kafka, control.TOPICS.status)

    def give_up(self, state: State, failure: Explained) -> None:
        """Say that nothing can run: the process ends."""
        slot = "standby" if self._builder.slot == FROM_STDIN else self._builder.slot
        self._reports = Reports(self.kafka, self.name, group_of(self.name, self._builder.arm), slot)
        self._reports.tell(wanted=state.revision, refused=state.revision, detail=str(failure), state=ENDED)
        self._reports.start()

    def attend(self, built: Built, worker: Worker, vitals: Callable[[], Vitals] | None = None) -> None:
        """Obey from here on with a worker that scores by this state. vitals: tells its load."""
        if self._reports is None:
            self._reports = Reports(self.kafka, self.name, built.site.group, self._builder.slot, vitals=vitals)
            self._reports.start()
        self._builder.keep(built)
        refused = self.refused[0] if self.refused else None
        wanted, detail = self.refused or self.awaited or (built.wanted.revision, "")
        self._reports.tell(
            revision=built.wanted.revision,
            wanted=wanted,
            arms=built.arms,
            state="paused" if built.wanted.paused else "running",
            refused=refused,
            detail=detail,
        )
        self._builder.keep(built)
        with self._lock:
            self._worker = worker
            self._changeover = Changeover(self._builder, built, worker, self._reports, self._move)
            if self.removed:
                worker.stop()
            if self._newest is not None and self._newest.revision != refused:
                self._changeover.want(self._newest)
        self._changeover.start()

    def moved(self) -> Built | None:
        """Return the state for which the worker ended, None where it ended for another reason."""
        if self._changeover is not None:
            self._changeover.close()
        moved, self._moved = self._moved, None
        if moved is not None:
            self.refused = self.awaited = None
        return moved

    def swapping(self) -> bool:
        """Say whether another state is being made ready, or waits until it can be."""
        status = self._reports.status if self._reports is not None else None
        return status is not None and status.wanted not in (status.revision, status.refused)

    def stale(self, built: Built) -> bool:
        """Say whether control asks for another state by now than the one that was built."""
        newest = self._newest
        known = {built.wanted.revision, *(each[0] for each in (self.refused, self.awaited) if each is not None)}
        return self.removed or (newest is not None and newest.revision not in known)

    def close(self) -> None:
        """End what follows control, and say that the slot has ended."""
        self._follower.close()
        if self._changeover is not None:
            self._changeover.close()
        if self._reports is not None:
            self._reports.close(ENDED if self._reports.status.state == ENDED else "stopped")

    def _changed(self, state: State | None) -> None:
        if state is None:
            self._remove()
            return
        log.info("control asks for revision %d", state.revision)
        with self._lock:
            self._newest = state
            if self._changeover is not None:
                self._changeover.want(state)

    def _remove(self) -> None:
        log.warning("the deployment was removed from control: this worker commits what it has in hand and ends")
        with self._lock:
            self.removed = True
            if self._reports is not None:
                self._reports.tell(detail="the deployment was removed from control")
            if self._worker is not None:
                self._worker.stop()
                self._worker.hasten()

    def _move(self, built: Built, worker: Worker) -> None:
        self._moved = built
        worker.stop()
        worker.hasten()


def first_of(controlled: Controlled, builder: Builder) -> Built:
    """Return the state to start with: what control asks for, else the last one before it that can run.

    One whose versions are neither in the cache nor in a repository that answers is not refused but tried again, while
    the one before scores, as it would have gone on in a worker that runs.
    Raises Refused where control has none, or none can run, RepositoryUnavailable where the cache has none of them, and
    ArmUnknown where the arm was taken away: that is no state to go back from.
    """
    name, state = controlled.name, control.state_of(control.read(controlled.kafka).states, controlled.name)
    controlled.make_topics()
    try:
        return builder.build(Wanted.of_state(state))
    except RepositoryUnavailable as error:
        failure: Explained = error
        log.error("revision %d of %s cannot be fetched: %s; looking for one in the cache", state.revision, name, error)
        controlled.awaited = (state.revision, str(error))
    except (*PASSING, ArmUnknown):
        raise
    except Explained as error:
        failure = error
        log.error("revision %d of %s is refused: %s; looking for one that can run", state.revision, name, error)
        controlled.refused = (state.revision, str(error))
    if (built := _earlier(controlled, builder, state)) is not None:
        return built
    if controlled.refused is not None:
        controlled.give_up(state, failure)
    raise failure


def _earlier(controlled: Controlled, builder: Builder, state: State) -> Built | None:
    """Return the last of the states before this one that can run, of those that nobody rolled back from."""
    for earlier in ways_back(state, control.states_of(controlled.kafka, controlled.name), BACK):
        try:
            built = builder.build(Wanted.of_state(replace(earlier, paused=state.paused)))
        except Explained as error:
            log.error("revision %d cannot run either: %s", earlier.revision, error)
            continue
        log.warning("revision %d scores instead of revision %d", earlier.revision, state.revision)
        return built
    return None
