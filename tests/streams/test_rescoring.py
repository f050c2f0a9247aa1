"""A run of a rescore over transactions that fail, outcomes that nobody knows, and others that do the same."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from streams import rescoring
from streams.batch import Records
from streams.errors import Fenced, Refused, Rewind, StartOver
from streams.memory import StoredMessage
from streams.offsets import OffsetRange
from streams.quarantine import Quarantine
from streams.reading import Ends, Point
from streams.rescore import Options, Report
from streams.stretch import Stretch
from streams.topics import Topic
from streams.work import Composer, Route
from tests.streams.fakes import CODEC, NumberDecoder, scorer

Failure = Callable[["World"], None]


@dataclass
class World:
    """A topic of two partitions, what a group committed of it, and what was published.

    before, after: called for each transaction to come, before its records are there or behind; they may raise.
    """

    ends: Ends
    kept_from: dict[int, int] = field(default_factory=dict)
    committed: dict[int, int] = field(default_factory=dict)
    published: dict[str, list[bytes | None]] = field(default_factory=dict)
    before: list[Failure | None] = field(default_factory=list)
    after: list[Failure | None] = field(default_factory=list)
    lives: int = 0


class Reader:
    """As streams.reading.TopicReader; each event is the text of its offset."""

    def __init__(self, world: World) -> None:
        self._world = world
        world.lives += 1

    def committed(self, topic: str, partitions: Any) -> dict[int, int]:
        return dict(self._world.committed)

    def ends(self, topic: str) -> Ends:
        return {0: (0, len(self._world.published.get(topic, [])))}

    def bounds(self, topic: str, partition: int) -> tuple[int, int]:
        return self._world.kept_from.get(partition, 0), self._world.ends[partition][1]

    def read(self, topic: str, ends: Ends, limit: int) -> Iterator[list[StoredMessage]]:
        for partition, (first, last) in ends.items():
            offsets = range(max(first, self.bounds(topic, partition)[0]), last)
            for at in range(0, len(offsets), limit):
                yield [StoredMessage((b"%d" % o, b"k", partition, o, 5, None)) for o in offsets[at : at + limit]]

    def metadata(self) -> object:
        return None

    def close(self) -> None:
        """Nothing is open."""


class Sink:
    """As streams.sink.TransactionalSink: what it publishes is committed with its offsets, or not at all."""

    def __init__(self, world: World) -> None:
        self._world = world

    def begin(self) -> None:
        """Nobody is fenced."""

    def publish(self, records: Sequence[Records], positions: Mapping[int, int]) -> None:
        world = self._world
        if world.before and (failure := world.before.pop(0)) is not None:
            failure(world)
        for group in records:
            world.published.setdefault(group.topic, []).extend(group.values)
        world.committed |= positions
        if world.after and (failure := world.after.pop(0)) is not None:
            failure(world)

    def close(self) -> None:
        """Nothing is open."""


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    made = World({0: (0, 10), 1: (0, 10)})
    monkeypatch.setattr(rescoring, "TopicReader", lambda kafka, group: Reader(made))
    monkeypatch.setattr(rescoring, "TransactionalSink", lambda *args, **more: Sink(made))
    monkeypatch.setattr(rescoring, "RETRY_SECONDS", (0.0,))
    return made


def rescored(
    world: World,
    tmp_path: Path,
    *,
    decoder: Any = None,
    quarantine: Quarantine | None = None,
    stopping: Callable[[], bool] = lambda: False,
    **more: Any,
) -> Report:
    report = Report("fake", 1, "m", "v", "in", "out", "letters", "g", [], "")
    errand = SimpleNamespace(
        stretch=Stretch("in", world.ends, {}),
        group="g",
        output=Topic("out", 1, 1 << 20),
        letters=Topic("letters", 1, 1 << 20),
        quarantine=quarantine or Quarantine(),
        scorer=scorer(decoder),
        composer=Composer(Route("fake", "in", 2, "out", 1, "letters", 1)),
        report=lambda: report,
    )
    told = {"batch_events": 4, "state_folder": tmp_path, **more}
    options = Options({}, "", "m@v", Point(ms=0), Point(ms=0), **told)
    return rescoring.rescore(cast(Any, errand), options, stopping)


def places(world: World) -> list[tuple[int, int]]:
    found = [CODEC.decode(value or b"") for value in world.published.get("out", [])]
    return [(each["source_partition"], each["source_offset"]) for each in found]


EVERY = [(partition, offset) for partition in (0, 1) for offset in range(10)]


def fail(error: Exception) -> Failure:
    def failing(world: World) -> None:
        raise error

    return failing


def test_all_of_the_range_is_scored_and_committed_and_a_second_run_does_nothing(world: World, tmp_path: Path) -> None:
    first = rescored(world, tmp_path)
    assert (first.done, first.events, first.inferences, first.earlier) == (True, 20, 20, 0)
    assert (places(world), world.committed) == (EVERY, {0: 10, 1: 10})
    second = rescored(world, tmp_path)
    assert (second.done, second.events, second.earlier) == (True, 0, 20)
    assert places(world) == EVERY


@pytest.mark.parametrize("error", [Rewind("aborted"), StartOver("who knows")])
@pytest.mark.parametrize("place", range(6))
def test_what_a_failed_transaction_did_not_publish_comes_again(
    world: World, tmp_path: Path, error: Exception, place: int
) -> None:
    world.before = [*[None] * place, fail(error)]
    report = rescored(world, tmp_path)
    assert (places(world), report.events, report.inferences) == (EVERY, 20, 20)
    assert world.lives == 2


@pytest.mark.parametrize("place", range(7))
def test_what_was_committed_although_nobody_said_so_is_counted_and_not_repeated(
    world: World, tmp_path: Path, place: int
) -> None:
    world.after = [*[None] * place, fail(StartOver("the answer was lost"))]
    report = rescored(world, tmp_path)
    assert (places(world), report.events, report.done) == (EVERY, 20, True)


def test_one_that_another_process_overtakes_ends(world: World, tmp_path: Path) -> None:
    def overtaken(world: World) -> None:
        world.committed[0] = 3  # no batch of this run ends there
        raise StartOver("the producer was fenced")

    world.before = [None, None, overtaken]
    with pytest.raises(Fenced, match="another process runs the same rescore: in/0 was committed up to 3"):
        rescored(world, tmp_path)


def test_records_without_any_committed_offset_are_not_added_to(world: World, tmp_path: Path) -> None:
    world.published["out"] = [b"of something else"]
    with pytest.raises(Refused, match="topic out holds records"):
        rescored(world, tmp_path)
    assert (world.published, world.committed) == ({"out": [b"of something else"]}, {})


def test_events_that_are_gone_are_refused_or_counted_once_however_often_it_begins_anew(
    world: World, tmp_path: Path
) -> None:
    world.kept_from = {1: 4}
    with pytest.raises(Refused, match="what is left: in/1 from offset 4 on"):
        rescored(world, tmp_path)
    world.before = [None, fail(Rewind("aborted")), None, None, fail(Rewind("aborted"))]
    report = rescored(world, tmp_path, partial=True)
    assert (report.lost, report.events, report.done) == (4, 16, True)
    assert places(world) == [each for each in EVERY if each not in [(1, offset) for offset in range(4)]]


def test_events_that_retention_takes_meanwhile_end_it(world: World, tmp_path: Path) -> None:
    def cut(world: World) -> None:
        world.kept_from = {1: 6}

    world.after = [cut]
    with pytest.raises(Refused, match="what is left: in/1 from offset 6 on"):
        rescored(world, tmp_path)
    assert {partition for partition, _ in places(world)} <= {0}  # nothing behind the hole was committed


def test_quarantined_events_are_dead_letters_and_reach_no_decoder(world: World, tmp_path: Path) -> None:
    report = rescored(world, tmp_path, quarantine=Quarantine([OffsetRange("in", 0, 2, 4)]))
    assert (report.inferences, dict(report.reasons)) == (18, {"quarantined": 2})
    assert world.published["letters"] == [b"2", b"3"]


def test_schemas_that_cannot_be_read_are_waited_for(world: World, tmp_path: Path) -> None:
    report = rescored(world, tmp_path, decoder=NumberDecoder(down=2))
    assert (report.events, world.lives, places(world)) == (20, 1, EVERY)


def test_told_to_stop_it_commits_what_it_has_and_says_that_it_is_not_done(world: World, tmp_path: Path) -> None:
    report = rescored(world, tmp_path, stopping=lambda: len(world.published.get("out", [])) >= 8)
    assert not report.done
    assert report.events == len(world.published["out"]) < 20
    whole = rescored(world, tmp_path)
    assert (whole.done, whole.earlier + whole.events, places(world)) == (True, 20, EVERY)


def test_a_second_run_on_this_machine_is_refused_at_once(world: World, tmp_path: Path) -> None:
    def again(_: World) -> None:
        with pytest.raises(Fenced, match="is running already on this machine"):
            rescored(world, tmp_path)

    world.before = [None, again]
    assert rescored(world, tmp_path).done
