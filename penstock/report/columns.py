"""What the page says of one column: both histograms, the distances, and how it went over time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from penstock.report import words
from penstock.report.charts import bars, lines
from penstock.report.markup import Markup, tag
from penstock.report.parts import plot, table

EDGE = 1.15  # of the highest value, where a drawing ends
DETAILED = 20  # columns apart that are told in detail


def by_segment(told: Mapping[str, Any], version: Mapping[str, Any]) -> Markup | None:
    """Return what there is of the columns that are counted apart for values of segments, None without any.

    Only those that differ are told in detail, the worst first: there may be hundreds.
    """
    apart = [column for column in version["columns"] if column["segment"]]
    if not apart:
        return None
    differ = [column for column in apart if _differs(column, version)]
    worst = (details(told, version, column, opened=False) for column in differ[:DETAILED])
    head = tag("summary", tag("b", "By segment"), f"{words.count(len(apart), 'column')} apart, {len(differ)} differ")
    return tag("details", head, overview(version, apart), *worst)


def _differs(column: Mapping[str, Any], version: Mapping[str, Any]) -> bool:
    beyond = column["psi"] is not None and column["psi"] > column["chance"]
    return bool(column["episodes"]) or beyond or _moved(column, version)


def _moved(column: Mapping[str, Any], version: Mapping[str, Any]) -> bool:
    alarm = version["alarm"]
    return alarm is not None and column["evidence"] is not None and bool(column["evidence"] >= alarm)


def overview(version: Mapping[str, Any], columns: Sequence[Mapping[str, Any]]) -> Markup:
    """Return a row for each of some columns of a version."""
    rows = [
        (
            column["name"],
            column["kind"],
            _state(column, version),
            words.figure(column["psi"]),
            words.figure(column["chance"]),
            words.figure(column["js"]),
            words.figure(column["ks"]),
            f"{words.share(column['missing']['reference'])} → {words.share(column['missing']['now'])}",
            words.figure(column["evidence"], 1),
        )
        for column in columns
    ]
    head = ("column", "kind", "state", "PSI", "by chance", "JS", "KS", "missing", "evidence")
    return table(head, rows, numbers=(3, 4, 5, 6, 7, 8))


def _state(column: Mapping[str, Any], version: Mapping[str, Any]) -> Markup:
    if column["episodes"]:
        return tag("span", words.count(len(column["episodes"]), "alert"), class_="bad")
    if _moved(column, version):
        return tag("span", "moved", class_="bad")
    if column["psi"] is not None and column["psi"] > column["chance"]:
        return tag("span", "differs", class_="warn")
    return tag("span", "as before", class_="good")


def details(told: Mapping[str, Any], version: Mapping[str, Any], column: Mapping[str, Any], opened: bool) -> Markup:
    """Return all there is of one column, folded unless it is to be seen at once."""
    head = tag("summary", tag("b", column["name"]), _state(column, version), " ", tag("span", _short(column)))
    parts = [head, _histogram(column), tag("div", *_over_time(told, version, column), class_="plots"), _bins(column)]
    return tag("details", *parts, class_="column", open="open" if opened else None)


def _short(column: Mapping[str, Any]) -> str:
    text = f"PSI {words.figure(column['psi'])} (chance {words.figure(column['chance'])})"
    if column["moved"]:
        most = column["moved"][0]
        text += f"; most: {most['bin']} from {most['expected']:.2%} to {most['observed']:.2%}"
    return text


def _histogram(column: Mapping[str, Any]) -> Markup:
    bins = column["bins"]
    labels = [each["bin"] for each in bins]
    chart = bars(labels, [each["reference"] for each in bins], [each["now"] for each in bins])
    caption = tag(
        "figcaption",
        f"{column['kind']}, share of {column['events']:,} events in each bin",
        tag("span", class_="key was"),
        "reference",
        tag("span", class_="key now"),
        "now",
    )
    ends = tag("div", tag("span", labels[0]), tag("span", labels[-1]), class_="ends")
    return tag("figure", caption, chart, ends)


def _over_time(told: Mapping[str, Any], version: Mapping[str, Any], column: Mapping[str, Any]) -> Iterator[Markup]:
    series, alarm = column["over_time"], version["alarm"]
    if alarm is not None:
        top = EDGE * max(alarm, column["evidence"] or 0.0)
        chart = lines("evidence", series["evidence"], top, [alarm])
        yield plot(chart, told, f"Evidence, logarithm; the dashed line is an alarm ({alarm:.1f}).")
    for name, what in (("psi", "PSI"), ("missing", "Share missing")):
        highest = max((value for value in series[name] if value is not None), default=0.0)
        if name == "missing" and not highest:
            continue  # none was: a drawing would be empty
        top = EDGE * highest or 1.0
        edge = f"{top:.2%}" if name == "missing" else f"{top:.3f}"
        yield plot(lines(what, series[name], top), told, f"{what} over time; the upper edge is {edge}.")


def _bins(column: Mapping[str, Any]) -> Markup:
    rows = [
        (each["bin"], words.share(each["reference"]), words.share(each["now"]), words.count(each["events"]))
        for each in column["bins"]
    ]
    inner = table(("bin", "reference", "now", "events now"), rows, numbers=(1, 2, 3))
    return tag("details", tag("summary", "All bins as numbers"), inner)
