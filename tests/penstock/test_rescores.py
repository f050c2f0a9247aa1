"""The page and the JSON of a rescore."""

from __future__ import annotations

import json
import math
from collections import Counter
from typing import Any

import polars as pl

from penstock.rescores import content, page, plain
from streams.comparing import Compared
from streams.comparison import Comparison
from streams.inferences import Output
from streams.rescore import Report

OUTPUTS = [Output("late", "number"), Output("chances", "list", ("a", "b"))]


def report(**more: Any) -> Report:
    told = {
        "deployment": "flights",
        "revision": 3,
        "model": "flights",
        "version": "2ed57e49",
        "source": "flights.events",
        "output": "flights.rescore.2ed57e49-aa",
        "dead_letters": "flights.rescore.2ed57e49-aa.dead-letters",
        "group": "penstock.flights.rescore.2ed57e49-aa",
        "ranges": ["flights.events/0@5-1004"],
        "options": "--from 0:5 --to 0:1005",
        "events": 1_000,
        "inferences": 997,
        "reasons": Counter(malformed=2, not_finite=1),
        "done": True,
    }
    return Report(**{**told, **more})


def frame(late: list[float], key: bytes | None = b"AA12", **lineage: str) -> pl.DataFrame:
    named = {"arm": "active", "model": "flights", "version": "1f98511b", **lineage}
    rows = [
        {**named, "partition": 0, "offset": at, "output.late": score, "output.chances": [score, 1 - score], "key": key}
        for at, score in enumerate(late)
    ]
    dtypes = {"output.late": pl.Float64, "output.chances": pl.List(pl.Float64), "key": pl.Binary}
    return pl.DataFrame(rows, schema_overrides=dtypes)


def compared(now: pl.DataFrame | None, then: pl.DataFrame | None, **more: Any) -> Compared:
    comparison = Comparison(OUTPUTS)
    comparison.add(now, then)
    told: dict[str, Any] = {"unreadable": 0, "only_now": (), "only_then": (), "seconds": 0.1}
    return Compared(comparison, "flights.inferences", **{**told, **more})


def test_the_page_says_what_was_done_and_how_it_differs() -> None:
    text = page(report(), compared(frame([0.25, 0.9, 0.5]), frame([0.25, 0.1])))
    assert text.splitlines()[0] == "flights.events/0@5-1004"
    assert "997  inferences in flights.rescore.2ed57e49-aa\n" in text
    assert "3  dead letters in flights.rescore.2ed57e49-aa.dead-letters (malformed: 2, not_finite: 1)" in text
    assert "2  events have both" in text
    assert "1  have only the new inference" in text
    assert "active flights@1f98511b: 2 pairs" in text
    (row,) = (line.split() for line in text.splitlines() if line.strip().startswith("chances"))
    assert row[1:4] == ["2", "50.00", "%"]
    assert "flights.events/0@1 'AA12'  late 0.1 -> 0.9; chances [0.1, 0.9] -> [0.9, 0.1]  (active)" in text
    assert "!" not in text


def test_the_page_says_how_to_go_on_and_what_was_not_there() -> None:
    text = page(report(done=False, earlier=40, lost=7), None)
    assert "stopped before the end; the same command with these ends goes on:\n  --from 0:5 --to 0:1005" in text
    assert "40  offsets were done by earlier runs" in text
    assert "7  events at most that retention had removed" in text
    assert "note" not in text
    told = page(report(notes=["it ends before"]), None).splitlines()
    assert told[:3] == ["flights.events/0@5-1004", "note: it ends before", ""]
    nothing = page(report(), compared(frame([0.5]), None))
    assert (
        nothing.splitlines()[-1]
        == "flights.inferences has no inferences of these events: there is nothing to compare with"
    )


def test_what_should_not_be_is_marked() -> None:
    twice = pl.concat([frame([0.5]), frame([0.5])])
    text = page(report(), compared(twice, frame([0.5], None), unreadable=2, only_now=("chances",), only_then=("old",)))
    assert "!             1  new inferences stand there twice" in text
    assert "!             2  are no inferences" in text
    assert "outputs that there are only now, or in another form: chances" in text
    assert not any(line.strip().startswith("chances") for line in text.splitlines())


def test_all_of_it_is_json_whatever_the_numbers_are() -> None:
    told = content(report(), compared(frame([math.nan, 0.5]), frame([0.5, math.inf], None)))
    found = json.loads(json.dumps(told, allow_nan=False))
    assert (found["reasons"], found["comparison"]["paired"]) == ({"malformed": 2, "not_finite": 1}, 2)
    assert found["comparison"]["versions"][0]["outputs"]["late"]["incomparable"] == 2
    assert found["comparison"]["versions"][0]["outputs"]["late"]["mean_difference"] is None
    assert content(report(), None)["comparison"] is None
    assert plain([1.0, math.nan, math.inf]) == [1.0, "nan", "inf"]
