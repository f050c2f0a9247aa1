"""The pieces of the page that all of its sections share: tables, and drawings over the time of the range."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from penstock.report import words
from penstock.report.markup import Markup, tag


def plot(chart: Markup, told: Mapping[str, Any], caption: str) -> Markup:
    """Return a drawing over time with its caption and both ends of the range."""
    ends = tag("div", *(tag("span", words.moment(told[name])) for name in ("begin", "end")), class_="ends")
    return tag("figure", tag("figcaption", caption), chart, ends)


def table(head: Sequence[str], rows: Sequence[Sequence[str | Markup]], numbers: Sequence[int] = ()) -> Markup:
    """Return a table that scrolls by itself where the screen is narrow. numbers: columns that stand to the right."""

    def cells(name: str, row: Sequence[str | Markup]) -> Iterator[Markup]:
        return (tag(name, cell, class_="n" if at in numbers else None) for at, cell in enumerate(row))

    top = tag("thead", tag("tr", *cells("th", head)))
    body = tag("tbody", *(tag("tr", *cells("td", row)) for row in rows))
    return tag("div", tag("table", top, body), class_="wide")
