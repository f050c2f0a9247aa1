"""A report as one HTML page that needs nothing else: no script, no font, no picture from anywhere.

Its head forbids all of them (Content-Security-Policy), besides that every value is escaped.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from penstock.report import columns, words
from penstock.report.charts import lines
from penstock.report.markup import Markup, tag, together
from penstock.report.parts import plot, table
from penstock.report.style import STYLE

POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
TOLD = 100  # episodes in the table


def page(told: Mapping[str, Any], extras: Sequence[Markup] = ()) -> str:
    """Return the page of what `penstock.report.content.content` told. extras: further sections, behind the episodes."""
    title = f"{told['deployment']}: {words.span(told['begin'], told['end'])}"
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", http_equiv="Content-Security-Policy", content=POLICY),
        tag("meta", name="color-scheme", content="light dark"),
        tag("title", f"Penstock report: {title}"),
        Markup(f"<style>{STYLE}</style>"),
    )
    parts = [*_summary(told), *_episodes(told), *extras, *(part for at in _versions(told) for part in at)]
    body = tag("body", tag("main", *parts))
    return f"<!DOCTYPE html>\n{tag('html', head, body, lang='en')}\n"


def _summary(told: Mapping[str, Any]) -> Iterator[Markup]:
    traffic, episodes = told["traffic"], told["episodes"]
    yield tag("h1", f"Report on {told['deployment']}")
    yield tag("p", words.span(told["begin"], told["end"]), class_="soft")
    if told["against"]:
        yield tag("p", f"Compared with {words.span(**told['against'])}.")
    worst = [column for version in told["versions"] for column in version["columns"] if column["episodes"]]
    open_ = sum(each["closed"] is None for each in episodes)
    cards = [
        (words.count(traffic["events"]), "events scored"),
        (words.count(len(told["versions"])), "versions in arms"),
        (words.count(len(episodes) + told["more_episodes"]), "alert episodes"),
        (words.count(open_), "still open"),
        (words.count(len(worst)), "columns with an alert"),
    ]
    yield tag("div", *(tag("div", tag("b", number), what, class_="card") for number, what in cards), class_="cards")
    yield from _caveats(told)
    if not told["versions"]:
        yield tag("p", "No profile of this range was found: either nothing was scored, or retention removed it.")
        return
    yield tag("h2", "Traffic")
    yield _traffic(told)
    yield _version_table(told)


def _caveats(told: Mapping[str, Any]) -> Iterator[Markup]:
    """Yield what was not counted, and why."""
    traffic = told["traffic"]
    texts = {
        "late": "events were profiled after their tick had closed, and are not in these figures",
        "clamped": "events had a time in the future, none, or one more than an hour late; it was moved",
        "unknown_reference": "events are of versions whose reference the repository does not have",
        "poison": "records of the profiles topic could not be read",
    }
    for name, text in texts.items():
        if traffic[name]:
            yield tag("p", f"{traffic[name]:,} {text}.", class_="warn")
    for each in told["skipped"]:
        text = f"{each['events']:,} events of version {each['version']} in the arm {each['arm']} are counted only"
        yield tag("p", f"{text}: the range has too many versions.", class_="warn")


def _traffic(told: Mapping[str, Any]) -> Markup:
    width = told["bin_ms"] / 1000
    rates = [sum(column) / width for column in zip(*(version["rows"] for version in told["versions"]), strict=True)]
    top = max(rates) or 1.0
    caption = f"Events a second, averaged over {words.length(told['bin_ms'])}; the upper edge is {top:,.1f}."
    return plot(lines("events a second", rates, top), told, caption)


def _version_table(told: Mapping[str, Any]) -> Markup:
    rows = [
        (
            each["arm"],
            each["model"],
            each["version"],
            words.count(each["events"]),
            words.share(each["events"] / max(told["traffic"]["events"], 1)),
            words.moment(each["first"]),
            words.moment(each["last"]),
            _compared(each),
        )
        for each in told["versions"]
    ]
    head = ("arm", "model", "version", "events", "share", "first seen", "last seen", "compared with")
    return table(head, rows, numbers=(3, 4))


def _compared(version: Mapping[str, Any]) -> str:
    what = "the other range" if version["compared_with"] == "range" else "its training data"
    return f"{what}, {version['reference_rows']:,} rows"


def _episodes(told: Mapping[str, Any]) -> Iterator[Markup]:
    yield tag("h2", "Alerts")
    if not told["episodes"]:
        yield tag("p", "No alert was open in this range.")
        return
    rows = [
        (
            tag("span", each["severity"], class_=_colour(each["severity"])),
            f"{each['kind']} {each['name']}",
            f"{each['arm']} {each['version'][:8]}",
            f"{words.moment(each['onset'])} {_until(each)}",
            _track(each, told["begin"], told["end"]),
            each["summary"],
        )
        for each in told["episodes"][:TOLD]
    ]
    yield table(("severity", "what", "where", "since", "in this range", "summary"), rows)
    if more := len(told["episodes"]) - TOLD + told["more_episodes"] if len(rows) == TOLD else told["more_episodes"]:
        yield tag("p", f"{more:,} more are not shown.", class_="soft")


def _until(episode: Mapping[str, Any]) -> str:
    return "and still open" if episode["closed"] is None else f"until {words.moment(episode['closed'])}"


def _colour(severity: str) -> str:
    return {"critical": "bad", "warning": "warn"}.get(severity, "soft")


def _track(episode: Mapping[str, Any], begin: int, end: int) -> Markup:
    """Return where in the range the episode lies."""
    first = max(episode["onset"], begin)
    last = min(end if episode["closed"] is None else episode["closed"], end)
    left, width = (100 * (ms / max(end - begin, 1)) for ms in (first - begin, max(last - first, 0)))
    bar = tag("i", class_=episode["severity"], style=f"left:{left:.2f}%;width:{width:.2f}%")
    return tag("div", bar, class_="track", title=words.length(last - first))


def _versions(told: Mapping[str, Any]) -> Iterator[Iterator[Markup]]:
    return (_version(told, version) for version in told["versions"])


def _version(told: Mapping[str, Any], version: Mapping[str, Any]) -> Iterator[Markup]:
    yield tag("h2", f"{version['arm']}: {version['model']}@{version['version']}")
    yield tag(
        "p",
        f"{version['events']:,} events compared with {_compared(version)}. The worst column comes first.",
        class_="soft",
    )
    if version["unusual"] is not None:
        now, was = (words.share(version["unusual"][name]) for name in ("now", "reference"))
        yield tag("p", f"{now} of the events are more unusual than 99.9 % of the training rows were ({was} expected).")
    plain = [column for column in version["columns"] if not column["segment"]]
    yield columns.overview(version, plain)
    yield together(
        columns.details(told, version, column, opened=bool(column["episodes"]) or at == 0)
        for at, column in enumerate(plain)
    )
    if (apart := columns.by_segment(told, version)) is not None:
        yield apart
