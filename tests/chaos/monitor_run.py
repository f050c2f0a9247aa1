"""The whole monitor under faults: the same input in several layouts, one of them hurt, and every alert compared."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.chaos.monitored import GROUP, Stage, Topic, kind_of
from tests.chaos.monitors import Monitors
from tests.chaos.scenario import Fault, Hurts
from tests.chaos.timing import Happened
from tests.chaos.world import STEPS, Layout, World
from tests.monitoring.traffic import Alerts

ONE, FOUR, TWELVE = Layout("one", 1, 1), Layout("four", 4, 3), Layout("twelve", 12, 3, monitors=3)
TWELVE_OF_ONE = Layout("twelve-of-one", 12, 1)
CALM = (ONE, TWELVE_OF_ONE, FOUR)
OF_PROFILES = ("feature", "output", "group")  # kinds of alerts; the others follow from samples and labels
FROZEN = 14.0  # seconds, more than a monitor's session
BROKER_AWAY = 3.0
PATIENCE = 150.0  # seconds that monitors have to come to the end
CONTROL = "--from-group-offsets"
Say = Callable[[str], None]


@dataclass
class Judged:
    """What a run showed."""

    events: int = 0
    lines: list[str] = field(default_factory=list)
    differences: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    happened: list[Happened] = field(default_factory=list)


@dataclass
class Ground:
    """What stages stand on. broker: kills the broker for some seconds; None where others use it too."""

    kafka: Mapping[str, str]
    topic: Topic
    folder: Path
    say: Say = lambda text: None
    broker: Callable[[float], None] | None = None


def plan(hurts: Hurts, slots: int) -> list[Fault]:
    """Return the faults in a random order, each so many seconds after the one before."""
    chance = random.Random(hurts.seed)
    faults = [Fault(0, kind, {"slot": str(chance.randrange(slots))}) for kind in ("kill",) * hurts.kills]
    faults += [Fault(0, "term", {"slot": str(chance.randrange(slots))}) for _ in range(hurts.terms)]
    for number in range(hurts.freezes):
        twin = {"twin": True} if number % 2 else {}
        faults.append(Fault(0, "freeze", {"slot": str(chance.randrange(slots)), **twin}, lasts=FROZEN))
    faults += [Fault(0, "kill_broker", lasts=BROKER_AWAY) for _ in range(hurts.brokers)]
    chance.shuffle(faults)
    times = (hurts.every * (number + 1) for number in range(len(faults)))
    return [Fault(at, each.kind, each.arguments, each.lasts) for at, each in zip(times, faults, strict=True)]


class Hurting(threading.Thread):
    """Lets faults happen, one after the other; a frozen process wakes up by itself while others are hurt."""

    def __init__(self, ground: Ground, monitors: Monitors, faults: list[Fault]) -> None:
        super().__init__(name="hurting", daemon=True)
        self._ground, self._monitors, self._faults = ground, monitors, faults
        self._frozen: list[threading.Thread] = []
        self.done, self.happened, self.failure = 0, list[Happened](), ""

    def run(self) -> None:
        before = 0.0
        try:
            for fault in self._faults:
                time.sleep(fault.at - before)
                before = fault.at
                self._ground.say(f"{fault.at:7.1f} s  {fault}")
                began = time.time()
                self._hurt(fault)
                self.happened.append(Happened(began, fault.kind, str(fault), time.time()))
                self.done += 1
            for thread in self._frozen:
                thread.join()
        except Exception as error:  # kept for the thread that judges
            self.failure = f"a fault did not happen: {type(error).__name__}: {error}"
        self.done = len(self._faults)

    def _hurt(self, fault: Fault) -> None:
        slot = fault.arguments.get("slot", "")
        if fault.kind == "kill":
            self._monitors.kill(slot)
        elif fault.kind == "term":
            self._monitors.term(slot)
        elif fault.kind == "freeze":
            more = (slot, fault.lasts, bool(fault.arguments.get("twin")))
            self._frozen.append(threading.Thread(target=self._monitors.freeze, args=more, daemon=True))
            self._frozen[-1].start()
        elif self._ground.broker is not None:
            self._ground.broker(fault.lasts)

    def pace(self, steps: int) -> None:
        """Wait until so many steps of the input may be there: it ends when the faults do."""
        while self.is_alive() and steps / STEPS > (self.done + 1) / (len(self._faults) + 1):
            time.sleep(0.05)


def calm(stage: Stage, ground: Ground) -> list[str]:
    """Let one monitor see a stage undisturbed; return what went wrong."""
    monitors = Monitors(stage.command, stage.folder)
    if stage.again is None:
        stage.feed()
    try:
        monitors.start(1)
        return _wait(stage, monitors, stage.done)
    finally:
        monitors.close()
        ground.say(f"{stage.layout.name}: done")


def hurt(stage: Stage, ground: Ground, hurts: Hurts, judged: Judged) -> None:
    """Let monitors see a stage under faults."""
    monitors = Monitors(lambda slot: stage.command(slot, *hurts.flags), stage.folder)
    monitors.start(stage.layout.monitors)
    hurting = Hurting(ground, monitors, plan(hurts, stage.layout.monitors))
    fed = iter(range(GROUP, STEPS + GROUP, GROUP))
    try:
        hurting.start()
        stage.feed(lambda: hurting.pace(next(fed)))
        hurting.join()
        end = stage.read_up if hurts.flags else stage.done  # a control that lost events is never done
        judged.problems += _wait(stage, monitors, end)
    finally:
        monitors.close()
    judged.happened, counts = hurting.happened, monitors.counts
    told = [f"{count} {what}" for what, count in sorted(counts.items())]
    judged.lines.append(f"monitors    {', '.join(told)}")
    judged.problems += [hurting.failure] if hurting.failure else []
    judged.problems += monitors.exits


def _wait(stage: Stage, monitors: Monitors, end: Callable[[], bool]) -> list[str]:
    deadline = time.monotonic() + PATIENCE
    while not end():
        if time.monotonic() > deadline:
            return [f"{stage.folder.name} did not come to its end in {PATIENCE:.0f} s:\n{monitors.log()}"]
        time.sleep(1.0)
    time.sleep(3 * stage.snapshot_seconds)  # what follows from the last of it is published with the next snapshot
    return []


def run(ground: Ground, hurts: Hurts, calm_layouts: Sequence[Layout] = CALM) -> Judged:
    """Run all layouts and the faults; return what differs. A control is compared with the fold and the truth only."""
    judged, world = Judged(), World(hurts.seed)
    judged.events = sum(map(len, world.events))
    topics, control = (ground.kafka, ground.topic), bool(hurts.flags)
    hit = Stage(TWELVE, world, *topics, ground.folder / "hurt", snapshot_seconds=4.0 if control else 0.5)
    stages = []
    for layout in () if control else calm_layouts:
        stages.append(Stage(layout, world, *topics, ground.folder / layout.name))
        judged.problems += calm(stages[-1], ground)
    if stages:
        stages.append(Stage(stages[-1].layout, world, *topics, ground.folder / "replayed", again=stages[-1]))
        judged.problems += calm(stages[-1], ground)
    stages.append(hit)
    hurt(hit, ground, hurts, judged)
    for stage in stages:
        name = stage.folder.name
        judged.differences += [f"{name}: {text}" for text in differences(stage, stages[0])]
        judged.lines.append(f"{name:11} {len(stage.alerts()[0])} alerts, {stage.joined()['pairs']:,} pairs")
    judged.problems += _against(judged.differences, control)
    return judged


def _against(found: Sequence[str], control: bool) -> list[str]:
    """Return what of the differences is a problem: any at all, or that a control shows none."""
    if not control:
        return list(found)
    return [] if found else [f"the control {CONTROL} shows no difference: the comparison would not see one"]


def differences(stage: Stage, first: Stage) -> Iterator[str]:
    """Yield how the alerts and pairs of a stage differ from another one's, from the fold's and from the truth."""
    alerts, twofold = stage.alerts()
    if twofold:
        yield f"{twofold} alerts were told in two ways"
    if lacking := _lacking(alerts):
        yield lacking
    profiled = {name: value for name, value in alerts.items() if kind_of(value) in OF_PROFILES}
    yield from _unlike(profiled, stage.of_profiles(), "the fold's")
    if stage is not first:
        yield from _unlike(alerts, first.alerts()[0], f"those of the layout {first.layout.name}")
    joined = stage.joined()
    for what, truth in stage.world.truth.items():
        if joined[what] != truth:
            yield f"{what} of the join are {joined[what]}, in truth {truth}"


def _lacking(alerts: Alerts) -> str:
    """Say what a comparison would be worth nothing without."""
    counts = Counter((kind_of(value) in OF_PROFILES, state.split(",")[0]) for (_, state), value in alerts.items())
    wanted = [(profiled, state) for profiled in (False, True) for state in ("opened", "closed")]
    return "" if all(counts[each] for each in wanted) else f"too few kinds of alerts to compare: {dict(counts)}"


def _unlike(found: Alerts, expected: Alerts, whose: str) -> Iterator[str]:
    lost, more = expected.keys() - found.keys(), found.keys() - expected.keys()
    other = [name for name in found.keys() & expected.keys() if found[name] != expected[name]]
    if lost or more or other:
        names = [f"{key.decode()[:8]} {state}" for key, state in sorted([*lost, *more, *other])[:6]]
        yield (
            f"of {len(expected)} alerts {len(lost)} are lost, {len(more)} too many and {len(other)} not the same bytes "
            f"as {whose}: {', '.join(names)}"
        )
