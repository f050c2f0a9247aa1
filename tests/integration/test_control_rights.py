"""Rights on control with a broker that has ACLs: what is missing is named, and what is not needed is not asked for."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from confluent_kafka.admin import (
    AclBinding,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
)

from penstock import audit
from penstock.embedded import EmbeddedKafka
from schemas.control import State, Swap
from schemas.sources import SchemaTopic
from streams import swaps
from streams.control import ControlTopics
from streams.desired import Desired
from streams.errors import Refused
from streams.offsets import OffsetRange
from streams.quarantine import QuarantineTopic
from streams.reading import TopicReader
from tests.guarded import GUARDED
from tests.integration.control_writer import NAME, READER, change
from tests.integration.planes import Plane

pytestmark = pytest.mark.timeout(300)


@pytest.mark.parametrize("denied", ["transactional id", "audit"])
def test_a_writer_without_permission_says_which(tmp_path: Path, denied: str) -> None:
    with EmbeddedKafka(tmp_path / "kafka", settings=GUARDED) as kafka:
        plane = Plane(kafka.bootstrap_servers, ControlTopics())
        plane.note()
        kind, name = ResourceType.TRANSACTIONAL_ID, plane.topics.transactional_id
        if denied == "audit":
            kind, name = ResourceType.TOPIC, plane.topics.audit
        user = "User:ANONYMOUS"
        acls = [
            AclBinding(kind, name, ResourcePatternType.LITERAL, user, "*", AclOperation.ALL, AclPermissionType.ALLOW),
            AclBinding(kind, name, ResourcePatternType.LITERAL, user, "*", AclOperation.WRITE, AclPermissionType.DENY),
        ]
        admin = AdminClient(plane.kafka)
        for created in admin.create_acls(acls).values():
            created.result()
        with pytest.raises(Refused, match=r"no permission to change control: .*grant WRITE and DESCRIBE on the topics"):
            plane.note()


def test_looking_needs_no_rights_on_groups(tmp_path: Path) -> None:
    with EmbeddedKafka(tmp_path / "kafka", settings=GUARDED) as kafka:
        plane = Plane(kafka.bootstrap_servers, ControlTopics())
        plane.note()
        schema, swap = SchemaTopic(plane.kafka).publish(READER), Swap("d", 1, "active", "m", "v", "d", "0", (), 0)
        quarantined = [OffsetRange.parse("t/0@1-2")]
        QuarantineTopic(plane.kafka).add("g", quarantined, 0.0)
        plane.topics.ensure(plane.kafka, plane.topics.swaps)
        plane.put(plane.topics.swaps, swap.encode(), swap.key)
        literal, user = ResourcePatternType.LITERAL, "User:ANONYMOUS"
        deny = AclBinding(ResourceType.GROUP, "*", literal, user, "*", AclOperation.ALL, AclPermissionType.DENY)
        admin = AdminClient(plane.kafka)
        for created in admin.create_acls([deny]).values():
            created.result()
        assert len(plane.read().entries) == 1
        plane.note()
        assert SchemaTopic(plane.kafka).by_fingerprint(schema)["name"] == READER["name"]
        assert [each.range for each in QuarantineTopic(plane.kafka).read("g")] == quarantined
        assert len(audit.read(plane.kafka)[0]) == 2
        reader = TopicReader(plane.kafka, "g")
        assert swaps.read(reader) == [swap]
        reader.close()
        seen: list[State | None] = []
        follower = Desired(plane.kafka, NAME, seen.append)
        follower.start()
        plane.change(lambda world: change("apply", 1, world))
        deadline = time.monotonic() + 20
        while not seen and time.monotonic() < deadline:
            time.sleep(0.05)
        follower.close()
        assert [each and each.revision for each in seen] == [1]
