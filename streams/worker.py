"""The loop: poll, score, publish, one batch after the other. It owns the offsets and decides what a failure means."""

from __future__ import annotations

import gc
import logging
import math
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial

import numpy as np

from schemas.errors import SourceUnavailable
from streams.batch import Batch, Records
from streams.budget import BATCH_EVENTS, Budget
from streams.errors import ProducerFenced, Rewind, StartOver
from streams.fencing import what_the_group_says
from streams.governor import Governor
from streams.metrics import WorkerMetrics
from streams.protocols import Sink, Source
from streams.publisher import Publisher
from streams.quarantine import REASON as QUARANTINED
from streams.safeguard import Safeguard
from streams.scorer import Scored
from streams.sizing import Sizing
from streams.trim import Trimmer
from streams.work import Plan, Work

log = logging.getLogger(__name__)

IDLE_SECONDS = 0.25  # how long a poll waits for the first message
TICK_SECONDS = 1.0  # how often gauges and progress are refreshed
QUIET_TICKS = 3
UNREADY_FAILURES = 3  # so many in a row without a commit between are no passing trouble
BATCH_BYTES = 32 << 20  # of a batch's values and keys: bounds memory when events are large
RETRY_SECONDS = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0)


class Worker:
    """One slot of one arm of a deployment.

    connect: makes a source and a sink, the source calling `revoked` before partitions leave. plan: how it scores until
    another one is offered. guard: what it does about events that may kill it. governor: keeps to quotas. alive: called
    with every turn of the loop, waiting or not. batch_events: the largest batch. clock: seconds since 1970.
    """

    def __init__(
        self,
        connect: Callable[[Callable[[], None]], tuple[Source, Sink]],
        plan: Plan,
        metrics: WorkerMetrics,
        *,
        guard: Safeguard | None = None,
        governor: Governor | None = None,
        alive: Callable[[], None] = lambda: None,
        batch_events: int = BATCH_EVENTS,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._connect, self.plan, self._offered = connect, plan, plan
        self._metrics, self._guard = metrics, guard or Safeguard(plan.composer.route.source)
        self._governor = governor or Governor()
        self._governor.follow(plan)
        self._alive, self._clock = alive, clock
        self._sizing = Sizing(batch_events, plan.first_events)
        plan.haste.calm()  # another worker of this process may have ended in a hurry
        # plain flags: a signal handler that sets an Event deadlocks when it interrupts the holder of the Event's lock
        self._stopping = self._resumed = False
        self._ticked = 0.0
        self._quiet: dict[int, int] = {}  # ticks since a partition had events
        self._undecided: deque[int] = deque()  # dead letters that count, of each batch whose commit is not decided
        self._failures = self._calm = 0  # failures in a row, and ticks since there was anything to score
        self.whole = True  # False: stopping came before the commit of the last batch
        self.outgrown: int | None = None  # bytes that it had when it ended because of its quota
        self._trim = Trimmer()
        # it has partitions or has joined a group that has none for it, holds nothing back, and does not fail in a row
        self.ready = False

    def stop(self) -> None:
        """Ask the loop to end after the batch at hand; may be called from a signal handler."""
        self._stopping = True

    def offer(self, plan: Plan) -> None:
        """Score by another plan from the next batch on; may be called from any thread. `plan` tells when it is so.

        The batch in hand is given up where a model takes long over it.
        """
        self._offered = plan
        if plan is not self.plan:
            self.hasten()

    def hasten(self) -> None:
        """Give the batch in hand up where a model takes long over it; may be called from any thread."""
        self.plan.haste.hasten()

    def resume(self) -> None:
        """Go on although the limit on dead letters was reached; may be called from a signal handler."""
        self._resumed = True

    def run(self) -> None:
        """Score until `stop`. Raises Fenced or Refused when this slot must end."""
        while not self._stopping:
            self._alive()
            why: str | None = None
            try:
                self._session()
            except StartOver as error:
                why = str(error)
            if why is None:
                return
            if self._stopping:
                log.warning("%s; it will be scored by whoever reads these partitions next", why)
                self.whole = False
                return
            seconds = RETRY_SECONDS[min(self._failures, len(RETRY_SECONDS) - 1)]
            log.warning("%s; starting over from the committed offsets in %s s", why, seconds)
            self._failed("start_over")
            gc.collect()  # clients that ended and their callbacks name each other, and keep threads and files
            self._rest(seconds)

    def _failed(self, cause: str) -> None:
        self._metrics.restarted(cause)
        self._failures += 1
        self._sizing.failed()

    def _rest(self, seconds: float) -> None:
        """Sleep, but not much longer than until `stop`."""
        deadline = time.monotonic() + seconds
        while not self._stopping and (left := deadline - time.monotonic()) > 0:
            time.sleep(min(left, 0.1))

    # ---- one life of the clients

    def _session(self) -> None:
        publisher: Publisher | None = None

        def revoked() -> None:
            if publisher is not None:
                publisher.join()
            self._forget()

        source, sink = self._connect(revoked)
        failure: BaseException | None = None
        try:
            sink.begin()
            source.begin()
            publisher = Publisher()
            self._loop(source, sink, publisher)
        except BaseException as error:
            failure = error
        if isinstance(failure, ProducerFenced):  # out here, as all that follows: see streams/clients.py
            failure = what_the_group_says(source.hold) or failure
        self.ready = False
        self._forget()
        self._guard.forget()
        if publisher is not None:
            publisher.close()
        source.close(leave=self._stopping and self.outgrown is None)  # who outgrew its quota is back at once
        sink.close()
        if failure is not None:
            raise failure

    def _loop(self, source: Source, sink: Sink, publisher: Publisher) -> None:
        while not self._stopping:
            rewound: str | None = None
            try:
                self._change(publisher)
                if self.plan.paused:
                    self._pause(source)
                else:
                    self._step(source, sink, publisher)
            except Rewind as error:
                rewound = str(error)
            if rewound is not None:
                self._rewound(source, publisher, rewound)
        try:
            publisher.join()
        except Rewind as error:
            log.info("%s; it will be scored by whoever reads these partitions next", error)
            self.whole = False

    def _rewound(self, source: Source, publisher: Publisher, why: str) -> None:
        with suppress(Rewind):  # what is being committed must not be read again
            publisher.join()
        log.warning("%s; reading again from the committed offsets", why)
        self._failed("rewind")
        if self._failures > 1:
            self._rest(RETRY_SECONDS[min(self._failures, len(RETRY_SECONDS)) - 1])
        self._return(source)
        self._forget()
        self.whole = not self._stopping

    def _return(self, source: Source) -> None:
        """Read every partition again from its committed offset."""
        source.rewind()
        source.unpark()
        self._guard.forget()

    def _forget(self) -> None:
        """A batch in hand is given up: what it counted is not committed, and idle partitions must be seen anew."""
        for cause in ("schemas", "dead_letters"):
            self._metrics.held(cause, False)
        self._quiet.clear()
        self.plan.limit.refund(sum(list(self._undecided)))
        self._undecided.clear()
        self.plan.composer.forget()

    # ---- between two batches

    def _change(self, publisher: Publisher) -> None:
        """Take the plan that was offered last: what the one before scored is committed first."""
        if self._offered is self.plan:
            return
        publisher.join()
        before, offered = self.plan, self._offered  # now, for a newer one may have come
        self._metrics.broken_checks(before.scorer.broken_checks)
        if offered.scorer is not before.scorer:  # else it goes on counting
            self._metrics.changed(offered.models, offered.leaves, offered.row_seconds)
        self._metrics.held("paused", offered.paused)
        self._quiet.clear()
        self._sizing.follow(offered.first_events)
        self._governor.follow(offered)
        self.plan = offered
        offered.haste.calm()
        if self._offered is not offered:  # its hurry may have come before the calm
            offered.haste.hasten()
        log.info("scores by revision %d from here on%s", offered.revision, ": paused" if offered.paused else "")

    def _pause(self, source: Source) -> None:
        """Keep the group's membership and read nothing."""
        self._alive()
        self.ready = source.joined
        source.hold(IDLE_SECONDS)

    # ---- one batch

    def _step(self, source: Source, sink: Sink, publisher: Publisher) -> None:
        self._tick(source, sink, publisher)  # before the poll: what was read and not yet profiled is not progress
        if self._stopping or self._governor.rest(source, publisher.join, self._quiet.clear):
            return
        began, plan = time.perf_counter(), self.plan
        largest = self._sizing.events
        wanted = self._guard.limit(min(largest, plan.budget.events) if plan.budget else largest, source)
        most = self._governor.most(wanted)
        batch = source.poll(most, IDLE_SECONDS, plan.budget.wait if plan.budget else 0.0)
        taken = time.perf_counter()
        if batch is not None and self._guard.too_large(batch):
            publisher.join()
            self._return(source)
            return
        self._governor.took(len(batch) if batch is not None else 0)
        whole = batch is not None and len(batch) >= most
        batch = batch and self._guard.admit(source, batch)
        if batch is None:
            publisher.join()
            self._governor.pulse.idle()
            return
        self._sizing.scores(len(batch))
        self._calm = 0
        self._metrics.stage("poll", time.perf_counter() - began)
        scored = self._score(source, batch)
        self._sizing.scored(len(batch), scored.seconds.get("score", 0.0))
        work = self._work(batch, scored)
        letters = sum(work.reasons.values()) - work.reasons.get(QUARANTINED, 0)  # somebody asked for those
        if letters and not plan.limit.allows(letters):
            publisher.join()
            self._hold_letters(source, work, letters)
        plan.limit.spend(letters)
        self._undecided.append(letters)
        publisher.submit(partial(self._publish, source, sink, work, taken, whole))
        if not whole:
            publisher.join()
        elif most == wanted:  # a backlog: commit this batch beside the next, and try no more before it went well
            seconds = math.inf if self._failures else time.perf_counter() - taken
            self._sizing.more(seconds, batch.fitting(BATCH_BYTES))
        self._governor.pulse.batch(len(batch), time.perf_counter() - (began if whole else taken))

    def _score(self, source: Source, batch: Batch) -> Scored:
        attempt = 0
        while True:
            try:
                scored = self._guard.score(self.plan.scorer, batch)
            except SourceUnavailable as error:
                if attempt == 0:
                    log.error("%s; %d events wait, nothing is lost", error, len(batch))
                self._hold(source, "schemas", RETRY_SECONDS[min(attempt, len(RETRY_SECONDS) - 1)])
                attempt += 1
                continue
            if attempt:
                log.info("the writers' schemas can be read again; going on")
                self._metrics.held("schemas", False)
                self.ready = True
            return scored

    def _work(self, batch: Batch, scored: Scored) -> Work:
        work = self.plan.composer.work(batch, scored)
        if work.inferences:
            self._quiet.update(dict.fromkeys(batch.positions, 0))
        for stage, seconds in scored.seconds.items():
            self._metrics.stage(stage, seconds)
        self._metrics.stage("profile", work.seconds)
        return work

    def _publish(self, source: Source, sink: Sink, work: Work, taken: float, whole: bool) -> None:
        """Publish and count; on the publisher's thread. taken: when it was read. whole: it was as large as allowed."""
        began = time.perf_counter()
        sink.publish(work.records, work.batch.positions)
        source.committed(work.batch.positions)
        if self._undecided:
            self._undecided.popleft()
        self._failures = 0
        self._metrics.published(work, time.perf_counter() - began, self._clock())
        if self.plan.budget is not None:
            self._keep(self.plan.budget, work.batch, time.perf_counter() - taken, whole)

    def _keep(self, budget: Budget, batch: Batch, seconds: float, whole: bool) -> None:
        """Count what came too late, plan the next batches, and say when the budget is not met."""
        times = batch.timestamps()
        ages = self._clock() - times[times >= 0] / 1000
        late = int((ages > budget.latency).sum())
        self._metrics.late.inc(late)
        age = float(np.percentile(ages, 95)) if len(ages) else seconds
        said = budget.committed(len(batch), late, age, seconds, whole)
        if said is not None:
            log.log(logging.INFO if budget.met else logging.WARNING, "%s", said)

    # ---- holding back

    def _hold_letters(self, source: Source, work: Work, letters: int) -> None:
        log.error(
            "%d more dead letters (%s) would break the limit of a minute; scoring is paused, nothing is lost. "
            "Fix the deployment and restart, or send SIGUSR1 to go on",
            letters,
            ", ".join(f"{reason}: {count}" for reason, count in work.reasons.items()),
        )
        self._resumed = False
        while not self._resumed:
            self._hold(source, "dead_letters", 0.5)
        log.warning("going on although the limit on dead letters was reached")
        self.plan.limit.reset()
        self._metrics.held("dead_letters", False)
        self.ready = True

    def _hold(self, source: Source, cause: str, seconds: float) -> None:
        """Keep the group's membership while a batch waits; it is given up when its partitions leave, or for a plan."""
        self._alive()
        self._metrics.held(cause, True)
        self.ready = False
        if not source.hold(seconds):
            raise Rewind("partitions were taken away while a batch was held back")
        if self._stopping:
            raise Rewind("stopping while a batch was held back")
        if self._offered is not self.plan:
            raise Rewind("another revision is there for a batch that was held back")

    # ---- beside the batches

    def _tick(self, source: Source, sink: Sink, publisher: Publisher) -> None:
        now = time.monotonic()
        if now - self._ticked < TICK_SECONDS:
            return
        self._ticked = now
        self._alive()
        lags = source.lags()
        if source.joined:
            self._guard.joined()
            self._calm += 1
        if self._calm > QUIET_TICKS:  # what failed was decided by others: this slot waits for events
            self._failures = 0
        self.ready = source.joined and self._failures < UNREADY_FAILURES
        self._metrics.partitions.set(len(source.assigned()))
        self._metrics.lag.set(sum(lags.values()))
        self._metrics.broken_checks(self.plan.scorer.broken_checks)
        for arm, broken in self.plan.scorer.circuits.items():
            self._metrics.circuit(arm, broken)
        self._trim()
        self._metrics.held("quota", self._governor.throttled())
        if (outgrown := self._governor.outgrown(publisher.join)) is not None:
            self.outgrown, self._stopping = outgrown, True
        self._tick_guard(source)
        idle = [p for p, lag in lags.items() if p not in self._guard.parked and self._is_idle(p, lag)]
        if idle and (records := self.plan.composer.progress(idle)) is not None:
            publisher.join()
            known = source.positions()  # all before is decided now: nothing is in hand
            publisher.submit(partial(self._report, source, sink, records, {p: known[p] for p in idle}))

    def _report(self, source: Source, sink: Sink, records: Records, positions: Mapping[int, int]) -> None:
        """Publish progress with the offsets that it speaks of: who lost the partitions is refused, as with a batch."""
        sink.publish([records], positions)
        source.committed(positions)

    def _tick_guard(self, source: Source) -> None:
        resumed, self._resumed = self._resumed, False
        self._guard.tick(source, resumed)
        self._metrics.held("crash", not self._guard.parked.isdisjoint(source.assigned()))

    def _is_idle(self, partition: int, lag: int) -> bool:
        """Say whether a partition was read to its end a tick ago or more, and count the tick.

        Behind a transaction's marker a small lag stays for ever: there, several quiet ticks must do.
        """
        quiet = self._quiet.get(partition, 0)
        self._quiet[partition] = quiet + 1
        return quiet > (QUIET_TICKS if lag else 0)
