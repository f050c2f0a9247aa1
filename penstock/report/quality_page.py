"""What the page says of quality and divergence."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from penstock.report import words
from penstock.report.charts import Lines, band, histogram
from penstock.report.markup import Markup, tag, together
from penstock.report.parts import plot, table

COUNTS = ("labelled", "predicted", "compared", "count")  # metrics that are numbers of events
SHOWN = 60  # values of a segment in a table
EDGE = 0.08  # of the height that a drawing leaves free above and below its numbers
HEAD = ("metric", "of", "number", "interval")


def quality_markup(content: Mapping[str, Any]) -> Markup:
    """Return the section on quality."""
    joined = content["joined"]
    counts = ", ".join(f"{name.replace('_', ' ')} {joined[name]:,}" for name in sorted(joined) if joined[name])
    parts = [
        tag("h2", "Quality"),
        _legend(),
        tag("p", f"Of the joins of labels: {counts or 'nothing'}.", class_="soft"),
    ]
    if content["left_out"]:
        text = f"{content['left_out']:,} further values of segments are not shown"
        parts.append(tag("p", f"{text}: `penstock quality --by` tells them.", class_="warn"))
    for whole in (each for each in content["versions"] if not each["segment"]):
        parts += _version(content, whole, [each for each in content["versions"] if _is_part(each, whole)])
    return together(parts)


def _legend() -> Markup:
    return tag(
        "p",
        "Numbers so far in this range. Intervals hold with 95 % at all times together: look at them when you like.",
        tag("span", class_="key now"),
        "so far",
        tag("span", class_="key band"),
        "its interval",
        tag("span", class_="key thin"),
        "of that time alone",
        class_="soft",
    )


def _is_part(each: Mapping[str, Any], whole: Mapping[str, Any]) -> bool:
    names = ("arm", "model", "version")
    return bool(each["segment"]) and all(each[name] == whole[name] for name in names)


def _version(content: Mapping[str, Any], whole: Mapping[str, Any], parts: Sequence[Mapping[str, Any]]) -> list[Markup]:
    metrics = whole["metrics"]
    estimates = any(each["estimate"] for each in metrics)
    found = [tag("h3", f"{whole['arm']}: {whole['model']}@{whole['version']}"), table(HEAD, list(_rows(metrics)), (2,))]
    if estimates:
        text = (
            "An estimate is told from scores alone, before labels come (CBPE): a change of what they mean is not in it."
        )
        found.append(tag("p", text, class_="soft"))
    found.append(tag("div", *_plots(content, metrics), class_="plots"))
    for segment in sorted({each["segment"] for each in parts}):
        found.append(_segment(content, segment, [each for each in parts if each["segment"] == segment]))
    return found


def _rows(metrics: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str | Markup, ...]]:
    for each in metrics:
        name = together([each["metric"], " ", tag("span", "estimate", class_="warn") if each["estimate"] else None])
        yield name, each["name"], _number(each, each["number"]), _interval(each)


def _number(metric: Mapping[str, Any], value: float | None) -> str:
    if value is not None and metric["metric"] in COUNTS:
        return f"{value:,.0f}"
    return words.NOTHING if value is None else f"{value:,.4g}"


def _interval(metric: Mapping[str, Any]) -> str:
    if metric["low"] is None or metric["high"] is None:
        return words.NOTHING
    return f"{metric['low']:.4g} .. {metric['high']:.4g}"


def _plots(content: Mapping[str, Any], metrics: Sequence[Mapping[str, Any]], prefix: str = "") -> Iterator[Markup]:
    """Yield a drawing of each number that has at least two moments."""
    for each in metrics:
        course = Lines(**each["over_time"]) if "over_time" in each else None
        if course is None or each["metric"] in COUNTS or sum(value is not None for value in course.number) < 2:
            continue
        bottom, top = _edges(course)
        what = f"{prefix}{each['metric']}" + (f" of {each['name']}" if each["name"] else "")
        kind = " (an estimate)" if each["estimate"] else ""
        caption = f"{what}{kind}: {_number(each, each['number'])}; the edges are {bottom:.4g} and {top:.4g}."
        yield plot(band(what, course, bottom, top), content, caption)


def _edges(course: Lines) -> tuple[float, float]:
    """Return the values of the edges: around the numbers and the last interval; earlier ones may be far wider."""
    values = [value for value in (*course.number, *course.alone) if value is not None]
    for bounds in (course.low, course.high):
        values += [value for value in bounds if value is not None][-1:]
    low, high = min(values), max(values)
    room = (high - low) * EDGE or abs(high) * EDGE or 1.0
    return (max(low - room, 0.0) if low >= 0 else low - room), high + room


def _segment(content: Mapping[str, Any], segment: str, values: Sequence[Mapping[str, Any]]) -> Markup:
    names = list(dict.fromkeys(m["metric"] for each in values for m in each["metrics"] if not m["name"]))
    shown = sorted(values, key=lambda each: -_size(each))[:SHOWN]
    rows = [(each["value"], *(_cell(each, name) for name in names)) for each in shown]
    inner = [table((segment, *names), rows, tuple(range(1, len(names) + 1)))]
    if len(values) > SHOWN:
        inner.append(tag("p", f"{len(values) - SHOWN} with fewer events are not shown.", class_="soft"))
    drawn = (plot for each in shown[:12] for plot in _plots(content, each["metrics"], f"{each['value']}: "))
    inner.append(tag("div", *drawn, class_="plots"))
    return tag("details", tag("summary", tag("b", f"By {segment}"), words.count(len(values), "value")), *inner)


def _size(place: Mapping[str, Any]) -> float:
    return max((m["number"] or 0.0 for m in place["metrics"] if m["metric"] in COUNTS and not m["name"]), default=0.0)


def _cell(place: Mapping[str, Any], name: str) -> Markup:
    for metric in place["metrics"]:
        if metric["metric"] == name and not metric["name"]:
            interval = _interval(metric)
            small = None if interval == words.NOTHING else tag("span", f" {interval}", class_="soft")
            return together([_number(metric, metric["number"]), small])
    return together([words.NOTHING])


def divergence_markup(content: Mapping[str, Any]) -> Markup:
    """Return the section on divergence: what two arms said of the same events."""
    text = (
        "What another arm said of the same events. Differences are the second less the first; intervals are those of a "
        "paired comparison and hold at all times together."
    )
    parts = [tag("h2", "Divergence"), tag("p", text, class_="soft")]
    whole = [each for each in content["pairs"] if not each["segment"]]
    for pair in whole:
        parts += _pair(content, pair, [each for each in content["pairs"] if _is_part(each, pair)])
    return together(parts)


def _pair(content: Mapping[str, Any], pair: Mapping[str, Any], parts: Sequence[Mapping[str, Any]]) -> list[Markup]:
    first = f"{pair['arm']}/{pair['model']}/{pair['version']}"
    nameless = [{**metric, "name": ""} for metric in pair["metrics"]]
    found = [tag("h3", f"{first} and {pair['beside']}")]
    found.append(table(("metric", "number", "interval"), [(a, c, d) for a, _, c, d in _rows(nameless)], (1,)))
    if pair["differences"]:
        found.append(_differences(pair["differences"]))
    found.append(tag("div", *_plots(content, nameless), class_="plots"))
    mine = [each for each in parts if each["beside"] == pair["beside"]]
    for segment in sorted({each["segment"] for each in mine}):
        values = [each for each in mine if each["segment"] == segment]
        plain = [{**each, "metrics": [{**m, "name": ""} for m in each["metrics"]]} for each in values]
        found.append(_segment(content, segment, plain))
    return found


def _differences(rows: Sequence[Mapping[str, Any]]) -> Markup:
    total = max(sum(row["events"] for row in rows), 1)
    labels = ["no difference" if row["from"] == row["to"] else f"{row['from']:.3g} .. {row['to']:.3g}" for row in rows]
    chart = histogram("differences of scores", labels, [row["events"] / total for row in rows])
    ends = tag("div", tag("span", "-1"), tag("span", "0"), tag("span", "+1"), class_="ends")
    return tag("figure", tag("figcaption", f"Difference of scores, of {total:,} events"), chart, ends)
