"""Verification where the topics are not as a worker likes them: truncated, compacted, deleted, or hidden from us."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from confluent_kafka import OFFSET_END, TopicPartition
from confluent_kafka.admin import (
    AclBinding,
    AclOperation,
    AclPermissionType,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ResourcePatternType,
    ResourceType,
)

from penstock.embedded import EmbeddedKafka
from streams.errors import Refused
from tests.guarded import GUARDED
from tests.places import place_of
from tests.rig import encoder, read_committed
from tests.streams.test_verify import Stand, wrong

pytestmark = pytest.mark.timeout(300)

encode = encoder()
GOOD, BAD = 400, 4


@pytest.fixture(scope="module")
def keyed(bootstrap_servers: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    """400 events of four partitions, whose inferences keys placed in two."""
    stand = Stand(bootstrap_servers, tmp_path_factory.mktemp("keyed"), outputs=2)
    scored(stand, bad=0)
    # written anew, each partition has those of all source partitions in turn, in whatever batches they were scored
    found = sorted(read_committed(stand.servers, stand.inferences, GOOD), key=lambda m: place_of(m.value() or b"")[1])
    stand.written[stand.inferences] = [(m.partition() or 0, m.key(), m.value(), m.headers()) for m in found]
    yield stand
    stand.close()


def scored(stand: Stand, bad: int = BAD) -> None:
    stand.produce(encode({"id": i, "a": 0.1 * i, "b": None}) for i in range(GOOD))
    stand.produce(b"junk %d" % i for i in range(bad))
    stand.score(GOOD + bad)


def truncate(stand: Stand, partition: int, before: int) -> None:
    """What retention does."""
    cut = TopicPartition(stand.inferences, partition, before)
    stand.admin.delete_records([cut])[cut].result()


def test_what_retention_took_from_one_of_the_partitions_that_keys_chose_is_not_missing(keyed: Stand) -> None:
    records = keyed.written[keyed.inferences]
    in_first = [record for record in records if record[0] == 0]
    in_second = [record for record in records if record[0] == 1]
    assert min(len(in_first), len(in_second)) > 120  # keys place them, not partitions
    keyed.rewrite(keyed.inferences, records)
    assert wrong(keyed.verify()) == {}
    truncate(keyed, 0, 100)
    findings = keyed.verify()
    assert (wrong(findings), findings.counts["unjudged"]) == ({}, 100), findings.examples

    # what is missing from the other partition is found behind the events that the first one still holds
    late = max(in_second, key=lambda record: place_of(record[2] or b"")[1])
    keyed.rewrite(keyed.inferences, [record for record in records if record is not late])
    truncate(keyed, 0, 100)
    findings = keyed.verify()
    assert (wrong(findings), findings.counts["unjudged"]) == ({"missing": 1}, 100)

    # and nothing is known where the first one holds nothing any more
    truncate(keyed, 0, OFFSET_END)
    findings = keyed.verify()
    assert (wrong(findings), findings.counts["unjudged"]) == ({}, len(in_first) + 1)
    assert any(
        "are not called missing: the output topic begins later, for retention removed" in note
        for note in findings.notes
    )


def test_an_inference_that_is_missing_from_a_compacted_topic_has_a_note(keyed: Stand) -> None:
    keyed.rewrite(keyed.inferences, keyed.written[keyed.inferences][1:])
    findings = keyed.verify()
    assert (wrong(findings), findings.notes) == ({"missing": 1}, [])
    compact = ConfigEntry("cleanup.policy", "compact", incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ResourceType.TOPIC, keyed.inferences, incremental_configs=[compact])
    keyed.admin.incremental_alter_configs([resource])[resource].result()
    findings = keyed.verify()
    assert wrong(findings) == {"missing": 1}
    (note,) = findings.notes
    assert note.startswith(f"{keyed.inferences} is compacted")


def test_a_dead_letter_topic_that_is_gone_has_a_note(bootstrap_servers: str, tmp_path: Path) -> None:
    with closing(Stand(bootstrap_servers, tmp_path)) as stand:
        scored(stand)
        findings = stand.verify()
        assert (wrong(findings), findings.counts["dead_letters"], findings.notes) == ({}, BAD, [])
        stand.delete(stand.dead_letters)
        findings = stand.verify()
    assert wrong(findings) == {"missing": BAD}
    (note,) = findings.notes
    assert note.startswith(f"{stand.dead_letters} does not exist")


@pytest.fixture(scope="module")
def guarded() -> Iterator[str]:
    """The address of a Kafka that asks who may do what."""
    with EmbeddedKafka(settings=GUARDED) as kafka:
        yield kafka.bootstrap_servers


@pytest.mark.parametrize(
    ("describe", "said"),
    [
        (AclPermissionType.DENY, "we may not see topic {}, or it does not exist: grant DESCRIBE and READ on it"),
        (AclPermissionType.ALLOW, "{}/0 cannot be read"),
    ],
    ids=["hidden", "visible"],
)
def test_a_dead_letter_topic_that_we_may_not_read_is_refused(
    guarded: str, tmp_path: Path, describe: AclPermissionType, said: str
) -> None:
    with closing(Stand(guarded, tmp_path)) as stand:
        scored(stand)
        assert wrong(stand.verify()) == {}
        permit(stand, stand.dead_letters, describe)
        with pytest.raises(Refused) as refused:
            stand.verify()
    assert said.format(stand.dead_letters) in str(refused.value)


def permit(stand: Stand, topic: str, describe: AclPermissionType) -> None:
    """Permit nothing of the topic but perhaps to see it: what no rule of a topic allows is denied once it has one."""
    rule = AclBinding(
        ResourceType.TOPIC,
        topic,
        ResourcePatternType.LITERAL,
        "User:ANONYMOUS",
        "*",
        AclOperation.DESCRIBE,
        describe,
    )
    stand.admin.create_acls([rule])[rule].result()
