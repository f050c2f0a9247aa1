"""Verification of what a real worker recorded on a real Kafka; each thing that can be wrong is made wrong and found."""

from __future__ import annotations

import json
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from penstock.config import load_deployment
from schemas.deployment import Deployment
from schemas.errors import ArmUnknown
from schemas.sources import SchemaTopic
from streams.errors import Refused
from streams.findings import EXAMPLES_OF_A_KIND, WRONG, Findings
from streams.reading import Point
from streams.recorded import digest_of
from streams.verify import Options, verify
from streams.versions import Declaration
from tests.places import place_of
from tests.rig import SCHEMA, Rig, encoder, read_committed

pytestmark = pytest.mark.timeout(300)

LATER = {**SCHEMA, "name": "Event", "fields": [*SCHEMA["fields"], {"name": "note", "type": "string"}]}
encode, encode_later = encoder(), encoder(LATER)
GOOD, BAD, UNKNOWN = 400, 4, 4
EVENTS = GOOD + BAD + UNKNOWN
Record = tuple[int, bytes | None, bytes | None, Any]  # partition, key, value, headers
Doctor = Callable[[list[Record]], list[Record]]


class Stand(Rig):
    """A rig whose output and dead-letter topics can be written anew."""

    def __init__(self, servers: str, folder: Path, **rig: Any) -> None:
        self.admin = AdminClient({"bootstrap.servers": servers})
        super().__init__(servers, folder, self._topic, **rig)
        self.written: dict[str, list[Record]] = {}
        self.altered: set[str] = set()  # topics that are not as the worker wrote them
        self.mine: set[str] = set()  # those of them that the test at hand wrote

    def _topic(self, partitions: int, name: str, **_: str) -> str:
        whole = f"verify.{name}.{secrets.token_hex(4)}"
        self.admin.create_topics([NewTopic(whole, partitions, 1)])[whole].result()
        return whole

    def score(self, count: int) -> None:
        worker = self.worker()
        self.wait_committed(count)
        assert worker.stop() == 0

    def keep(self) -> None:
        """Remember what the worker wrote."""
        for topic, count in ((self.inferences, GOOD), (self.dead_letters, BAD + UNKNOWN)):
            found = sorted(read_committed(self.servers, topic, count), key=lambda m: (m.partition(), m.offset()))
            self.written[topic] = [(m.partition() or 0, m.key(), m.value(), m.headers()) for m in found]

    def rewrite(self, topic: str, records: list[Record]) -> None:
        """Make the topic anew with these records."""
        self.altered.add(topic)
        self.mine.add(topic)
        partitions = len(self.admin.list_topics(timeout=10).topics[topic].partitions)
        self.delete(topic)
        self.admin.create_topics([NewTopic(topic, partitions, 1)])[topic].result()
        producer = Producer({"bootstrap.servers": self.servers})
        for partition, key, value, headers in records:
            producer.produce(topic, value, key, partition, headers=headers)
        assert producer.flush(30) == 0

    def delete(self, topic: str) -> None:
        self.admin.delete_topics([topic])[topic].result()
        while topic in self.admin.list_topics(timeout=10).topics:
            time.sleep(0.05)

    def mend(self) -> None:
        """Write topics as the worker did that an earlier test altered."""
        for topic in self.altered - self.mine:
            self.rewrite(topic, self.written[topic])
            self.altered.discard(topic)

    def verify(self, *files: Path, **options: Any) -> Findings:
        self.mend()
        loaded = [load_deployment(file) for file in files or [self.file]]
        settings = {"kafka": {"bootstrap.servers": self.servers}, "repository": str(self.folder / "models"), **options}
        return verify([Declaration(each.deployment, each.reader) for each in loaded], Options(**settings))


@pytest.fixture(scope="module")
def scored(bootstrap_servers: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    """400 good events, 4 that are junk and 4 whose schema nobody knew, scored once by a real worker."""
    stand = Stand(bootstrap_servers, tmp_path_factory.mktemp("verify"))
    stand.produce(encode({"id": i, "a": 0.1 * i, "b": None}) for i in range(GOOD))
    stand.produce(b"junk %d" % i for i in range(BAD))
    stand.produce(encode_later({"id": i, "a": 0.1, "b": None, "note": stand.name}) for i in range(UNKNOWN))
    stand.score(EVENTS)
    stand.keep()
    yield stand
    stand.close()


@pytest.fixture
def stand(scored: Stand) -> Stand:
    """The scored events; topics that an earlier test wrote anew are as the worker wrote them when they are verified."""
    scored.mine.clear()
    return scored


@pytest.fixture
def fresh(bootstrap_servers: str, tmp_path: Path) -> Iterator[Stand]:
    """A stand of a test's own."""
    stand = Stand(bootstrap_servers, tmp_path)
    yield stand
    stand.close()


def wrong(findings: Findings) -> dict[str, int]:
    return {name: findings.counts[name] for name in WRONG if findings.counts[name]}


def test_what_a_worker_recorded_is_verified_whole(stand: Stand) -> None:
    findings = stand.verify()
    assert wrong(findings) == {}, findings.examples
    assert findings.wrong == 0
    assert (findings.counts["events"], findings.counts["inferences"]) == (EVENTS, GOOD)
    assert findings.counts["dead_letters"] == BAD + UNKNOWN
    assert findings.versions == {f"sum@{stand.version}": GOOD}
    assert findings.letters == {}
    assert json.loads(json.dumps(findings.to_dict()))["ok"] is True


# ---- each breakage is found: a check that cannot fail shows nothing


def flipped(value: bytes | None, at: int, bit: int = 0) -> bytes:
    altered = bytearray(value or b"")
    altered[at] ^= 1 << bit
    return bytes(altered)


def altered_at(at: int, bit: int = 0) -> Doctor:
    """One bit of the tenth record's value."""

    def doctor(records: list[Record]) -> list[Record]:
        partition, key, value, headers = records[10]
        return [*records[:10], (partition, key, flipped(value, at, bit), headers), *records[11:]]

    return doctor


def swapped(records: list[Record]) -> list[Record]:
    return [*records[:10], records[11], records[10], *records[12:]]


def with_other_key(records: list[Record]) -> list[Record]:
    return [(records[0][0], b"other", *records[0][2:]), *records[1:]]


@pytest.mark.parametrize(
    ("doctor", "found"),
    [
        (lambda records: records[:10] + records[11:], {"missing": 1}),
        (lambda records: [*records, records[10]], {"twice": 1}),
        (swapped, {"out_of_order": 1}),
        (altered_at(-1), {"different": 1}),  # of the score
        (altered_at(-4), {"different": 1}),  # its last bit
        (altered_at(0), {"different": 1}),  # of the header
        (altered_at(5), {"different": 1}),
        (altered_at(12), {"missing": 1}),  # the deployment's name: it is not ours any more
        (with_other_key, {"different": 1}),
        (lambda records: [*records, (0, None, b"junk", None)], {"unreadable": 1}),
        (lambda records: [*records, (0, None, None, None)], {"unreadable": 1}),
        (lambda records: [], {"missing": GOOD}),
    ],
    ids=[
        "missing",
        "twice",
        "swapped",
        "score",
        "last bit",
        "magic",
        "fingerprint",
        "deployment",
        "key",
        "junk",
        "tombstone",
        "none",
    ],
)
def test_a_broken_output_is_found(stand: Stand, doctor: Doctor, found: dict[str, int]) -> None:
    stand.rewrite(stand.inferences, doctor(stand.written[stand.inferences]))
    findings = stand.verify()
    assert wrong(findings) == found, findings.examples
    assert 0 < len(findings.examples) <= EXAMPLES_OF_A_KIND


def test_every_single_bit_of_an_inference_counts(stand: Stand) -> None:
    """Whichever bit is altered, something is wrong: a record that names another event leaves its own without one."""
    records = stand.written[stand.inferences]
    doctored = list(records)
    for place, bit in enumerate(range(0, 8 * len(records[0][2] or b""), 7)):
        partition, key, value, headers = records[place]
        doctored[place] = (partition, key, flipped(value, bit // 8, bit % 8), headers)
    stand.rewrite(stand.inferences, doctored)
    findings = stand.verify()
    assert sum(wrong(findings).values()) >= sum(a != b for a, b in zip(records, doctored, strict=True))


def test_a_difference_is_told_with_places_and_fields(stand: Stand) -> None:
    records = stand.written[stand.inferences]
    stand.rewrite(stand.inferences, altered_at(-1, 6)(records))
    (example,) = stand.verify().examples
    partition, offset = place_of(records[10][2] or b"")
    assert example.event == f"{stand.events}/{partition}@{offset}"
    assert example.record == f"{stand.inferences}/0@10"
    assert example.detail.startswith("score: ")
    assert "recorded" in example.detail


@pytest.mark.parametrize(
    ("doctor", "found"),
    [
        (lambda letters: letters[1:], {"missing": 1}),
        (lambda letters: [*letters, letters[0]], {"twice": 1}),
        (lambda letters: [(*letters[0][:2], flipped(letters[0][2], 0), letters[0][3]), *letters[1:]], {"different": 1}),
        (lambda letters: [(*letters[0][:3], [("own", b"1"), *letters[0][3]]), *letters[1:]], {"different": 1}),
        (lambda letters: [(*letters[0][:3], letters[0][3][:4]), *letters[1:]], {"missing": 1, "unreadable": 1}),
    ],
    ids=["missing", "twice", "altered", "headers", "nameless"],
)
def test_a_broken_dead_letter_is_found(stand: Stand, doctor: Doctor, found: dict[str, int]) -> None:
    stand.rewrite(stand.dead_letters, doctor(stand.written[stand.dead_letters]))
    findings = stand.verify()
    assert wrong(findings) == found, findings.examples


def test_an_event_with_inference_and_dead_letter_has_two(stand: Stand) -> None:
    partition, offset = place_of(stand.written[stand.inferences][0][2] or b"")
    letter = stand.written[stand.dead_letters][0]
    about = {"penstock.source.partition": str(partition).encode(), "penstock.source.offset": str(offset).encode()}
    headers = [(name, about.get(name, text)) for name, text in letter[3]]
    stand.rewrite(stand.dead_letters, [*stand.written[stand.dead_letters], (*letter[:3], headers)])
    assert wrong(stand.verify()) == {"twice": 1}


def test_an_inference_of_an_event_that_never_was_is_found(stand: Stand) -> None:
    records = stand.written[stand.inferences]
    last = max(records, key=lambda record: place_of(record[2] or b""))
    partition, offset = place_of(last[2] or b"")
    from schemas.longs import write_long

    invented = (last[2] or b"").replace(b"\x02" + write_long(offset), b"\x02" + write_long(offset + 60))
    assert place_of(invented) == (partition, offset + 60)
    stand.rewrite(stand.inferences, [*records, (last[0], last[1], invented, None)])
    assert wrong(stand.verify()) == {"without_event": 1}


# ---- ranges


def test_only_the_range_is_judged(stand: Stand) -> None:
    stand.rewrite(stand.inferences, stand.written[stand.inferences][1:])  # offset 0 of partition 0 is missing
    findings = stand.verify(begin=Point.parse("0:1,1:5"), end=Point.parse("1:15"))
    assert wrong(findings) == {}
    assert findings.ranges == {0: (1, 102), 1: (5, 15)}
    assert findings.counts["events"] == 101 + 10
    assert wrong(stand.verify(end=Point.parse("0:1"))) == {"missing": 1}


def test_a_range_of_times_holds_the_events_of_these_times(stand: Stand) -> None:
    whole = stand.verify(begin=Point.parse("2020-01-01"), end=Point.parse("2100-01-01T00:00:00+02:00"))
    assert whole.counts["events"] == EVENTS
    assert stand.verify(end=Point.parse("2020-01-01")).counts["events"] == 0
    assert stand.verify(begin=Point.parse("2100-01-01")).counts["events"] == 0


@pytest.mark.parametrize("text", ["soon", "7 days ago", "0-5", "0:", "0:5;1:6", ""])
def test_a_range_that_is_none_is_refused_with_how_to_write_one(text: str) -> None:
    with pytest.raises(Refused, match="PARTITION:OFFSET"):
        Point.parse(text)


def test_what_cannot_be_verified_is_refused(stand: Stand, tmp_path: Path) -> None:
    with pytest.raises(Refused, match="no partition 7"):
        stand.verify(begin=Point.parse("7:0"))
    other = tmp_path / "other.yaml"
    (tmp_path / "event.avsc").write_text(json.dumps(SCHEMA))
    other.write_text(json.dumps({**stand.declared, "name": "another"}))
    with pytest.raises(Refused, match="has committed nothing"):
        stand.verify(other)
    with pytest.raises(Refused, match="states of one deployment"):
        stand.verify(stand.file, other)
    with pytest.raises(ArmUnknown, match="declares no arm 'shadow'"):
        stand.verify(arm="shadow")


# ---- what cannot be made again


def test_an_inference_of_a_revision_that_is_not_given_says_what_to_give(stand: Stand, tmp_path: Path) -> None:
    (tmp_path / "event.avsc").write_text(json.dumps(SCHEMA))
    newer = tmp_path / "newer.yaml"
    newer.write_text(json.dumps({**stand.declared, "latency_ms": 21}))
    findings = stand.verify(newer)
    assert wrong(findings) == {"unknown_revision": GOOD}
    assert "another --deployment" in findings.examples[0].detail
    assert wrong(stand.verify(newer, stand.file)) == {}


def test_a_version_that_the_repository_lacks_is_counted(stand: Stand, tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    findings = stand.verify(repository=str(tmp_path / "models"))
    assert wrong(findings) == {"unknown_version": GOOD}
    assert f"sum@{stand.version}" in findings.examples[0].detail


def test_a_proof_with_a_tolerance_allows_that_much_and_no_more(stand: Stand) -> None:
    (entry,) = (stand.folder / "models").glob("sum/*/entry.json")
    proven = entry.read_text()
    proof = {"determinism": {"bitwise": False, "tolerance": 1e-6}}
    records = stand.written[stand.inferences]
    try:
        entry.write_text(json.dumps({**json.loads(proven), "proof": proof}))
        stand.rewrite(stand.inferences, altered_at(-4)(records))
        findings = stand.verify()
        assert wrong(findings) == {}
        assert findings.counts["within_tolerance"] == 1
        stand.rewrite(stand.inferences, altered_at(-2)(records))
        assert wrong(stand.verify()) == {"different": 1}
    finally:
        entry.write_text(proven)


# ---- what is no fault


def test_a_transaction_that_is_open_is_waited_for(stand: Stand) -> None:
    stand.mend()
    producer = Producer({"bootstrap.servers": stand.servers, "transactional.id": f"verify.{secrets.token_hex(4)}"})
    producer.init_transactions(10)
    producer.begin_transaction()
    producer.produce(stand.inferences, stand.written[stand.inferences][0][2], partition=0)
    producer.flush(10)
    later = threading.Timer(2, lambda: producer.abort_transaction(10))
    later.start()
    began = time.monotonic()
    findings = stand.verify()
    assert time.monotonic() - began > 1.5
    later.join()
    assert wrong(findings) == {}
    assert wrong(stand.verify(isolation="read_uncommitted")) == {"twice": 1}


def test_a_dead_letter_whose_event_could_be_scored_now_is_told_by_reason(fresh: Stand) -> None:
    stand = fresh
    late = {**LATER, "fields": [*LATER["fields"], {"name": f"x{secrets.token_hex(4)}", "type": "null"}]}
    name = late["fields"][-1]["name"]
    unknown = encoder(late)({"id": 1, "a": 0.5, "b": None, "note": "", name: None})
    stand.produce([unknown, *(encode({"id": i, "a": 0.5, "b": None}) for i in range(7))])
    stand.score(8)
    SchemaTopic({"bootstrap.servers": stand.servers}).publish(late)
    findings = stand.verify()
    assert wrong(findings) == {}
    assert findings.letters == {"unknown_schema, would be scored now": 1}


def test_a_dead_letter_on_which_the_model_may_hang_is_compared_and_not_scored(stand: Stand) -> None:
    letters = stand.written[stand.dead_letters]
    reasons = {"penstock.reason": b"quarantined"}
    changed = [(name, reasons.get(name, text)) for name, text in letters[0][3]]
    stand.rewrite(stand.dead_letters, [(*letters[0][:3], changed), *letters[1:]])
    findings = stand.verify()
    assert (wrong(findings), findings.letters, findings.counts["not_recomputed"]) == ({}, {}, 1)
    stand.rewrite(stand.dead_letters, [(*letters[0][:2], b"other", changed), *letters[1:]])
    assert wrong(stand.verify()) == {"different": 1}


def test_a_dead_letter_that_would_have_another_reason_now_is_told(stand: Stand) -> None:
    letters = stand.written[stand.dead_letters]
    junk = next(place for place, letter in enumerate(letters) if (letter[2] or b"").startswith(b"junk"))
    changed = [(name, b"model_failed" if name == "penstock.reason" else text) for name, text in letters[junk][3]]
    stand.rewrite(stand.dead_letters, [*letters[:junk], (*letters[junk][:3], changed), *letters[junk + 1 :]])
    findings = stand.verify()
    assert wrong(findings) == {}
    assert findings.letters == {"model_failed, would be bad_header now": 1}


def test_repeats_are_counted_and_allowed_where_delivery_is_at_least_once(fresh: Stand) -> None:
    fresh.declared["delivery"] = "at_least_once"
    fresh.write()
    fresh.produce(encode({"id": i, "a": 0.5, "b": None}) for i in range(8))
    fresh.score(8)
    (some, *_) = read_committed(fresh.servers, fresh.inferences, 8)
    producer = Producer({"bootstrap.servers": fresh.servers})
    producer.produce(fresh.inferences, some.value(), some.key(), some.partition() or 0)
    producer.flush(10)
    findings = fresh.verify()
    assert (findings.counts["twice"], findings.wrong) == (1, 0)


def test_events_before_a_start_at_the_latest_are_not_called_missing(fresh: Stand) -> None:
    fresh.declared["input"]["start"] = "latest"
    fresh.write()
    fresh.produce(encode({"id": i, "a": 0.5, "b": None}) for i in range(40))
    worker = fresh.worker()
    worker.wait_for("reads partitions")
    fresh.produce(encode({"id": i, "a": 0.5, "b": None}) for i in range(8))
    fresh.wait_committed(48)
    assert worker.stop() == 0
    findings = fresh.verify()
    assert (wrong(findings), findings.counts["unjudged"], findings.counts["inferences"]) == ({}, 40, 8)
    assert wrong(fresh.verify(begin=Point.parse("0:5"))) == {"missing": 5}


def test_what_retention_took_is_counted_and_not_called_wrong(fresh: Stand) -> None:
    stand = fresh
    stand.produce(encode({"id": i, "a": 0.5, "b": None}) for i in range(400))
    stand.score(400)

    def remove(topic: str, partition: int, before: int) -> None:
        cut = TopicPartition(topic, partition, before)
        stand.admin.delete_records([cut])[cut].result()

    remove(stand.events, 1, 30)
    findings = stand.verify()
    assert (wrong(findings), findings.counts["gone"], findings.counts["events"]) == ({}, 30, 370)
    assert findings.ranges[1] == (30, 100)
    findings = stand.verify(begin=Point.parse("1:10"))
    assert (wrong(findings), findings.counts["gone"], findings.counts["events"]) == ({}, 20, 70)
    remove(stand.inferences, 2, 40)
    findings = stand.verify()
    assert wrong(findings) == {}
    assert findings.counts["unjudged"] == 40
    assert any("are not called missing" in note for note in findings.notes)


def test_digests_tell_nothing_from_empty_and_key_from_value() -> None:
    kinds = [(None, None), (None, b""), (b"", None), (b"", b""), (b"a", b"b"), (b"ab", b""), (b"", b"ab")]
    assert len({digest_of(key, value) for key, value in kinds}) == len(kinds)
    assert digest_of(b"k", b"v", [("a", b"b")]) != digest_of(b"k", b"v", [("ab", b"")])


def test_another_event_schema_is_another_revision() -> None:
    declared = Deployment.model_validate(
        {
            "name": "d",
            "input": {"topic": "e", "schema": "event.avsc"},
            "output": {"topic": "i"},
            "arms": [{"role": "active", "model": "m@production"}],
        }
    )
    schema = {"type": "record", "name": "E", "fields": [{"name": "a", "type": "double"}]}
    wider = {**schema, "fields": [{"name": "a", "type": ["double", "null"]}]}
    assert declared.revision(schema) == declared.revision(dict(schema))
    assert declared.revision(schema) != declared.revision(wider)
