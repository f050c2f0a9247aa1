"""Made-up courses and episodes of a deployment, for the tests of its report."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import numpy as np

from models.reference import Reference, Tally
from monitoring.cells import Group
from monitoring.course import Course, Grid
from monitoring.hindsight import Look, Span
from monitoring.profiles import Lineage
from monitoring.ticks import Ticks
from penstock.report.content import Found
from penstock.report.episodes import Episode
from tests.monitoring import dict_judging
from tests.monitoring.traffic import START, events, reference

MINUTE = 60_000
SPAN = Span(START, START + 10 * MINUTE)
LINEAGE = Lineage("active", "late", "v1", "0" * 16)


def counted(frame: Any, scores: Any, known: Reference) -> Tally:
    return Tally(frame.height, known.counter.count(frame, scores)[0])


def course(shift: float = 0.0, known: Reference | None = None, alarm: float | None = 12.0) -> Course:
    """Ten minutes of traffic whose wind moves in the second half, with evidence as a detector might have it."""
    known = known or reference()
    made = Course(known, Grid.over(SPAN))
    for minute in range(10):
        moved = shift if minute >= 5 else 0.0
        tally = counted(*events(500, minute, moved), known)
        seen = np.full(len(known.slices), 0.5)
        seen[0] += 4 * moved * max(minute - 4, 0)
        evidence = None if alarm is None else (seen, alarm)
        made.add(Look(LINEAGE, known, START + MINUTE * minute, tally, evidence))
    return made


def episode(**changed: Any) -> Episode:
    fields: dict[str, Any] = {
        "id": "a" * 32,
        "arm": "active",
        "model": "late",
        "version": "v1",
        "detector": "e_detector",
        "kind": "feature",
        "name": "wind",
        "severity": "critical",
        "onset": START + 5 * MINUTE,
        "opened": START + 6 * MINUTE,
        "summary": "wind: mean +1",
        "closed": None,
    }
    return Episode(**{**fields, **changed})


def found(shift: float = 1.0, **changed: Any) -> Found:
    fields: dict[str, Any] = {
        "deployment": "flights",
        "span": SPAN,
        "grid": Grid.over(SPAN),
        "courses": {LINEAGE: course(shift)},
        "counts": {"late": 3},
        "episodes": [episode()],
    }
    return Found(**{**fields, **changed})


WHO = ("active", "late", "v1")
OTHER = "next/late/v2"


def parts(
    shares: Sequence[float] = (0.9,) * 5 + (0.5,) * 5,
    *,
    deployment: str = "flights",
    begin: int = START // MINUTE,
    rows: int = 60,
    partition: int = 0,
    who: tuple[str, str, str] = WHO,
    values: Sequence[str] = ("EWR", "JFK"),
) -> list[bytes]:
    """Parts of the quality topic: in each minute `share` of the predictions of one arm are right, the other's half.

    begin: the first minute. values: of the segment origin.
    """
    draw, ticks, written = random.Random(partition), Ticks(MINUTE), []
    for minute, share in enumerate(shares, begin):
        time = minute * MINUTE
        for at in range(rows):
            truth = draw.random() < 0.5
            said = 0.8 if truth == (draw.random() < share) else 0.3
            other = 0.9 if draw.random() < 0.5 else 0.1
            found = [*dict_judging.scored("binary", said), *dict_judging.judged("binary", said, truth)]
            found += dict_judging.compared("binary", said, other, OTHER)
            found += dict_judging.won("binary", said, other, truth, OTHER)
            for what, name, cell, by in found:
                for place in (("", ""), ("origin", values[at % len(values)])):
                    dict_judging.add(ticks, time, Group(*who, *place, what, name), [(cell, by)])
        ticks.count("labels", rows)
        written += [value for _, value in ticks.close(deployment, partition, time + MINUTE)]
    return written
