"""Segments of events: text stays, is cut, or is the label of a number's bin; what cannot be one is refused by name."""

from __future__ import annotations

import polars as pl
import pytest

from models.binning import Numbers
from models.reference import Reference
from schemas.errors import DeploymentInvalid
from streams.segments import CHARACTERS, segments_of

COLUMNS = {
    "origin": pl.Enum(["JFK", "LGA"]),
    "dest": pl.String(),
    "late": pl.Boolean(),
    "wind": pl.Float64(),
    "legs": pl.Int64(),
    "at": pl.Datetime("ms", "UTC"),
}
REFERENCE = Reference.from_frame(pl.DataFrame({"wind": [1.0, 2.0, 3.0, 4.0], "dest": ["a", "b", "a", "b"]}))


def told(name: str, values: list[object]) -> list[str | None]:
    texts = segments_of([name], COLUMNS, REFERENCE)[name]
    return texts(pl.Series(name, values, COLUMNS[name])).to_list()


def test_text_and_truth_stay_as_they_are() -> None:
    assert told("origin", ["JFK", None]) == ["JFK", None]
    assert told("dest", ["", "x", None]) == ["", "x", None]
    assert told("late", [True, False, None]) == ["true", "false", None]


def test_long_text_is_cut_by_characters() -> None:
    assert told("dest", ["ü" * (CHARACTERS + 1)]) == ["ü" * CHARACTERS]


def test_a_number_is_the_label_of_its_bin_in_the_reference() -> None:
    (bins,) = (each for each in REFERENCE.features if each.name == "wind")
    assert isinstance(bins, Numbers)
    values = [1.0, 2.5, 3.9, -1e9, 1e9, *bins.edges]
    assert told("wind", [*values]) == [bins.label(sum(edge <= value for edge in bins.edges)) for value in values]
    assert told("wind", [None, float("nan")]) == [None, None]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("gone", "the event schema has no column 'gone'; it has origin, dest"),
        ("legs", "legs is a number, and the reference of the model has no bins for it"),
        ("at", "at is Datetime"),
    ],
)
def test_what_cannot_be_a_segment_is_refused_by_name(name: str, said: str) -> None:
    with pytest.raises(DeploymentInvalid) as caught:
        segments_of(["origin", name], COLUMNS, REFERENCE)
    (problem,) = caught.value.problems
    assert problem.startswith("monitor.segments: ")
    assert said in problem


def test_a_number_without_a_reference_is_refused() -> None:
    with pytest.raises(DeploymentInvalid, match="wind is a number"):
        segments_of(["wind"], COLUMNS, None)
