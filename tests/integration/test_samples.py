"""Samples on a real Kafka: exactly those of the committed inferences, through kill -9, of every arm and of a share."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

import pytest
from confluent_kafka import Message, Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from models.samples import Samples
from models.sampling import hashes, places, sampled
from schemas.heads import read_lineage, read_position
from tests.rig import Rig, Worker, encoder, read_committed, sum_model

pytestmark = pytest.mark.timeout(300)
encode = encoder()
LABEL = {"type": "record", "name": "Label", "fields": [{"name": "late", "type": "boolean"}]}
LABELS = {"topic": "labels", "schema": LABEL, "value": "late"}
Row = tuple[str, int, int, bytes]  # who scored, source partition and offset, key


def event(number: int) -> bytes:
    return encode({"id": number, "a": float(number), "b": 0.5})


def account(found: Iterable[Row], due: Iterable[Row]) -> dict[str, int]:
    """Return how many samples are missing, repeated, or of nothing that was committed."""
    counts, expected = Counter(found), set(due)
    return {
        "missing": len(expected - counts.keys()),
        "repeated": sum(count - 1 for count in counts.values()),
        "of_nothing": len(counts.keys() - expected),
    }


NOTHING_WRONG = {"missing": 0, "repeated": 0, "of_nothing": 0}


def rows(messages: Sequence[Message], partitions: int = 4) -> list[Row]:
    """Return every sampled row, each of which stands in the partition of its key."""
    found: list[Row] = []
    for message in messages:
        part = Samples.decode(message.value() or b"")
        assert set(places(hashes(part.keys), partitions).tolist()) == {message.partition()}
        sources = zip(part.partitions.tolist(), part.offsets.tolist(), part.keys, strict=True)
        found += [(part.maker.arm, *source) for source in sources]
    return found


def due(messages: Sequence[Message], share: float = 1.0) -> list[Row]:
    """Return what must be sampled of these inferences, whose keys are those of their events."""
    keyed = [message for message in messages if message.key() is not None]
    chosen = sampled(hashes([message.key() or b"" for message in keyed]), share).tolist()
    found: list[Row] = []
    for message, is_in in zip(keyed, chosen, strict=True):
        lineage, at = read_lineage(message.value() or b"")
        if is_in:
            found.append((lineage.arm, *read_position(message.value() or b"", at), message.key() or b""))
    return found


def samples_of(rig: Rig, count: int, partitions: int = 4) -> list[Message]:
    """Return all samples once they tell of at least so many rows, and what else there is."""
    deadline = time.monotonic() + 30
    while True:
        found = read_committed(rig.servers, f"{rig.name}.samples", 1)
        if len(rows(found, partitions)) >= count or time.monotonic() > deadline:
            return found


def test_samples_are_those_of_the_committed_inferences_whoever_died(rig: Callable[..., Rig]) -> None:
    share, events = 0.5, 24_000
    arms = [
        {"role": "active", "model": "sum@production"},
        {"role": "canary", "model": "twice@production", "percent": 30},
        {"role": "all", "name": "thrice", "model": "thrice@production"},
    ]
    stand = rig(arms=arms, labels={**LABELS, "share": share})
    stand.add_model("twice", model=sum_model(scale=2.0))
    stand.add_model("thrice", model=sum_model(scale=3.0))
    stand.produce(event(number) for number in range(events - 400))
    stand.produce((event(number) for number in range(400)), key=None)
    for step in range(1, 6):  # a backlog, in which each worker is killed amid its batches
        worker = stand.worker("--batch-events", "500")
        stand.wait_committed(step * events // 8)
        worker.kill()
    last = stand.worker("--metrics-port", "0")
    stand.wait_committed(events)
    inferences = stand.read(stand.inferences, 2 * events)
    assert len(inferences) == 2 * events
    expected = due(inferences, share)
    assert {row[0] for row in expected} == {"active", "canary", "thrice"}
    found = samples_of(stand, len(expected))
    assert account(rows(found), expected) == NOTHING_WRONG
    assert last.stop() == 0

    # the negative control: samples outside of the transactions, one of them of a batch that nobody committed
    part = Samples.decode(found[0].value() or b"")
    forged = Samples(part.maker, part.partitions, part.offsets + 10**6, part.times, part.keys, part.outputs)
    producer = Producer({"bootstrap.servers": stand.servers})
    for value in (found[0].value(), forged.encode()):
        producer.produce(f"{stand.name}.samples", value, b"x", found[0].partition() or 0)
    assert producer.flush(30) == 0
    again = account(rows(samples_of(stand, len(expected) + 2 * len(part.keys))), expected)
    assert again == {"missing": 0, "repeated": len(part.keys), "of_nothing": len(part.keys)}
    assert account(rows(found[1:]), expected)["missing"] == len(part.keys)


def test_each_arm_says_what_it_made_of_the_same_event(rig: Callable[..., Rig], topic: Callable[..., str]) -> None:
    arms = [
        {"role": "active", "model": "sum@production"},
        {"role": "all", "name": "twice", "model": "twice@production"},
        {"role": "shadow", "model": "thrice@production", "topic": topic(4, "shadow")},
    ]
    stand = rig(arms=arms, labels={**LABELS, "partitions": 2})
    stand.add_model("twice", model=sum_model(scale=2.0))
    stand.add_model("thrice", model=sum_model(scale=3.0))
    stand.produce([event(number) for number in range(40)])
    workers = [stand.worker("--metrics-port", "0"), stand.worker("--arm", "shadow", "--metrics-port", "0")]
    found = samples_of(stand, 120, partitions=2)
    by_arm: dict[str, dict[bytes, float]] = {}
    roles = {}
    for message in found:
        part = Samples.decode(message.value() or b"")
        roles[part.maker.arm] = part.maker.role
        by_arm.setdefault(part.maker.arm, {}).update(zip(part.keys, part.outputs["score"].to_list(), strict=True))
    assert len(rows(found, partitions=2)) == 120
    assert roles == {"active": "assigned", "twice": "beside", "shadow": "shadow"}
    for number in range(40):
        scores = [by_arm[arm][b"k%d" % number] for arm in ("active", "twice", "shadow")]
        assert scores == pytest.approx([(number + 0.5) * scale for scale in (1, 2, 3)])
    assert workers[0].metric("penstock_samples_total", scored_by="active") == 40
    assert workers[0].metric("penstock_samples_total", scored_by="twice") == 40
    assert workers[1].metric("penstock_samples_total", scored_by="shadow") == 40
    assert [worker.stop() for worker in workers] == [0, 0]


def test_segments_and_at_least_once_delivery_have_samples_too(rig: Callable[..., Rig]) -> None:
    fields = [{"name": "a", "type": "double"}, {"name": "b", "type": "double"}, {"name": "origin", "type": "string"}]
    schema = {"type": "record", "name": "Event", "namespace": "penstock.test", "fields": fields}
    import polars as pl

    from models.reference import Reference

    reference = Reference.from_frame(pl.DataFrame({"a": [1.0, 2.0, 3.0], "b": [0.0, 0.5, 1.0]}))
    stand = rig(
        schema=schema,
        bundle={"reference": reference.to_bytes()},
        labels=LABELS,
        monitor={"segments": ["origin", "a"]},
        delivery="at_least_once",
    )
    framed = encoder(schema)
    stand.produce(
        [framed({"a": 1.0 + number % 3, "b": 0.5, "origin": "EWR" if number % 2 else "JFK"}) for number in range(30)]
    )
    worker = stand.worker()
    found = samples_of(stand, 30)
    assert len(rows(found)) == 30
    for message in found:
        part = Samples.decode(message.value() or b"")
        for key, origin, wind in zip(part.keys, part.segments["origin"], part.segments["a"], strict=True):
            number = int(key[1:])
            assert origin == ("EWR" if number % 2 else "JFK")
            assert wind == ("1 .. 1.5", "1.5 .. 2.5", "2.5 .. 3")[number % 3]
    assert worker.stop() == 0


def ends_with(worker: Worker, said: str) -> None:
    assert worker.process.wait(60) in (1, 2), worker.text()
    assert said in worker.text()


def test_a_topic_with_other_partitions_than_declared_is_refused(rig: Callable[..., Rig]) -> None:
    stand = rig(labels=LABELS)
    admin = AdminClient({"bootstrap.servers": stand.servers})
    admin.create_topics([NewTopic(f"{stand.name}.samples", 3, 1)])[f"{stand.name}.samples"].result()
    ends_with(stand.worker(), "has 3 partitions, but labels.partitions is 4: declare 3")


def test_labels_and_segments_that_do_not_fit_are_refused(rig: Callable[..., Rig]) -> None:
    stand = rig(labels={**LABELS, "output": "probability"})
    ends_with(stand.worker(), "labels.output: the model has no output 'probability'; it has score")


def test_what_was_sampled_is_verified_like_any_other(rig: Callable[..., Rig]) -> None:
    from tests.integration.test_arms import command

    stand = rig(labels=LABELS)
    assert command(stand, "validate", str(stand.file)).returncode == 0
    stand.produce([event(number) for number in range(200)])
    worker = stand.worker()
    stand.wait_committed(200)
    assert worker.stop() == 0
    assert command(stand, "verify", "--deployment", str(stand.file)).returncode == 0
    stand.declared["labels"] = {**LABELS, "output": "probability"}
    stand.declared["monitor"] = {"segments": ["a"]}
    stand.write()
    refused = command(stand, "validate", str(stand.file))
    assert refused.returncode == 2
    assert "arm active (sum@production): labels.output: the model has no output 'probability'" in refused.stderr
