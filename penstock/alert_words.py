"""An alert in words, as a line of a list and whole; pure, and safe against what names and reasons hold."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime

from penstock.alerting import Alert, View
from penstock.changes import when
from penstock.pages import clean


def row(view: View) -> tuple[str, ...]:
    """Return the cells of a list: id, state, severity, since when, deployment and arm, what, and the summary."""
    alert = view.alert
    marks = [mark for mark, said in (("silenced", view.silence), ("acked", view.ack)) if said is not None]
    state = ", ".join([alert["state"], *marks])
    severity = alert["severity"] if view.open else alert["worst"]
    place = alert["deployment"] + (f"/{alert['arm']}" if alert["arm"] else "")
    about = f"{alert['kind']} {alert['name']}"
    summary = alert["summary"] if view.open else f"was: {alert['peak']}" if alert["peak"] else alert["summary"]
    cells = (alert["id"][:8], state, severity, clock(alert["onset"]), place, about, summary)
    return tuple(map(clean, cells))


def told(view: View, members: Sequence[View]) -> Iterator[str]:
    """Yield the lines of one alert whole. members: of a group."""
    alert = view.alert
    yield clean(f"{alert['severity'] if view.open else 'closed'}: {alert['summary']}")
    yield ""
    for name, value in _facts(view):
        yield f"{name:<10}  {clean(value)}"
    if alert["action"]:
        yield ""
        yield clean(f"What to do: {alert['action']}")
    if alert["evidence"]:
        yield ""
        yield from _bins(alert)
    if members:
        yield ""
        yield f"Its members ({len(members)}):"
        for each in members:
            yield "  " + "  ".join(row(each)[at] for at in (0, 1, 2, 5, 6))


def _facts(view: View) -> Iterator[tuple[str, str]]:
    alert = view.alert
    yield "id", alert["id"]
    yield "state", f"{alert['state']}, record {alert['number'] + 1} of this episode"
    yield "worst", f"{alert['worst']}: {alert['peak']}" if alert["peak"] else alert["worst"]
    yield "deployment", alert["deployment"]
    if alert["model"]:
        yield "arm", f"{alert['arm']}, {alert['model']}@{alert['version']}"
    yield "about", f"{alert['kind']} {alert['name']}"
    yield "since", f"{clock(alert['onset'])} (estimated); opened {clock(alert['opened'])}, told {clock(alert['at'])}"
    yield (
        "evidence",
        f"{alert['detector']}: {alert['value']:g}, opens at {alert['threshold']:g}; {alert['rows']:,} events",
    )
    if alert["group"]:
        yield "group", f"one of those of alert {alert['group']}"
    if view.silence is not None:
        until = when(view.silence.until_ms) if view.silence.until_ms is not None else "further notice"
        yield "silenced", f"until {until} by {view.silence.who}: {view.silence.why} ({view.silence.id})"
    if view.ack is not None:
        yield "acked", f"by {view.ack.who} at {when(view.ack.at_ms)}: {view.ack.why}"


def _bins(alert: Alert) -> Iterator[str]:
    """The bins that moved, as a table."""
    names = [clean(each["bin"]) for each in alert["evidence"]]
    width = max(len("share of events in"), *map(len, names))
    yield f"{'share of events in':<{width}}  expected  observed"
    for name, each in zip(names, alert["evidence"], strict=True):
        yield f"{name:<{width}}  {each['expected']:8.2%}  {each['observed']:8.2%}"


def clock(moment: datetime) -> str:
    """Return a time of an alert in UTC, to the second."""
    return f"{moment:%Y-%m-%d %H:%M:%SZ}"
