"""Many deployments on one input topic, on a real Kafka: each reads all of it, and none disturbs another."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable

import pytest

from schemas.heads import read_lineage
from tests.places import place_of
from tests.rig import ROOT, Rig, account, encoder, sum_model

pytestmark = pytest.mark.timeout(300)
encode = encoder()
EVENTS = 8_000
LACKING = range(0, EVENTS, 10)  # events without `b`
EXACT = {"lost": 0, "duplicated": 0, "out_of_order": 0, "unknown": 0}


@pytest.fixture
def three(rig: Callable[..., Rig]) -> list[Rig]:
    """Deployments on the topic of the first: one, one with another model, one that takes no event without `b`."""
    found = [rig(), rig(), rig(missing={}, limits={"dead_letters_per_minute": 50})]
    found[0].add_model("twice", model=sum_model(scale=2.0))
    found[1].declared["arms"][0]["model"] = "twice@production"
    for number, each in enumerate(found):
        each.file = each.folder / f"deployment-{number}.yaml"
        each.declared["input"]["topic"] = each.events = found[0].events
        each.write()
    found[0].produce(
        encode({"id": number, "a": float(number), "b": None if number in LACKING else 0.5}) for number in range(EVENTS)
    )
    return found


def verified(rig: Rig) -> dict[str, int]:
    place = ["--bootstrap-servers", rig.servers, "--repository", str(rig.folder / "models")]
    done = subprocess.run(
        [sys.executable, "-m", "penstock.cli", "verify", "--deployment", str(rig.file), "--json", *place],
        cwd=rig.folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    found: dict[str, int] = json.loads(done.stdout)
    assert found["ok"], done.stdout
    return found


def test_each_deployment_scores_every_event_whatever_the_others_do(three: list[Rig]) -> None:
    """The second is killed again and again, the third is held back by its dead letters; the first sees none of it."""
    held = three[2].worker()
    held.wait_for("scoring is paused, nothing is lost")
    first = three[0].worker()
    for committed in (1_000, 3_000):
        killed = three[1].worker("--batch-events", "50")
        three[1].wait_committed(committed)
        killed.kill()
    last = three[1].worker()
    for each in three[:2]:
        each.wait_committed(EVENTS)
    assert three[2].committed() < EVENTS
    assert [worker.stop() for worker in (first, last)] == [0, 0]
    for each, model in zip(three[:2], ("sum", "twice"), strict=True):
        messages = each.read(each.inferences, EVENTS)
        expected = dict.fromkeys(range(4), EVENTS // 4)
        assert account([place_of(message.value() or b"") for message in messages], expected) == EXACT
        lineages = [read_lineage(message.value() or b"")[0] for message in messages]
        assert {(found.deployment, found.model, found.source_topic) for found in lineages} == {
            (each.name, model, three[0].events)
        }
        assert each.read(each.dead_letters, 0) == []
        assert verified(each)["inferences"] == EVENTS


def test_a_deployment_that_comes_later_reads_what_the_others_have_long_scored(three: list[Rig]) -> None:
    worker = three[0].worker()
    three[0].wait_committed(EVENTS)
    assert worker.stop() == 0
    before = three[0].committed(), len(three[0].read(three[0].inferences, EVENTS))
    three[2].declared["limits"] = {"dead_letters_per_minute": 0}
    three[2].write()
    later = three[2].worker()
    three[2].wait_committed(EVENTS)
    assert later.stop() == 0
    assert len(three[2].read(three[2].inferences, EVENTS - len(LACKING))) == EVENTS - len(LACKING)
    assert len(three[2].read(three[2].dead_letters, len(LACKING))) == len(LACKING)
    assert (three[0].committed(), len(three[0].read(three[0].inferences, EVENTS))) == before
    assert (verified(three[0])["dead_letters"], verified(three[2])["dead_letters"]) == (0, len(LACKING))
