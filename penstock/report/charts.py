"""The drawings of a report, as SVG that stretches to its place; the words beside them are HTML and keep their size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from penstock.report.markup import Markup, tag, together

WIDTH, HEIGHT = 600, 120
Number = float | None


class Lines(NamedTuple):
    """A number over time bins: so far, its interval, and that of each bin alone; None where there is none."""

    number: Sequence[Number]
    low: Sequence[Number]
    high: Sequence[Number]
    alone: Sequence[Number]


def bars(labels: Sequence[str], reference: Sequence[float], now: Sequence[float]) -> Markup:
    """Return two histograms over the same bins, shares of 1: the reference behind, narrower bars of now before it."""
    most = max(*reference, *now, 1e-9)
    step = WIDTH / max(len(labels), 1)
    behind = _columns(reference, most, step, 0.04, 0.96)
    front = _columns(now, most, step, 0.25, 0.75)
    texts = [
        f"{label}: {was:.3%} of the reference, {now_:.3%} now"
        for label, was, now_ in zip(labels, reference, now, strict=True)
    ]
    drawn = tag("path", d=behind, class_="was"), tag("path", d=front, class_="now")
    return _svg("both histograms", *drawn, _hints(texts, step))


def _columns(shares: Sequence[float], most: float, step: float, left: float, right: float) -> str:
    parts = []
    for at, share in enumerate(shares):
        if share > 0:
            height = max(share / most * HEIGHT, 1)
            parts.append(
                f"M{(at + left) * step:.1f} {HEIGHT}V{HEIGHT - height:.1f}H{(at + right) * step:.1f}V{HEIGHT}Z"
            )
    return "".join(parts)


def lines(what: str, values: Sequence[Number], top: float, marks: Sequence[float] = ()) -> Markup:
    """Return a line over time bins; a gap where there is no value.

    what: the values are, in words. top: the value of the upper edge; the lower one is 0. marks: values at which a thin
    line lies.
    """
    thin = [
        tag("line", x1=0, x2=WIDTH, y1=_height(mark, top), y2=_height(mark, top), class_="mark")
        for mark in marks
        if mark <= top
    ]
    return _svg(f"{what} over time", *thin, tag("path", d=_line(values, top), class_="line"))


def band(what: str, course: Lines, bottom: float, top: float) -> Markup:
    """Return a number over time bins with its interval as a band, and thin what each bin says alone.

    what: the number is, in words. bottom, top: the values of the edges; what lies beyond is drawn at the edge.
    """
    parts = [tag("path", d=_area(course, bottom, top), class_="band")]
    parts.append(tag("path", d=_line(course.alone, top, bottom), class_="thin"))
    return _svg(f"{what} over time", *parts, tag("path", d=_line(course.number, top, bottom), class_="line"))


def histogram(what: str, labels: Sequence[str], shares: Sequence[float]) -> Markup:
    """Return one histogram, shares of 1. what: is counted, in words."""
    step = WIDTH / max(len(labels), 1)
    texts = [f"{label}: {share:.3%}" if share else None for label, share in zip(labels, shares, strict=True)]
    front = _columns(shares, max(*shares, 1e-9), step, 0.05, 0.95)
    return _svg(what, tag("path", d=front, class_="now"), _hints(texts, step))


def _hints(texts: Sequence[str | None], step: float) -> Markup:
    """Return what is shown where somebody points at a bin; nothing for those without a text."""
    places = {"y": 0, "width": round(step, 2), "height": HEIGHT}
    found = (
        tag("rect", tag("title", text), x=round(at * step, 2), **places)
        for at, text in enumerate(texts)
        if text is not None
    )
    return tag("g", *found, class_="hints")


def _area(course: Lines, bottom: float, top: float) -> str:
    """Return the path of the band: one closed piece for each run of bins that have an interval."""
    step, parts, run = WIDTH / max(len(course.low), 1), [], list[tuple[int, float, float]]()
    for at, (low, high) in enumerate([*zip(course.low, course.high, strict=True), (None, None)]):
        if low is not None and high is not None:
            run.append((at, low, high))
            continue
        if run:
            over = [f"{at * step:.1f} {_height(high, top, bottom)}H{(at + 1) * step:.1f}" for at, _, high in run]
            under = [f"{(at + 1) * step:.1f} {_height(low, top, bottom)}H{at * step:.1f}" for at, low, _ in run[::-1]]
            parts.append(f"M{'L'.join([*over, *under])}Z")
        run = []
    return "".join(parts)


def _height(value: float, top: float, bottom: float = 0.0) -> float:
    inside = min(max(value, bottom), top)
    return round(HEIGHT - 2 - (inside - bottom) / ((top - bottom) or 1) * (HEIGHT - 4), 1)


def _line(values: Sequence[Number], top: float, bottom: float = 0.0) -> str:
    """Return the path; a value that stands alone is a short dash."""
    step = WIDTH / max(len(values), 1)
    parts, pen = [], "M"
    for at, value in enumerate(values):
        if value is None:
            pen = "M"
            continue
        parts.append(f"{pen}{at * step:.1f} {_height(value, top, bottom)}H{(at + 1) * step:.1f}")
        pen = "L"
    return "".join(parts)


def _svg(label: str, *children: Markup) -> Markup:
    return tag(
        "svg",
        together(children),
        viewBox=f"0 0 {WIDTH} {HEIGHT}",
        preserveAspectRatio="none",
        role="img",
        aria_label=label,
        class_="chart",
    )
