"""Runs one scenario: faults at their times, then an orderly end, then the judgement."""

from __future__ import annotations

import heapq
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from tests.chaos import timing, verifier
from tests.chaos.cluster import Cluster
from tests.chaos.faults import KINDS, ONE_AT_A_TIME
from tests.chaos.reader import read_all
from tests.chaos.recompute import recompute
from tests.chaos.scenario import Expect, Fault, Scenario
from tests.chaos.slots import Grown, growth
from tests.chaos.stand import Stand
from tests.chaos.timing import Happened

QUIET_SECONDS = 3.0  # of load before the first fault counts as the beginning
MOVING_SECONDS = 2.0  # after the recovery of a slot's partitions, in which a rebalance may still concern the others
AFTER_SECONDS = 25.0  # how long after a fault its slot's recovery is looked for, if no other fault comes
READ_SECONDS, READ_SLOW = 180.0, 20_000  # what reading all results may take, and results a second of many
LAST_SECONDS = 20.0  # what the end of a control that never comes to an end is waited for


@dataclass(slots=True)
class Outcome:
    """What a run showed."""

    scenario: Scenario
    findings: verifier.Findings
    happened: list[Happened]
    seconds: float = 0.0
    settled: bool = True
    readers_agree: bool = True
    drain: float = 0.0
    stuck: float = 0.0
    longest: float = 0.0
    calm: tuple[float, float, float] = (0.0, 0.0, 0.0)  # p50, p95, p99 in seconds
    recoveries: list[float] = field(default_factory=list)
    elsewhere: float = float("nan")
    held: float = float("nan")
    drained: list[timing.Drained] = field(default_factory=list)
    rate: float = 0.0
    lives: int = 0
    restarts: int = 0
    killed: int = 0
    killed_at_work: int = 0
    missing: str = ""
    unsaid: list[str] = field(default_factory=list)
    reasons: dict[str, int] = field(default_factory=dict)
    versions: dict[str, int] = field(default_factory=dict)
    exits: list[str] = field(default_factory=list)
    failed_sends: list[str] = field(default_factory=list)
    lost_counted: int = 0
    grown: Grown = field(default_factory=Grown)
    recomputed: str = ""
    recomputed_wrong: int = 0
    problems: list[str] = field(default_factory=list)
    told: list[str] = field(default_factory=list)  # of a run of the monitor, what it showed

    @property
    def passed(self) -> bool:
        return not self.problems


def run(scenario: Scenario, cluster: Cluster, folder: Path, say: Callable[[str], None] = lambda text: None) -> Outcome:
    """Run a scenario on a started cluster; `say` hears what happens. Leaves nothing behind but files in `folder`."""
    folder.mkdir(parents=True)
    stand = Stand(scenario, cluster, folder)
    began = time.monotonic()
    try:
        stand.begin()
        happened = _hurt(stand, scenario, say)
        outcome = _finish(stand, scenario, happened, say)
    finally:
        stand.close()
    outcome.seconds = time.monotonic() - began
    outcome.problems = problems(outcome, scenario.expect)
    return outcome


# ---- during the load


def _hurt(stand: Stand, scenario: Scenario, say: Callable[[str], None]) -> list[Happened]:
    """Let the faults happen at their times, each on a thread of its own: one that takes long delays no other."""
    start = time.monotonic()
    queue = [(fault.at, number, fault) for number, fault in enumerate(scenario.faults)]
    heapq.heapify(queue)
    happened: list[Happened] = []
    threads: list[threading.Thread] = []
    while queue or stand.load.is_alive():
        if not queue and not any(thread.is_alive() for thread in threads):
            stand.load.release()
        if queue and time.monotonic() - start >= queue[0][0]:
            fault = heapq.heappop(queue)[2]
            entry = Happened(time.time(), fault.kind, str(fault), partitions=_hit(stand, fault))
            happened.append(entry)
            say(f"{time.monotonic() - start:7.1f} s  {fault}")
            threads.append(threading.Thread(target=_apply, args=(stand, fault, entry), daemon=True))
            threads[-1].start()
        time.sleep(0.02)
        stand.slots.sample()
        for each in (stand.reader, stand.load):
            if each.failure is not None:
                raise each.failure
    for thread in threads:
        thread.join(180)
    return happened


def _hit(stand: Stand, fault: Fault) -> tuple[int, ...]:
    """Return the partitions of the slot that a fault hits."""
    slot = fault.arguments.get("slot")
    return stand.slots.partitions(slot) if slot in stand.slots.names else ()


def _apply(stand: Stand, fault: Fault, entry: Happened) -> None:
    """Let a fault happen and end. Of three brokers one may be away at a time: more is not what they are built for."""
    alone = stand.cluster.one_away if fault.kind in ONE_AT_A_TIME else nullcontext()
    with alone:
        entry.began = time.time()
        _begin_and_end(stand, fault, entry)


def _begin_and_end(stand: Stand, fault: Fault, entry: Happened) -> None:
    try:
        undo = KINDS[fault.kind](stand, **fault.arguments)
        if undo is not None:
            time.sleep(fault.lasts)
            undo()
    except Exception as error:
        entry.error = f"{type(error).__name__}: {error}"
    entry.ended = max(time.time(), entry.began + (fault.arguments.get("again") or 0.0))


# ---- after the load


def _finish(stand: Stand, scenario: Scenario, happened: list[Happened], say: Callable[[str], None]) -> Outcome:
    ended = time.time()
    say(f"          {stand.load.ledger.count:,} events acknowledged, waiting for their results")
    settled = stand.wait_settled(scenario.expect.drain if scenario.expect.complete else LAST_SECONDS)
    drained = time.time() if settled else float("nan")
    counted = stand.lost_counted() if scenario.expect.gone else 0
    stand.slots.close()
    stand.reader.stop()
    live = stand.reader.results
    final = read_all(
        stand.cluster.servers,
        stand.rig.inferences,
        stand.rig.dead_letters,
        isolation=scenario.isolation,
        seconds=READ_SECONDS + len(live) / READ_SLOW,
    )
    findings = verifier.judge(
        stand.load.ledger.sequences,
        final,
        scenario.events,
        scales=stand.scales,
        low=stand.low,
        past=None if scenario.expect.complete else stand.committed(),
        same_partitions=not scenario.outputs and stand.load.partitions == scenario.partitions,
    )
    outcome = Outcome(scenario, findings, happened, settled=settled, drain=drained - ended)
    outcome.readers_agree = verifier.same(live, final)
    outcome.reasons, outcome.exits = dict(final.reasons), list(stand.slots.exits)
    outcome.failed_sends, outcome.lives = list(stand.load.failed), stand.slots.lives
    outcome.killed, outcome.killed_at_work = stand.slots.killed, stand.slots.killed_at_work
    outcome.missing = stand.load.missing()
    outcome.unsaid = [text for text in scenario.expect.said if text not in stand.logs()]
    outcome.lost_counted = counted
    outcome.restarts = stand.logs().count("starting over from the committed offsets")
    versions = final.column("version")
    outcome.versions = {name: int((versions == i).sum()) for i, name in enumerate(final.versions)}
    outcome.recomputed, outcome.recomputed_wrong = recompute(stand)
    outcome.grown = growth(stand.slots.samples)
    _measure(outcome, stand)
    return outcome


def _measure(outcome: Outcome, stand: Stand) -> None:
    """Work out how long events waited."""
    found, happened = timing.waits(stand.load.ledger, stand.reader.results), outcome.happened
    if not len(found.appended):
        return
    outcome.rate = len(found.appended) / max(1e-9, float(found.appended.max() - found.appended.min()))
    outcome.longest = float(found.seconds.max())
    outcome.stuck = timing.stuck(found, happened)
    steps = [(step.seconds, step.rate) for step in outcome.scenario.load]
    outcome.drained = timing.after_steps(found, stand.load.began, steps)
    quiet = timing.calm(found, happened).seconds
    outcome.calm = (timing.percentile(quiet, 50), timing.percentile(quiet, 95), timing.percentile(quiet, 99))
    others = []
    starts = [each.began for each in happened] + [float("inf")]
    for entry, following in zip(happened, starts[1:], strict=True):
        if not entry.partitions:
            continue
        until = min(following, entry.began + AFTER_SECONDS)
        if following - entry.began > QUIET_SECONDS:
            took = timing.recovery(found, entry, until)
            outcome.recoveries.append(took)
            meanwhile = min(until, entry.began + max(QUIET_SECONDS, took + MOVING_SECONDS))
            near = (found.appended > entry.began) & (found.appended < meanwhile)
            mine = [int(p) for p in entry.partitions]
            others.extend(found.where(near & ~np.isin(found.partition, mine)).seconds.tolist())
    if others:
        outcome.elsewhere, outcome.held = timing.percentile(np.array(others), 99), max(others)


# ---- against the expectation


def problems(outcome: Outcome, expect: Expect) -> list[str]:
    """Return what is not as expected. A control must show one of its own problems and fail for no other reason."""
    found = list(_found(outcome, expect))
    if not expect.broken:
        return [text for _, text in found]
    others = [text for kind, text in found if kind in ("fault", "exit", "unacknowledged", "empty")]
    if not any(kind in expect.broken for kind, _ in found):
        others.append(f"the control shows none of {', '.join(expect.broken)}: the verifier would not see them")
    return others


def _found(outcome: Outcome, expect: Expect) -> Iterator[tuple[str, str]]:
    """Yield every problem with its kind."""
    for name, count in outcome.findings.breakages.items():
        if count and name not in expect.tolerated:
            yield name, f"{name.replace('_', ' ')}: {count:,}"
    if not outcome.settled:
        yield "unfinished", f"not every event had a result {expect.drain:.0f} s after the load"
    if not outcome.readers_agree:
        yield "readers", "a reader that was there all the time and one that came after saw different results"
    if outcome.recomputed_wrong and not expect.tolerated:
        yield "recomputed", f"penstock verify: {outcome.recomputed}"
    if expect.gone and not 0 < outcome.findings.gone == outcome.lost_counted:
        yield "gone", f"retention took {outcome.findings.gone} events, the workers counted {outcome.lost_counted}"
    if not expect.gone and outcome.findings.gone:
        yield "gone", f"retention took {outcome.findings.gone} events"
    yield from _failed(outcome, expect)
    yield from _slow(outcome, expect)


def _failed(outcome: Outcome, expect: Expect) -> Iterator[tuple[str, str]]:
    for each in outcome.happened:
        if each.error:
            yield "fault", f"fault failed: {each.text}: {each.error}"
    for text in outcome.failed_sends[:3]:
        yield "unacknowledged", f"event not acknowledged: {text}"
    if outcome.missing:
        yield "empty", outcome.missing
    for text in outcome.exits:
        if not any(f"status {status}" in text for status in expect.exits):
            yield "exit", text
    for status in expect.exits:
        if not any(f"status {status}" in text for text in outcome.exits):
            yield "exit", f"no worker ended with status {status}"
    for text in outcome.unsaid:
        yield "unsaid", f"no worker said {text!r}"
    if len(outcome.versions) < expect.versions:
        yield "versions", f"{len(outcome.versions)} of {expect.versions} versions have scored"


def _slow(outcome: Outcome, expect: Expect) -> Iterator[tuple[str, str]]:
    limits = [
        ("stuck", "the longest wait beyond a fault's end", outcome.stuck, expect.stuck),
        ("recovery", "the longest recovery of partitions", _most(outcome.recoveries), expect.recovery),
        ("elsewhere", "the p99 of the other partitions meanwhile", outcome.elsewhere, expect.elsewhere),
        ("held", "the longest wait of the other partitions meanwhile", outcome.held, expect.held),
        ("p95", "the p95 away from faults", outcome.calm[1], expect.calm_p95),
        ("p95", "the p95 after a rise of the load", _most(d.p95 for d in outcome.drained), expect.step_p95),
        ("drain", "the time to drain a rise", _most(d.drain for d in outcome.drained), expect.step_drain),
        ("memory", "the growth of a worker's memory", outcome.grown.ratio, expect.growth),
        ("files", "the growth of a worker's open files", outcome.grown.files, expect.files),
        ("restarts", "clients made anew without a fault", float(outcome.restarts), expect.restarts),
    ]
    for kind, what, value, limit in limits:
        if limit is not None and not value <= limit:  # what was not seen passes no limit
            yield kind, f"{what} is {value:.2f}, the limit {limit:g}"


def _most(values: Iterable[float]) -> float:
    return max(values, default=float("nan"))
