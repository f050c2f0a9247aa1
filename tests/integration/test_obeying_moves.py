"""Workers of deployments that move to other topics, get arms beside the others, or are removed."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from tests.integration.obeying_stand import Stand, share
from tests.rig import Rig, account, encoder

pytestmark = pytest.mark.timeout(300)
encode = encoder()


@pytest.fixture
def stand(rig: Callable[..., Rig]) -> Stand:
    return Stand(rig())


def test_a_state_that_writes_elsewhere_is_moved_to(stand: Stand, topic: Callable[..., str]) -> None:
    stand.said("apply", str(stand.rig.file))
    worker = stand.worker()
    stand.rig.produce(encode({"id": i, "a": 1.0, "b": 1.0}) for i in range(40))
    stand.rig.wait_committed(40)
    elsewhere = topic(4, "elsewhere")
    stand.declare(output={"topic": elsewhere})
    stand.said("apply", str(stand.rig.file))
    worker.wait_for("new clients are made")
    stand.wait_status(2)
    stand.rig.produce(encode({"id": i, "a": 1.0, "b": 1.0}) for i in range(40))
    assert len(stand.rig.read(elsewhere, 40)) == 40
    stand.rig.wait_committed(80)
    assert worker.stop() == 0
    found = stand.verified()
    assert (found["inferences"], found["unjudged"]) == (40, 40)
    assert any("not called missing: an earlier state wrote to another topic" in note for note in found["notes"])


def test_an_arm_of_every_event_that_is_younger_needs_no_inference_of_what_was_before(stand: Stand) -> None:
    stand.said("apply", str(stand.rig.file))
    worker = stand.worker()
    stand.rig.produce(encode({"id": i, "a": 1.0, "b": 1.0}) for i in range(40))
    stand.rig.wait_committed(40)
    beside = {"role": "all", "name": "beside", "model": f"{stand.model}@candidate"}
    stand.declare(arms=[{"role": "active", "model": f"{stand.model}@production"}, beside])
    stand.said("apply", str(stand.rig.file))
    stand.wait_status(2)
    stand.rig.produce(encode({"id": i, "a": 1.0, "b": 1.0}) for i in range(8))
    stand.rig.wait_committed(48)
    assert worker.stop() == 0
    found = stand.verified()
    assert (found["inferences"], found["unjudged"], found["notes"]) == (48, 0, [])
    alone = found["beside"]["beside"]
    assert (alone["inferences"], alone["unjudged"], alone["missing"]) == (8, 40, 0)
    (note,) = alone["notes"]
    assert note == (
        "40 events without a record of beside are not called missing: the state that scored what came there does not "
        "have the arm, as the audit tells"
    )


def test_a_state_that_reads_elsewhere_is_moved_to_and_its_offsets_are_those_of_its_own_topic(
    stand: Stand, topic: Callable[..., str]
) -> None:
    stand.said("apply", str(stand.rig.file))
    worker = stand.worker()
    for turn in range(2):
        stand.rig.produce(encode({"id": i, "a": 1.0, "b": 1.0}) for i in range(40))
        stand.rig.wait_committed(40 + 40 * turn)
        if not turn:
            stand.said("model", "tag", stand.model, stand.second, "production")
            stand.wait_status(2)
    stand.rig.events = topic(4, "other")
    stand.declare(input={**stand.rig.declared["input"], "topic": stand.rig.events})
    stand.said("apply", str(stand.rig.file))
    worker.wait_for("new clients are made")
    stand.wait_status(3)
    stand.rig.produce(encode({"id": i, "a": 1.0, "b": 1.0}) for i in range(100))
    stand.rig.wait_committed(100)
    assert worker.stop() == 0
    assert stand.verified()["inferences"] == 100


def test_workers_of_a_deployment_that_is_removed_end_in_order_and_it_comes_back(stand: Stand) -> None:
    stand.said("apply", str(stand.rig.file))
    workers = [stand.worker("--slot", slot) for slot in "01"]
    for each in workers:
        each.wait_for("reads partitions")
    with stand.stream() as sent:
        stand.rig.wait_committed(200)
        stand.said("remove", stand.name, "--yes")
        assert [worker.process.wait(60) for worker in workers] == [0, 0]
        for each in workers:
            assert "the deployment was removed from control" in each.text()
            assert re.search("everything scored was committed|stopped before the last commit", each.text())
        assert stand.name not in stand.run("status").stdout
        refused = stand.worker()
        assert refused.process.wait(60) == 2
        assert f"control has no deployment {stand.name}" in refused.text()
        stand.verified()  # what it scored, by the states that the audit tells
        assert "revision 2" in stand.said("apply", str(stand.rig.file))
        again = stand.worker()
        again.wait_for("reads partitions")
    stand.rig.wait_committed(sent())
    assert again.process.poll() is None, "an old removal must not end it"
    assert again.stop() == 0
    found = stand.inferences(sent())
    assert {revision for revision, *_ in found} == {1, 2}
    counted = account([place for *_, place in found], share(sent()))
    assert (counted["lost"], counted["duplicated"]) == (0, 0)
    stand.verified()


def test_supervised_slots_of_a_deployment_that_is_removed_end_with_their_supervisor(stand: Stand) -> None:
    stand.said("apply", str(stand.rig.file))
    supervisor = stand.worker("--slots", "2")
    stand.rig.produce(encode({"id": i, "a": 1.0, "b": 1.0}) for i in range(40))
    stand.rig.wait_committed(40)
    stand.said("remove", stand.name, "--yes")
    assert supervisor.process.wait(60) == 0
    assert "no slot is left, for the deployment was removed from control" in supervisor.text()


def test_an_arm_of_every_event_comes_and_goes_and_has_just_the_events_of_its_revisions(stand: Stand) -> None:
    stand.said("apply", str(stand.rig.file))
    worker = stand.worker()
    worker.wait_for("reads partitions")
    alone, beside = stand.rig.declared["arms"], {"role": "all", "name": "beside", "model": f"{stand.model}@candidate"}
    with stand.stream() as sent:
        stand.rig.wait_committed(500)
        for revision, arms in ((2, [*alone, beside]), (3, alone), (4, [*alone, beside])):
            stand.declare(arms=arms)
            stand.said("apply", str(stand.rig.file))
            stand.wait_status(revision)
            seen = sent()
            stand.rig.wait_committed(seen)
    stand.rig.wait_committed(sent())
    assert "every event" in stand.said("status", stand.name)
    assert worker.stop() == 0
    found = stand.inferences(sent())
    revisions = {place: revision for revision, version, place in found if version == stand.first}
    assert len(revisions) == sent()
    both = [place for revision, version, place in found if version == stand.second]
    assert sorted(both) == sorted(place for place, revision in revisions.items() if revision in (2, 4))
    verified = stand.verified()
    assert (verified["inferences"], verified["beside"]["beside"]["inferences"]) == (sent(), len(both))
    assert len(both) < sent()
    stand.declare(arms=alone)
    stand.said("apply", str(stand.rig.file))
    assert stand.verified()["beside"]["beside"]["inferences"] == len(both)  # of a state that is gone
