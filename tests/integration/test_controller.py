"""The controller on a real Kafka: what it decides on which evidence, once, whoever dies."""

from __future__ import annotations

import random
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from functools import partial

import pytest

from penstock.controller.answering import answered
from schemas.chain import verify_chain
from tests.integration.controller_stand import Stand, acted, declared, put
from tests.integration.planes import a_plane

pytestmark = pytest.mark.timeout(300)
QUICK = {
    "steps": [5, 25, 100],
    "promotion": {"labels": 100, "seconds": 0, "act": "act"},
    "cool_down": 0,
    "changes_per_day": 1000,
}


@pytest.fixture
def stand(bootstrap_servers: str) -> Iterator[Stand]:
    with a_plane(bootstrap_servers) as plane:
        made = Stand(plane, dict(QUICK))
        yield made
        made.close()


def shares(stand: Stand, name: str = "d") -> list[tuple[str, float | None]]:
    return [(arm.name, arm.weight) for arm in stand.state(name).arms]


def test_a_candidate_that_is_better_goes_up_step_by_step_and_becomes_active(stand: Stand) -> None:
    stand.apply("d")
    stand.start(["d"])
    stand.tell("d", (200, 180))
    (step,) = stand.wait(1)
    assert shares(stand) == [("active", None), ("canary", 25.0)]
    assert (step.summary, step.told["before"], step.told["to"]) == ("canary 5 % -> 25 %", 5.0, 25.0)
    assert step.told["evidence"]["candidate"] == {"outcomes": 200, "mean": 0.9}

    for _ in range(40):
        stand.tell("d", (250, 230), (750, 600), revision=2)
    _, promotion = stand.wait(2)
    assert promotion.summary == "canary becomes active"
    assert shares(stand) == [("active", None)]
    assert stand.state("d").arms[0].version == "v2"
    decided, changed = stand.entries()[-2:]
    assert (decided.action, decided.subject_kind) == ("promote", "decision")
    assert (changed.action, changed.subject, changed.who) == ("promote", "d", "penstock controller")
    assert changed.why == promotion.told["why"]
    assert not verify_chain(stand.entries(), stand.plane.read().head, stand.plane.read().states.values())


def test_harm_takes_the_candidate_back(stand: Stand) -> None:
    stand.apply("d")
    stand.start(["d"])
    for _ in range(20):
        stand.tell("d", (50, 30))
    (back,) = stand.wait(1)
    assert back.told["why"] == "it is worse"
    assert shares(stand) == [("active", None)]


def test_what_is_proposed_waits_for_somebody(stand: Stand) -> None:
    stand.base["promotion"] = {**QUICK["promotion"], "act": "propose"}  # type: ignore[dict-item]
    stand.apply("d")
    stand.start(["d"])
    stand.tell("d", (200, 160))
    (asked,) = stand.wait(1, became="waits")
    time.sleep(2)
    assert len(shares(stand)) == 2
    assert shares(stand)[1] == ("canary", 5.0)
    stand.plane.change(partial(answered, action="approve", number=asked.number), whole=True)
    (done,) = stand.wait(1)
    assert done.number == asked.number
    assert done.by == "Ada: to see"
    assert shares(stand)[1] == ("canary", 25.0)

    stand.tell("d", (200, 160), revision=2)
    stand.tell("d", (2000, 1900), (2000, 1600), revision=2)
    (asked,) = stand.wait(1, became="waits")
    stand.plane.change(partial(answered, action="veto", number=asked.number), whole=True)
    stand.tell("d", (2000, 1900), (2000, 1600), revision=2)
    time.sleep(3)
    assert [known.became for known in stand.decisions()] == ["done", "vetoed"]


def test_two_controllers_decide_once(stand: Stand) -> None:
    names = [f"d{each}" for each in range(4)]
    stand.apply(*names)
    stand.start(names)
    stand.start(names)
    for name in names:
        stand.tell(name, (200, 180))
    stand.wait(4)
    time.sleep(3)
    assert Counter(name for name, _ in acted(stand.entries())) == dict.fromkeys(names, 1)


def test_somebody_elses_change_voids_what_was_decided_on_the_state_before(stand: Stand) -> None:
    stand.base["promotion"] = {**QUICK["promotion"], "act": "propose"}  # type: ignore[dict-item]
    stand.apply("d")
    stand.start(["d"])
    stand.tell("d", (200, 160))
    (asked,) = stand.wait(1, became="waits")
    stand.plane.change(partial(put, deployment=declared("d", 10.0)), whole=True)
    assert stand.decisions()[0].became == "void"
    with pytest.raises(Exception, match="does not wait for an answer"):
        stand.plane.change(partial(answered, action="approve", number=asked.number), whole=True)


def run_and_kill(stand: Stand, names: list[str], kills: int, *flags: str) -> None:
    """Give evidence about all deployments while controllers die in and behind their transactions, and in between."""
    draw = random.Random(5)
    process: subprocess.Popen[str] | None = None
    for number in range(kills + 1):
        last = number == kills
        die = (
            [] if last else draw.choice(([f"--die-in={draw.randint(1, 3)}"], [f"--die-after={draw.randint(1, 3)}"], []))
        )
        process = stand.start(names, *die, *flags)
        for name in names:
            stand.tell(name, (200, draw.choice((160, 190))))
        if last:
            break
        time.sleep(draw.uniform(0.5, 4))
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert process is not None
    time.sleep(8)


def doubled(stand: Stand) -> list[str]:
    """Return the decisions that made more than one state, or were told twice."""
    entries = stand.entries()
    told = Counter(entry.subject for entry in entries if entry.subject_kind == "decision")
    return [decision for decision, count in (told + Counter(d for _, d in acted(entries))).items() if count > 2]


def test_controllers_that_are_killed_lose_and_double_nothing(stand: Stand) -> None:
    names = [f"d{each}" for each in range(6)]
    stand.base["steps"] = [5, 10, 15, 20, 25, 30, 35, 40, 45, 50, 100]
    stand.base["promotion"] = {"labels": 0, "seconds": 0, "act": "act"}
    stand.apply(*names)
    run_and_kill(stand, names, 6)
    entries = stand.entries()
    assert doubled(stand) == []
    for name in names:
        states = [entry for entry in entries if entry.subject == name and entry.changes_state]
        decided = [known for known in stand.decisions(name) if known.became == "done"]
        assert len(states) == 1 + len(decided)
        assert [known.told["revision"] for known in decided] == list(range(1, len(states)))
    assert not verify_chain(entries, stand.plane.read().head, stand.plane.read().states.values())


def proposed(stand: Stand) -> list[str]:
    return [entry.action for entry in stand.entries() if entry.subject_kind == "decision"]


@pytest.mark.parametrize(("flags", "told"), [((), 1), (("--careless",), 2)], ids=["ours", "one that does not look"])
def test_a_proposal_is_told_once_though_the_controller_dies_behind_it(
    stand: Stand, flags: tuple[str, ...], told: int
) -> None:
    stand.base["promotion"] = {**QUICK["promotion"], "act": "propose"}  # type: ignore[dict-item]
    stand.apply("d")
    process = stand.start(["d"], "--die-after=1", *flags)
    stand.tell("d", (200, 180))
    process.wait(60)
    stand.start(["d"], *flags)
    deadline = time.monotonic() + 60
    while told > 1 and len(proposed(stand)) < told and time.monotonic() < deadline:
        time.sleep(0.5)
    time.sleep(6)
    assert proposed(stand) == ["propose"] * told
