"""The sections on quality and divergence: what is read for them, and what they say as plain values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from monitoring import judging
from monitoring.cells import Group
from monitoring.errors import PartInvalid
from monitoring.hindsight import Span
from monitoring.totals import Part, Told, part_of
from penstock.report import words
from penstock.report.judged import Ledger
from penstock.report.quality_page import divergence_markup, quality_markup
from penstock.report.section import Section
from schemas.deployment import Deployment
from streams.reading import TopicReader, values_of

SLACK_MS = 3_600_000  # how much earlier than its tick a part may seem to be published
READ = 1_000
ESTIMATED = "estimated_"  # so begin the metrics that scores alone tell, before labels come
MAIN = ("accuracy", "mae", "held_mae", "estimated_accuracy", "agreement")  # over time, of values of segments too


def sections(reader: TopicReader, deployment: Deployment, span: Span) -> Sequence[Section]:
    """Return a section on quality and one on divergence, each where there is something to tell.

    Nothing is read where nothing is sampled. Raises Refused where the topic cannot be read.
    """
    topic = deployment.quality_topic
    if deployment.sampling is None or not reader.partitions(topic):
        return []
    groups = tuple(deployment.monitor.fairness) if deployment.monitor is not None else ()
    ledger = Ledger(deployment.name, span, max(len(reader.partitions(deployment.sample_topic)), 1), groups)
    for part in _parts(reader, topic, span):
        ledger.take(part)
        if ledger.done():
            break
    ledger.finish()
    return made(ledger)


def made(ledger: Ledger) -> Sequence[Section]:
    """Return the sections of what was read."""
    beside = {(group[:5], group.name) for group in ledger.totals.tables if group.what == "divergence"}
    told = list(ledger.last())
    judged = [each for each in told if (each[:5], each.name) not in beside]
    compared = [each for each in told if (each[:5], each.name) in beside]
    found = []
    if judged:
        content = {**_common(ledger), "joined": dict(ledger.counts), "versions": list(_places(ledger, judged))}
        found.append(Section("quality", content, quality_markup(content)))
    if compared:
        content = {**_common(ledger), "pairs": list(_pairs(ledger, compared))}
        found.append(Section("divergence", content, divergence_markup(content)))
    return found


def _parts(reader: TopicReader, topic: str, span: Span) -> Iterator[Part]:
    """Yield the parts that can tell of a span; what is none is passed over."""
    ends = {0: reader.bounds(topic, 0)}
    first = reader.at(topic, max(span.begin - SLACK_MS, 0), ends)[0]
    for value in values_of(reader.read(topic, {0: (max(ends[0][0], first), ends[0][1])}, READ)):
        try:
            yield part_of(value)
        except PartInvalid:
            continue


def _common(ledger: Ledger) -> dict[str, Any]:
    return {
        "begin": ledger.span.begin,
        "end": ledger.span.end,
        "bin_ms": ledger.grid.width,
        "times": ledger.grid.starts(),
        "left_out": len(ledger.left_out),
    }


def _places(ledger: Ledger, told: Sequence[Told]) -> Iterator[dict[str, Any]]:
    """Yield each version in an arm, all of its events first, then each value of a segment of theirs."""
    places: dict[tuple[str, ...], list[Told]] = {}
    for each in told:
        places.setdefault(each[:5], []).append(each)
    for (arm, model, version, segment, value), mine in sorted(places.items(), key=_active_first):
        metrics = [_metric(ledger, each) for each in mine]
        yield {
            **{"arm": arm, "model": model, "version": version, "segment": segment, "value": value},
            "metrics": metrics,
        }


def _active_first(place: tuple[tuple[str, ...], Any]) -> tuple[Any, ...]:
    return (place[0][0] != "active", *place[0])


def _pairs(ledger: Ledger, told: Sequence[Told]) -> Iterator[dict[str, Any]]:
    pairs: dict[tuple[str, ...], list[Told]] = {}
    for each in told:
        pairs.setdefault((*each[:5], each.name), []).append(each)
    for (arm, model, version, segment, value, other), mine in sorted(pairs.items(), key=_active_first):
        group = Group(arm, model, version, segment, value, "divergence", other)
        yield {
            **{"arm": arm, "model": model, "version": version, "segment": segment, "value": value, "beside": other},
            "metrics": [_metric(ledger, each) for each in mine],
            "differences": _differences(ledger.totals.tables.get(group, {})) if not segment else [],
        }


def _metric(ledger: Ledger, told: Told) -> dict[str, Any]:
    found: dict[str, Any] = {
        "name": told.name,
        "metric": told.metric,
        "number": words.plain(told.number),
        "low": words.plain(told.low),
        "high": words.plain(told.high),
        "estimate": told.metric.startswith(ESTIMATED),
    }
    course = ledger.courses.get(tuple(told[:7]))
    if course is not None and (not told.segment or told.metric in MAIN):
        names = ("number", "low", "high", "alone")
        found["over_time"] = {name: [words.plain(each) for each in getattr(course, name)] for name in names}
    return found


def _differences(found: Mapping[int, int]) -> list[dict[str, Any]]:
    """Return how many events had which difference of scores: second less first, in 64ths either side of 0."""
    first, last = judging.DIFFERENCE, judging.DIFFERENCE + 2 * judging.BINS
    counts = [max(found.get(cell, 0), 0) for cell in range(first, last + 1)]
    if not any(counts):
        return []
    return [
        {"from": low, "to": high, "events": count}
        for count, (low, high) in zip(counts, map(_bounds, range(-judging.BINS, judging.BINS + 1)), strict=True)
    ]


def _bounds(place: int) -> tuple[float, float]:
    if place == 0:
        return 0.0, 0.0
    near, far = (abs(place) - 1) / judging.BINS, abs(place) / judging.BINS
    return (near, far) if place > 0 else (-far, -near)
