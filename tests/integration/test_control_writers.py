"""Writers of control on a real Kafka: they race, die and lose answers; no update is lost, written twice or forked."""

from __future__ import annotations

import random
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException, Message, Producer
from confluent_kafka.admin import (
    AdminClient,
)
from confluent_kafka.cimpl import NewTopic

from penstock.embedded import EmbeddedKafka
from schemas.chain import chained, hash_of, head_of, verify_chain
from schemas.control import NO_HEAD, Entry
from streams import control
from streams.control import ControlLog
from streams.errors import ChainBroken, ChangeRefused, ControlUnavailable, Refused, RevisionMoved
from streams.following import Follower
from streams.rollout import Change, World, applied, noted
from tests.integration.control_writer import NAME, READER, Unshared, change, declared
from tests.integration.planes import ADA, Plane, a_plane
from tests.rig import ROOT
from tests.schemas.test_chain import chain, follow

pytestmark = pytest.mark.timeout(300)

WRITERS, KILLED = 20, 6


@pytest.fixture
def plane(bootstrap_servers: str) -> Iterator[Plane]:
    with a_plane(bootstrap_servers) as made:
        yield made


# races


class Process:
    """One `tests.integration.control_writer`."""

    def __init__(self, plane: Plane, number: int) -> None:
        self.who, self.said = f"writer {number}", ""
        kind = "note" if number % 2 else "apply"
        arguments = [plane.kafka["bootstrap.servers"], plane.topics.prefix, str(number), kind]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.integration.control_writer", *arguments],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def ready(self) -> None:
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "ready\n", self._process.communicate()

    def go(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write("go\n")
        self._process.stdin.flush()

    def kill(self) -> None:
        self._process.kill()

    def end(self) -> None:
        said, complaint = self._process.communicate(timeout=200)
        assert self._process.returncode in (0, -9), complaint
        self.said = said.strip()


def test_of_20_writers_that_race_and_are_killed_none_loses_an_update_or_forks_the_chain(
    plane: Plane, unmeasured: None
) -> None:
    seed = random.randrange(1 << 30)
    chance = random.Random(seed)
    writers = [Process(plane, number) for number in range(WRITERS)]
    for writer in writers:
        writer.ready()
    victims = chance.sample(writers, KILLED)
    timers = [threading.Timer(chance.uniform(0.1, 2.5), victim.kill) for victim in victims]
    for writer in writers:
        writer.go()
    for timer in timers:
        timer.start()
    for writer in writers:
        writer.end()
    for timer in timers:
        timer.join()
    log = plane.read()
    told = f"seed {seed}"
    assert log.findings() == [], told
    ids = Counter(entry.id for entry in log.entries)
    by = Counter(entry.who for entry in log.entries)
    for writer in writers:
        assert writer.said or writer in victims, f"{told}: {writer.who} did not succeed"
        if writer.said:
            assert ids[writer.said.removeprefix("done ")] == 1, told
        assert by[writer.who] == 1 if writer.said else by[writer.who] <= 1, told
    assert not all(writer.said for writer in victims), f"{told}: nobody was killed at work"
    revisions = [entry.revision_after for entry in log.entries if entry.subject == NAME]
    assert revisions == list(range(1, len(revisions) + 1)), told
    assert log.states[NAME].revision == len(revisions)


def overtaken(plane: Plane, other: Plane) -> tuple[list[int], int]:
    """Let another writer change the same deployment between the look of a first one and its commit.

    Returns the revisions that the first one was asked to follow, and how many findings the audit has in the end.
    """
    seen = []

    def decide(world: World) -> Change | None:
        seen.append(world.states[NAME].revision)
        if len(seen) == 1:
            assert other.change(lambda now: change("apply", 77, now)) is not None
        return change("apply", 88, world)

    assert plane.change(lambda world: change("apply", 1, world)) is not None
    assert plane.change(decide) is not None
    return seen, len(plane.findings())


def test_a_writer_that_was_overtaken_decides_again_on_what_the_other_wrote(plane: Plane) -> None:
    seen, findings = overtaken(plane, Plane(plane.kafka["bootstrap.servers"], plane.topics))
    assert seen == [1, 2]
    assert findings == 0
    assert plane.read().states[NAME].revision == 3


def test_control_writers_that_do_not_share_the_transactional_id_lose_an_update_and_fork_the_chain(plane: Plane) -> None:
    servers, prefix = plane.kafka["bootstrap.servers"], plane.topics.prefix
    one, other = (Plane(servers, Unshared(prefix, suffix)) for suffix in ("one", "other"))
    seen, _ = overtaken(one, other)
    assert seen == [1]
    kinds = [finding.kind for finding in plane.findings()]
    assert "forked" in kinds
    assert "state" in kinds
    with pytest.raises(
        ChainBroken, match="the chain is forked: there is more than one entry 2; run `penstock audit ver"
    ):
        plane.note()


def test_an_expected_revision_is_compared_with_what_is_there_at_the_commit(plane: Plane) -> None:
    other = Plane(plane.kafka["bootstrap.servers"], plane.topics)
    asked = []

    def decide(world: World) -> Change | None:
        asked.append(world)
        if len(asked) == 1:
            other.change(lambda now: change("apply", 77, now))
        return applied(world, declared(5), READER, world.states[NAME].arms, 1)

    plane.change(lambda world: change("apply", 1, world))
    with pytest.raises(RevisionMoved, match="revision 1 was expected, but it is at revision 2"):
        plane.change(decide)
    assert len(asked) == 2


# deaths and lost answers


def test_what_a_dead_writer_left_open_is_undone_by_the_next_one(plane: Plane) -> None:
    plane.note("before")
    ghost = Producer({**plane.kafka, "transactional.id": plane.topics.transactional_id, "linger.ms": 0})
    ghost.init_transactions(10)
    ghost.begin_transaction()
    entry = chained(plane.read().head, **vars_of(plane.read().entries[-1], who="ghost"))
    ghost.produce(plane.topics.audit, entry.encode(), b"m")
    assert ghost.flush(10) == 0
    plane.note("after")
    with pytest.raises(KafkaException):
        ghost.commit_transaction(10)
    log = plane.read()
    assert [entry.who for entry in log.entries] == ["Ada", "Ada"]
    assert log.findings() == []


def vars_of(entry: Entry, **changes: Any) -> dict[str, Any]:
    kept = {name: getattr(entry, name) for name in Entry.__dataclass_fields__}
    for name in ("sequence", "previous", "hash"):
        del kept[name]
    return {**kept, **changes}


@pytest.mark.parametrize("rehearse", [True, False])
def test_a_change_that_is_refused_fences_nobody_where_it_is_rehearsed(plane: Plane, rehearse: bool) -> None:
    """Without a rehearsal is the control."""
    plane.note("first")
    other = Producer({**plane.kafka, "transactional.id": plane.topics.transactional_id})
    other.init_transactions(10)

    def refuse(world: World) -> None:
        raise ChangeRefused("made up")

    with pytest.raises(ChangeRefused, match="made up"):
        plane.writer().change(refuse, ADA, rehearse=rehearse)
    other.begin_transaction()
    other.produce(plane.topics.audit, b"", b"")
    if rehearse:
        other.commit_transaction(10)
    else:
        with pytest.raises(KafkaException):
            other.commit_transaction(10)


class Deaf:
    """A producer whose commit is decided or not, and whose answer is lost in either case."""

    def __init__(self, settings: dict[str, Any], decided: bool) -> None:
        self._producer, self._decided = Producer(settings), decided

    def __getattr__(self, name: str) -> Any:
        return getattr(self._producer, name)

    def commit_transaction(self, seconds: float) -> None:
        if self._decided:
            self._producer.commit_transaction(seconds)
        raise KafkaException(KafkaError(KafkaError._TIMED_OUT, "made up"))


def deaf_at_first(decided: bool) -> tuple[Callable[[dict[str, Any]], Any], list[Any]]:
    made: list[Any] = []

    def connect(settings: dict[str, Any]) -> Any:
        made.append(Deaf(settings, decided) if not made else Producer(settings))
        return made[-1]

    return connect, made


@pytest.mark.parametrize("decided", [True, False])
def test_a_change_whose_answer_was_lost_is_written_once(plane: Plane, decided: bool) -> None:
    connect, made = deaf_at_first(decided)
    written = plane.note("lost", connect=connect)
    log = plane.read()
    assert [entry.id for entry in log.entries] == [written.entries[0].id]
    assert len(made) == 2
    assert log.findings() == []


def test_control_a_writer_that_does_not_look_for_its_entry_writes_it_twice(
    plane: Plane, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ControlLog, "has", lambda *_: False)
    plane.note("lost", connect=deaf_at_first(True)[0])
    assert len(plane.read().entries) == 2


def test_an_outcome_that_stays_unknown_is_said(plane: Plane) -> None:
    with pytest.raises(ControlUnavailable, match=r"made up; look with `penstock history` whether it was changed"):
        plane.note(connect=lambda settings: Deaf(settings, False), seconds=0.0)
    assert plane.read().entries == []


def test_a_broker_that_goes_away_for_a_moment_is_waited_for(tmp_path: Path) -> None:
    with EmbeddedKafka(tmp_path / "kafka") as kafka:
        plane = Plane(kafka.bootstrap_servers)
        plane.note("before")
        asked = []

        def decide(world: World) -> Change | None:
            asked.append(world)
            if len(asked) == 1:
                kafka.kill()
                threading.Timer(1, kafka.start).start()
            return noted("m", "v", "after")

        assert plane.change(decide) is not None
        log = plane.read()
        assert (len(log.entries), log.findings()) == (2, [])


def test_no_broker_at_all_is_said_at_once() -> None:
    with pytest.raises(ControlUnavailable, match=r"no Kafka broker answers at 127\.0\.0\.1:1 "):
        Plane("127.0.0.1:1").note()


# what a writer refuses


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda c: c[:-1], "entry 4 is missing: the end was cut off"),
        (lambda c: [], "entries 1 to 4 are missing: the end was cut off"),
        (lambda c: [*c, follow(head_of(c[1]), who="Eve")], "the chain is forked: there is more than one entry 3"),
        (lambda c: [*c, follow(head_of(c[3]), who="Eve")], "names entry 4, but the audit goes on to entry 5"),
        (lambda c: [*c[:3], replace(c[3], who="Eve")], "entry 4 was edited"),
    ],
)
def test_nothing_is_written_onto_an_audit_whose_end_is_not_whole(
    plane: Plane, spoil: Callable[[list[Entry]], list[Entry]], words: str
) -> None:
    entries = chain(4)
    plane.forge(spoil(entries), head_of(entries[-1]))
    with pytest.raises(ChainBroken, match=f"{words}.*`penstock audit verify`"):
        plane.note()


@pytest.mark.parametrize("place", [1, 2, 4, 5])
def test_an_entry_that_cannot_be_read_is_passed_over_with_its_place(
    plane: Plane, place: int, caplog: pytest.LogCaptureFixture
) -> None:
    """A newer release wrote it: its schema is none of ours. `penstock audit verify` tells of it ever after."""
    entries = chain(5)
    plane.forge(entries[: place - 1])
    plane.put(plane.topics.audit, b"\xc3\x01of a newer release", b"m")
    plane.forge(entries[place:], head_of(entries[-1]))
    assert plane.note().head.sequence == 6
    assert f"{plane.topics.audit}/0 at offset" in caplog.text
    assert "it is passed over, and `penstock audit verify` tells of it" in caplog.text
    kinds = {finding.kind for finding in plane.findings()}
    assert "unreadable" in kinds
    assert kinds <= {"unreadable", "missing", "cut_begin"}


def test_one_record_that_cannot_be_read_hides_no_second_entry_that_is_missing(plane: Plane) -> None:
    entries = chain(5)
    plane.forge(entries[:2])
    plane.put(plane.topics.audit, b"\xc3\x01of a newer release", b"m")
    plane.forge(entries[4:], head_of(entries[-1]))
    with pytest.raises(ChainBroken, match="entries 3 to 4 are missing from the middle"):
        plane.note()


def test_topics_that_a_broker_does_not_show_are_not_taken_for_empty_ones(
    plane: Plane, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A writer that did would begin the audit a second time beside the first one."""
    plane.note()
    with monkeypatch.context() as hidden:
        hidden.setattr(control, "REACH_SECONDS", 1.0)
        hidden.setattr(Follower, "partitions", lambda *_: [])
        hidden.setattr(Follower, "exists", lambda *_: False)
        with pytest.raises(
            ControlUnavailable, match="exists, but a broker does not show it to us; nothing was changed"
        ):
            plane.note()
    assert plane.note().head.sequence == 2
    assert plane.findings() == []


def test_a_head_that_was_removed_stops_writers(plane: Plane) -> None:
    plane.forge(chain(2))
    with pytest.raises(ChainBroken, match="is missing, but the audit goes on to entry 2"):
        plane.note()


def test_an_old_beginning_that_retention_took_stops_nobody(plane: Plane) -> None:
    entries = chain(4)
    plane.forge(entries[2:], head_of(entries[-1]))
    assert plane.note().head.sequence == 5
    assert [finding.kind for finding in plane.findings()] == ["cut_begin"]


def test_a_state_that_cannot_be_read_stops_writers_until_it_is_replaced(plane: Plane) -> None:
    plane.change(lambda world: change("apply", 1, world))
    state = plane.read().states[NAME]
    plane.put(plane.topics.control, b"\xc3\x01later..", NAME.encode())
    with pytest.raises(ChainBroken, match="no record of control, or one of a newer release"):
        plane.change(lambda world: change("apply", 2, world))
    assert [finding.kind for finding in plane.findings()] == ["unreadable"]
    plane.put(plane.topics.control, state.encode(), NAME.encode())
    plane.change(lambda world: change("apply", 2, world))
    assert plane.findings() == []


def test_what_others_put_into_the_audit_is_found_and_stops_nobody(plane: Plane) -> None:
    plane.note()
    plane.put(plane.topics.audit, b"junk", b"m")
    assert plane.note().head.sequence == 2
    assert [finding.kind for finding in plane.findings()] == ["unreadable"]


def test_the_last_entries_are_found_behind_many_that_were_rolled_back(plane: Plane) -> None:
    plane.note()
    ghost = Producer({**plane.kafka, "transactional.id": "ghost", "linger.ms": 5})
    ghost.init_transactions(10)
    ghost.begin_transaction()
    for _ in range(3_000):
        ghost.produce(plane.topics.audit, b"rolled back", b"m")
    ghost.flush(30)
    ghost.abort_transaction(10)
    log = ControlLog(plane.kafka, plane.topics)
    log.settle()
    log.close()
    assert [entry.sequence for entry in log.entries] == [1]
    assert plane.note().head.sequence == 2


@pytest.mark.parametrize(
    ("partitions", "settings", "words"),
    [
        (4, {}, "has 4 partitions, but its order needs one"),
        (1, {"retention.ms": "1000"}, r"its retention.ms is 1000.*--add-config retention.ms=-1"),
        (1, {"retention.bytes": "1000"}, r"its retention.bytes is 1000"),
        (
            1,
            {"retention.ms": "-1", "cleanup.policy": "compact"},
            r"its cleanup.policy is compact.*cleanup.policy=delete",
        ),
    ],
)
def test_a_topic_that_would_lose_entries_is_refused(
    plane: Plane, partitions: int, settings: dict[str, str], words: str
) -> None:
    made = NewTopic(plane.topics.audit, partitions, 1, config={"retention.ms": "-1", **settings})
    admin = AdminClient(plane.kafka)
    admin.create_topics([made])[plane.topics.audit].result()
    with pytest.raises(Refused, match=words):
        plane.note()


def test_a_change_that_fits_into_no_record_is_refused_and_leaves_nothing(plane: Plane) -> None:
    with pytest.raises(ChangeRefused, match="the change does not fit into a record"):
        plane.note("x" * (5 << 20))
    assert plane.read().entries == []
    assert plane.note().head.sequence == 1


# topics


def test_topics_are_made_so_that_nothing_of_the_audit_vanishes(plane: Plane) -> None:
    from streams import guarantees

    names = list(plane.topics.settings())
    plane.topics.ensure(plane.kafka, *names)
    found = guarantees.read(AdminClient(plane.kafka), names).topics
    assert {name: found[name].settings["cleanup.policy"] for name in names} == {
        plane.topics.control: "compact",
        plane.topics.audit: "delete",
        plane.topics.swaps: "delete",
        plane.topics.status: "compact",
    }
    assert found[plane.topics.audit].settings["retention.ms"] == "-1"
    assert found[plane.topics.audit].settings["retention.bytes"] == "-1"
    assert int(found[plane.topics.status].settings["segment.ms"]) <= 600_000  # what is in it is not cleaned


def test_what_is_not_there_is_read_as_nothing_and_not_made(plane: Plane) -> None:
    log = plane.read()
    assert (log.states, log.entries, log.head, log.findings()) == ({}, [], NO_HEAD, [])
    assert plane.topics.audit not in AdminClient(plane.kafka).list_topics(timeout=10).topics


def test_a_reader_beside_writers_never_sees_half_a_transaction(plane: Plane) -> None:
    before = plane.note().head
    log = ControlLog(plane.kafka, plane.topics, whole=True)
    take, noted_meanwhile = log._take_control, []

    def meanwhile(message: Message) -> None:
        take(message)
        if not noted_meanwhile:
            noted_meanwhile.append(plane.note())

    log._take_control = meanwhile  # type: ignore[method-assign]
    log.settle()
    log.close()
    assert [entry.sequence for entry in log.entries] == [1, 2]
    assert log.findings() == []
    assert verify_chain(log.entries, before)  # the control: one topic read before the other


def test_the_hash_of_what_stands_in_kafka_is_that_of_its_content(plane: Plane) -> None:
    plane.note("one")
    plane.note("two")
    assert [entry.hash == hash_of(entry) for entry in plane.read().entries] == [True, True]
