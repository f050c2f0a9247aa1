"""The plots of a report, as SVG: the same figures give the same bytes. Pure.

Nothing lies behind the marks, and text and colours have as much contrast to white as to a dark page.
"""

from __future__ import annotations

import io
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import matplotlib
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

Line = Sequence[tuple[float, float]]
Panel = tuple[str, str, Line]  # what grows, what is measured, and the points

TEXT, OURS, OTHERS = "#747a82", "#2f81e0", "#9097a0"
# A colour for each system, which is the first word of a contestant's name; markers tell its variants apart.
COLOURS = {
    "Penstock": OURS,
    "bare": "#8a63d2",
    "prototype": "#c05bc4",
    "Java": "#d9730d",
    "Kafka": "#d64550",
    "micro-batched": "#1f9e8f",
    "naive": "#5c9e31",
    "Bytewax": "#b08a00",
    "Pathway": "#d0629a",
    "Quix": "#0f9bc4",
    "Faust": "#a8703c",
}
MARKERS = "osD^v"
STEEP = 20.0
NEAR = 0.15  # of an axis, between two labels
STYLE: Any = {  # its type would be a literal of every key there is
    "svg.hashsalt": "penstock",  # of the ids inside, which are random otherwise
    "svg.fonttype": "none",  # text stays text
    "font.size": 10,
    "text.color": TEXT,
    "axes.labelcolor": TEXT,
    "axes.edgecolor": TEXT,
    "xtick.color": TEXT,
    "ytick.color": TEXT,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
}


def throughput(rates: Sequence[tuple[str, float]], own: Collection[str]) -> bytes:
    """Return horizontal bars, the first one on top, with their figures at their ends. own: the names that stand out."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(8.0, 0.6 + 0.3 * len(rates)))
        axes = figure.add_subplot()
        names, values = [name for name, _ in rates], [rate for _, rate in rates]
        bars = axes.barh(names, values, height=0.7, color=[OURS if name in own else OTHERS for name in names])
        axes.bar_label(bars, [f"{value:,.0f}" for value in values], padding=4)
        axes.invert_yaxis()
        axes.xaxis.set_major_locator(NullLocator())  # the figures are at the bars
        axes.set_xlabel("events/s")
        axes.tick_params(axis="y", length=0)
        axes.spines[["bottom", "left"]].set_visible(False)
        return _svg(figure)


def latency(lines: Mapping[str, Line], dashed: Collection[str]) -> bytes:
    """Return one line of (offered rate, ms) for each name, both axes logarithmic.

    dashed: names of those that promise less. The legend begins with who gets furthest, and there with the quickest.
    """
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(8.0, 5.0))
        axes = figure.add_subplot()
        seen: dict[str, int] = {}
        for name, line in sorted(lines.items(), key=lambda entry: (-entry[1][-1][0], entry[1][-1][1])):
            system = name.split()[0].rstrip(",")
            variant = seen[system] = seen.get(system, -1) + 1
            axes.plot(
                [rate for rate, _ in line],
                [ms for _, ms in line],
                label=name,
                color=COLOURS.get(system, OTHERS),
                linestyle="--" if name in dashed else "-",
                linewidth=2.2 if system == "Penstock" else 1.2,
                marker=MARKERS[variant % len(MARKERS)],
                markersize=5,
            )
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xticks(sorted({rate for line in lines.values() for rate, _ in line}))
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_minor_locator(NullLocator())
            axis.set_major_formatter(FuncFormatter(lambda value, _: _short(value)))
        axes.set_xlabel("offered events/s")
        axes.set_ylabel("p95, ms")
        axes.legend(loc="upper left", bbox_to_anchor=(1.02, 1.0), handlelength=3.0)
        return _svg(figure)


def growth(panels: Sequence[Panel]) -> bytes:
    """Return a small plot for each panel, two beside each other; what grows is logarithmic.

    What is measured begins at zero, but is logarithmic, too, where the most is more than STEEP times the least.
    """
    with matplotlib.rc_context(STYLE):
        high = (len(panels) + 1) // 2
        figure = Figure(figsize=(8.0, 2.3 * high), layout="constrained")
        for place, (grows, measured, line) in enumerate(panels):
            axes = figure.add_subplot(high, 2, place + 1)
            numbers, values = [number for number, _ in line], [value for _, value in line]
            axes.plot(numbers, values, color=OURS, linewidth=2.2, marker="o", markersize=5)
            axes.set_xscale("log")
            axes.set_xticks(_apart(numbers))
            if max(values) > STEEP * min(values):
                axes.set_yscale("log")
                axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
            else:
                axes.set_ylim(0, 1.2 * max(values))
            for axis in (axes.xaxis, axes.yaxis):
                axis.set_minor_locator(NullLocator())
                axis.set_major_formatter(FuncFormatter(lambda value, _: _short(value)))
            axes.set_xlabel(grows)
            axes.set_ylabel(measured)
        return _svg(figure)


def _apart(numbers: Sequence[float]) -> list[float]:
    """Return those of ascending numbers whose labels do not touch on a logarithmic axis; the last is one of them."""
    near = (numbers[-1] / numbers[0]) ** NEAR
    found = [numbers[-1]]
    for number in reversed(numbers[:-1]):
        if number * near < found[0]:
            found.insert(0, number)
    return found


def _short(value: float) -> str:
    if value >= 1_000_000:
        return f"{value / 1_000_000:g}M"
    return f"{value / 1_000:g}k" if value >= 1_000 else f"{value:g}"


def _svg(figure: Figure) -> bytes:
    out = io.BytesIO()
    unsaid = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    figure.savefig(out, format="svg", transparent=True, bbox_inches="tight", metadata=unsaid)
    return out.getvalue()
