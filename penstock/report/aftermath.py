"""The sections on versions that took over and on requests for new ones, as the monitor told them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from monitoring.hindsight import Span
from penstock.aftermath import COMPARISONS, RETRAINING, side, told
from penstock.report import words
from penstock.report.markup import Markup, tag, together
from penstock.report.parts import table
from penstock.report.section import Section
from schemas.deployment import Deployment
from streams.reading import TopicReader, values_of

READ = 1_000
NUMBERS = ("number", "of", "before", "since")


def sections(reader: TopicReader, deployment: Deployment, span: Span) -> Sequence[Section]:
    """Return a section on takeovers and one on requests, each where there is something to tell.

    Raises Refused where a topic cannot be read.
    """
    took = _told(reader, COMPARISONS, "comparison", deployment.name, span)
    asked = _told(reader, RETRAINING, "retraining", deployment.name, span)
    found = [Section("takeovers", {"told": took}, takeovers_markup(took))] if took else []
    return found + ([Section("retraining", {"told": asked}, retraining_markup(asked))] if asked else [])


def _told(reader: TopicReader, topic: str, name: str, deployment: str, span: Span) -> list[dict[str, Any]]:
    """Return the records of a deployment and range, each once, in the order of their times, with these in ms."""
    if not reader.partitions(topic):
        return []
    values = values_of(reader.read(topic, reader.ends(topic), READ))
    return [record for record in map(_plain, told(values, name, deployment)) if span.holds(record["at"])]


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _plain(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_plain(each) for each in value]
    return round(value.timestamp() * 1000) if isinstance(value, datetime) else value


def takeovers_markup(found: Sequence[Mapping[str, Any]]) -> Markup:
    """Return the section on versions that took over."""
    parts = [tag("h2", "Versions that took over")]
    for each in found:
        before, after = each["before"], each["after"]
        title = (
            f"{each['arm']}: {after['model']}@{after['version'][:8]} after {before['model']}@{before['version'][:8]}"
        )
        windows = " and ".join(
            f"{words.count(window['rows'], 'event')} {when} ({words.span(window['since'], window['until'])})"
            for when, window in (("before", before), ("since", after))
        )
        rows = [
            (number["metric"], number["of"], side(number, "before"), side(number, "after"))
            for number in each["numbers"]
        ]
        parts += [
            tag("h3", f"{title}: {each['what']}"),
            tag("p", f"{each['summary']}."),
            tag("p", f"Of {windows}.", class_="soft"),
            table(NUMBERS, rows, (2, 3)),
        ]
    return together(parts)


def retraining_markup(found: Sequence[Mapping[str, Any]]) -> Markup:
    """Return the section on requests for new versions."""
    rows = [
        (
            words.moment(each["at"]),
            f"{each['arm']}: {each['model']}@{each['version'][:8]}",
            ", ".join(each["features"]) or "its quality",
            each["topic"],
            words.span(each["since"], each["until"]),
        )
        for each in found
    ]
    head = ("asked", "version", "moved", "train on", "from and to")
    return together([tag("h2", "A new version is asked for"), table(head, rows)])
