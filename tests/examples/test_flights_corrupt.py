"""Each damage done to an event is refused by the decoder, and costs that event only."""

from __future__ import annotations

import pytest

from examples.flights import data
from examples.flights.corrupt import DAMAGES, Corrupter
from examples.flights.train import FOLDER
from penstock.client.events import EventEncoder
from penstock.config import load_deployment
from schemas.decode import EventDecoder
from schemas.sources import SchemaFolder, Writers

YEAR = data.load().every(20_000)
ENCODER = EventEncoder(FOLDER / "event.avsc")
VALUES = ENCODER.encode_frame(YEAR.events)


def decoder() -> EventDecoder:
    loaded = load_deployment(FOLDER / "deployment.yaml")
    writers = Writers(topic=None, registry=None, folder=SchemaFolder(FOLDER))
    return EventDecoder(loaded.reader, writers=writers, checks=loaded.deployment.input.checks)


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_copy_is_refused_and_its_neighbours_are_not(name: str) -> None:
    damaged = DAMAGES[name](ENCODER, YEAR.events.row(3, named=True), VALUES[3])
    decoded = decoder().decode([*VALUES[:4], damaged, *VALUES[4:]])
    assert [rejection.row for rejection in decoded.rejected] == [4]
    assert decoded.frame.select(YEAR.events.columns).equals(YEAR.events)


def test_an_undamaged_year_is_accepted_whole() -> None:
    decoded = decoder().decode(VALUES)
    assert decoded.rejected == []
    assert decoded.frame.select(YEAR.events.columns).equals(YEAR.events)


def test_corruption_is_seeded_counted_and_as_frequent_as_asked() -> None:
    def corrupted() -> tuple[list[bytes | None], Corrupter]:
        corrupter = Corrupter(ENCODER, 25)
        copies = [corrupter.copy(lambda: YEAR.events.row(0, named=True), VALUES[0]) for _ in range(400)]
        return [value for follows, value in copies if follows], corrupter

    (first, corrupter), (second, _) = corrupted(), corrupted()
    assert first == second
    assert corrupter.total == len(first) == pytest.approx(100, abs=30)
    assert all(corrupter.done.values())


def test_no_corruption_was_asked_for_none_comes() -> None:
    corrupter = Corrupter(ENCODER, 0)
    assert not any(corrupter.copy(dict, VALUES[0])[0] for _ in range(400))
    assert corrupter.total == 0
