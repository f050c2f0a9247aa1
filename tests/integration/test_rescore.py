"""`penstock rescore` as a user types it, on a real Kafka: what it publishes, compares, leaves alone, and survives."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from schemas.heads import read_lineage
from tests.rig import ROOT, Rig, Worker, account, encoder

pytestmark = pytest.mark.timeout(300)
encode = encoder()
EVENTS, BAD = 400, 3
RANGE = ("--from", "2020-01-01", "--to", "now")


def event(number: int) -> bytes:
    return encode({"id": number, "a": float(number), "b": 0.5})


@pytest.fixture
def stand(rig: Callable[..., Rig]) -> Rig:
    """400 events that a worker scored, three that are junk, and a second version that says twice as much."""
    made = rig()
    made.produce([*map(event, range(EVENTS)), *[b"junk"] * BAD])
    score(made, EVENTS + BAD)
    add_candidate(made)
    return made


def add_candidate(rig: Rig) -> str:
    from tests.rig import sum_model

    return rig.add_model("sum", "candidate", model=sum_model(scale=2.0))


def score(rig: Rig, count: int) -> None:
    worker = rig.worker()
    rig.wait_committed(count)
    assert worker.stop() == 0


def words(rig: Rig, *more: str) -> list[str]:
    place = ["--bootstrap-servers", rig.servers, "--repository", str(rig.folder / "models")]
    return [str(rig.file), "--model", "sum@candidate", *place, *more]


def rescored(rig: Rig, *more: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "penstock.cli", "rescore", *words(rig, *more)],
        cwd=cwd or rig.folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def told(rig: Rig, *more: str) -> Any:
    done = rescored(rig, *more, "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)


def places(rig: Rig, topic: str, count: int) -> dict[str, int]:
    """How many events of `count`, spread over the partitions in turn, are lost or doubled in a topic."""
    from tests.places import place_of

    expected = {p: len(range(p, count, 4)) for p in range(4)}
    return account([place_of(message.value() or b"") for message in rig.read(topic, count)], expected)


EXACT = {"lost": 0, "duplicated": 0, "out_of_order": 0, "unknown": 0}


def test_another_version_scores_the_past_into_a_topic_of_its_own_and_is_compared(stand: Rig) -> None:
    before = stand.committed(), len(stand.read(stand.inferences, EVENTS)), len(stand.read(stand.dead_letters, BAD))
    found = told(stand, *RANGE)
    assert (found["done"], found["events"], found["inferences"]) == (True, EVENTS + BAD, EVENTS)
    assert found["reasons"] == {"bad_header": BAD}
    assert places(stand, found["output"], EVENTS) == EXACT
    for message in stand.read(found["output"], EVENTS)[:5]:
        lineage, _ = read_lineage(message.value() or b"")
        assert (lineage.arm, lineage.assigned, lineage.propensity, lineage.fallback) == ("rescore", "rescore", 1.0, "")
        assert (lineage.deployment, lineage.version) == (stand.name, found["version"])
        assert lineage.version != stand.version
    assert len(stand.read(found["dead_letters"], BAD)) == BAD
    after = stand.committed(), len(stand.read(stand.inferences, EVENTS)), len(stand.read(stand.dead_letters, BAD))
    assert after == before
    compared = found["comparison"]
    assert (compared["paired"], compared["only_now"], compared["only_then"], compared["twice"]) == (EVENTS, 0, 0, 0)
    (version,) = compared["versions"]
    assert (version["arm"], version["version"], version["paired"]) == ("active", stand.version, EVENTS)
    figures = version["outputs"]["score"]
    mean = sum(number + 0.5 for number in range(EVENTS)) / EVENTS  # twice as much is once more
    assert figures["mean_difference"] == pytest.approx(mean, rel=1e-6)
    assert (figures["correlation"], figures["max"]) == (pytest.approx(1.0), pytest.approx(EVENTS - 0.5))
    worst = compared["worst"][0]
    assert worst["key"] == f"k{EVENTS - 1}"
    assert worst["now"]["score"] == pytest.approx(2 * worst["then"]["score"])


def test_the_same_rescore_again_publishes_nothing_more_and_its_page_tells_the_difference(stand: Rig) -> None:
    first = told(stand, *RANGE, "--no-compare")
    assert first["comparison"] is None
    begin, end = first["options"].split()[1::2]
    again = rescored(stand, "--from", begin, "--to", end, "--worst", "2")
    assert again.returncode == 0, again.stderr
    assert places(stand, first["output"], EVENTS) == EXACT
    assert f"{EVENTS + BAD:,}  offsets were done by earlier runs" in again.stdout
    assert f"active sum@{stand.version}: {EVENTS:,} pairs" in again.stdout
    assert "score 399.5 -> 799  (active)" in again.stdout


def test_a_rescore_of_the_same_version_changes_nothing(stand: Rig) -> None:
    found = told(stand, *RANGE, "--model", "sum@production")
    figures = found["comparison"]["versions"][0]["outputs"]["score"]
    assert (figures["changed"], figures["max"], found["comparison"]["worst"]) == (0, 0.0, [])


def test_each_arm_is_compared_by_itself_wherever_keys_have_placed_its_inferences(rig: Callable[..., Rig]) -> None:
    canary = {"role": "canary", "model": "sum@candidate", "percent": 50}
    made = rig(outputs=3, arms=[{"role": "active", "model": "sum@production"}, canary])
    version = add_candidate(made)
    made.produce(map(event, range(EVENTS)))
    score(made, EVENTS)
    compared = told(made, "--from", "0:0,2:10", "--to", "0:100,2:60")["comparison"]
    assert (compared["paired"], compared["only_now"], compared["only_then"]) == (150, 0, 0)
    assert [each["arm"] for each in compared["versions"]] == ["active", "canary"]
    active, canary = compared["versions"]
    assert active["paired"] + canary["paired"] == 150
    assert min(active["paired"], canary["paired"]) > 20
    assert (canary["version"], canary["outputs"]["score"]["changed"]) == (version, 0)
    assert active["outputs"]["score"]["changed"] == active["paired"]


def test_only_the_range_that_was_asked_for_is_scored(stand: Rig) -> None:
    found = told(stand, "--from", "0:5,2:0", "--to", "0:15,2:3")
    assert (found["events"], found["ranges"]) == (13, [f"{stand.events}/0@5-14", f"{stand.events}/2@0-2"])
    assert found["comparison"]["paired"] == 13
    others = told(stand, "--from", "0:15", "--to", "0:20")
    assert others["output"] != found["output"]  # another range never lands in the same topic
    assert (others["events"], others["comparison"]["paired"]) == (5, 5)


def test_no_event_is_lost_or_doubled_when_a_rescore_is_killed_again_and_again(rig: Callable[..., Rig]) -> None:
    stand, count = rig(), 60_000
    add_candidate(stand)
    stand.produce(map(event, range(count)))
    high = ",".join(f"{p}:{count // 4}" for p in range(4))
    options = words(stand, "--from", "0:0,1:0,2:0,3:0", "--to", high, "--batch-events", "40")
    kills, position = 0, 0
    while kills < 3:
        run = Worker(options, stand.folder, stand.folder / f"rescore-{kills}.log", command=("penstock.cli", "rescore"))
        before = position
        while (position := committed(stand)) < before + 3_000:
            assert run.process.poll() is None, run.text()
            time.sleep(0.01)
        run.kill()
        kills += 1
    assert 0 < position < count
    found = told(stand, "--from", "0:0,1:0,2:0,3:0", "--to", high)
    assert 0 < found["earlier"] < count
    assert found["earlier"] + found["events"] == count
    assert places(stand, found["output"], count) == EXACT
    assert (found["comparison"]["only_now"], found["comparison"]["paired"]) == (count, 0)


def committed(rig: Rig) -> int:
    """How far the one rescore of a rig has got."""
    from confluent_kafka import Consumer

    admin = AdminClient({"bootstrap.servers": rig.servers})
    groups = [each.group_id for each in admin.list_consumer_groups(request_timeout=10).result().valid]
    mine = [each for each in groups if each.startswith(f"penstock.{rig.name}.rescore.")]
    if not mine:
        return 0
    consumer = Consumer({"bootstrap.servers": rig.servers, "group.id": mine[0]})
    found = consumer.committed([TopicPartition(rig.events, p) for p in range(4)], timeout=10)
    consumer.close()
    return sum(max(0, each.offset) for each in found)


def test_a_copy_in_the_topic_of_a_rescore_is_seen(stand: Rig) -> None:
    """The counts of the tests above can fail: a record that stands there twice is counted."""
    found = told(stand, *RANGE, "--no-compare")
    some = stand.read(found["output"], EVENTS)[0]
    producer = Producer({"bootstrap.servers": stand.servers})
    producer.produce(found["output"], some.value(), some.key(), some.partition() or 0)
    assert producer.flush(10) == 0
    assert places(stand, found["output"], EVENTS)["duplicated"] == 1
    begin, end = found["options"].split()[1::2]
    assert told(stand, "--from", begin, "--to", end)["comparison"]["twice"] == 1


def test_of_two_at_once_one_ends_and_nothing_is_doubled(rig: Callable[..., Rig], tmp_path: Path) -> None:
    """The second is on another machine, as far as the first can tell: it runs in another folder."""
    stand, count = rig(), 12_000
    add_candidate(stand)
    stand.produce(map(event, range(count)))
    high = ",".join(f"{p}:{count // 4}" for p in range(4))
    options = words(stand, "--from", "0:0,1:0,2:0,3:0", "--to", high, "--batch-events", "40", "--json")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    runs = [
        Worker(options, cwd, stand.folder / f"twin-{at}.log", command=("penstock.cli", "rescore"))
        for at, cwd in enumerate((stand.folder, elsewhere))
    ]
    ended = [run.process.wait(120) for run in runs]
    assert set(ended) <= {0, 3}, [run.text()[-2000:] for run in runs]
    assert 0 in ended
    found = told(stand, "--from", "0:0,1:0,2:0,3:0", "--to", high)
    assert (found["done"], found["events"]) == (True, 0)
    assert places(stand, found["output"], count) == EXACT


def test_a_stopped_rescore_says_how_to_go_on(rig: Callable[..., Rig]) -> None:
    stand, count = rig(), 24_000
    add_candidate(stand)
    stand.produce(map(event, range(count)))
    log = stand.folder / "stopped.log"
    run = Worker(words(stand, *RANGE, "--batch-events", "40"), stand.folder, log, command=("penstock.cli", "rescore"))
    while not committed(stand):
        assert run.process.poll() is None, run.text()
        time.sleep(0.01)
    assert run.stop() == 1
    assert "stopped before the end" in run.text()
    options = run.text().splitlines()[-1].split()
    found = told(stand, *options)
    assert found["earlier"] + found["events"] == count
    assert places(stand, found["output"], count) == EXACT


def test_events_that_retention_removed_are_refused_or_counted(stand: Rig) -> None:
    admin = AdminClient({"bootstrap.servers": stand.servers})
    for done in admin.delete_records([TopicPartition(stand.events, 1, 30)]).values():
        done.result()
    for begin in ("2020-01-01", "0:0,1:0,2:0,3:0"):
        refused = rescored(stand, "--from", begin, "--to", "now")
        assert refused.returncode == 2
        assert f"what is left: {stand.events}/1 from offset 30 on" in refused.stderr
        assert "--partial" in refused.stderr
    found = told(stand, "--from", "0:0,1:0,2:0,3:0", "--to", "now", "--partial")
    assert (found["lost"], found["events"]) == (30, EVENTS + BAD - 30)
    assert (found["comparison"]["paired"], found["comparison"]["only_then"]) == (EVENTS - 30, 30)


def test_a_deployment_under_control_is_rescored_by_its_name(rig: Callable[..., Rig]) -> None:
    stand = rig(output={"echo": ["id"]})
    stand.produce(map(event, range(40)))
    add_candidate(stand)
    place = {"PENSTOCK_BOOTSTRAP_SERVERS": stand.servers, "PENSTOCK_REPOSITORY": str(stand.folder / "models")}
    env = {**os.environ, "PYTHONPATH": str(ROOT), **place}
    command = [sys.executable, "-m", "penstock.cli"]
    applied = subprocess.run([*command, "apply", str(stand.file)], cwd=stand.folder, env=env, check=False)
    assert applied.returncode == 0
    more = ["rescore", stand.name, "--model", "sum@candidate", *RANGE]
    done = subprocess.run([*command, *more], cwd=stand.folder, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "under revision 1 of" in done.stdout
    assert "there is nothing to compare with" in done.stdout


def test_what_cannot_be_rescored_is_refused_with_what_to_change(stand: Rig) -> None:
    used = told(stand, "--from", "0:0", "--to", "0:5", "--no-compare")["output"]
    for more, text in [
        (("--from", "soon", "--to", "now"), "'soon' is neither a time nor offsets"),
        (("--from", "now", "--to", "now"), "has no events between these ends"),
        (("--from", "9:0", "--to", "now"), "has no partition 9"),
        ((*RANGE, "--output", stand.inferences), "whose readers must not see a rescore"),
        ((*RANGE, "--output", "penstock.audit"), "penstock.audit is a topic of deployment"),
        ((*RANGE, "--output", used), "but the brokers know nothing of how far this rescore got"),
        ((*RANGE, "--model", "sum@nobody"), "nobody"),
    ]:
        refused = rescored(stand, *more)
        assert (refused.returncode, text in refused.stderr) == (2, True), refused.stderr
        assert "Traceback" not in refused.stderr
