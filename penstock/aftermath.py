"""What a monitor tells beside alerts: how versions that took over compare, and where a new one is asked for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from penstock.alert_words import clock
from penstock.alerting import committed
from penstock.pages import clean
from schemas import records
from schemas.errors import RecordInvalid

COMPARISONS, RETRAINING = "penstock.comparisons", "penstock.retraining"
Found = dict[str, Any]


def read(kafka: Mapping[str, str], topic: str, name: str, deployment: str | None) -> list[Found]:
    """Return the records of a topic, each once, in the order of their times. name: of their schema.

    Raises ConnectionFailed.
    """
    return told(committed(kafka, topic), name, deployment)


def told(values: Iterable[bytes], name: str, deployment: str | None) -> list[Found]:
    """Return the same of the values of a topic; what is no such record is passed over."""
    found: dict[str, Found] = {}
    for value in values:
        try:
            record = records.decode(name, value)
        except RecordInvalid:  # of a newer release
            continue
        if deployment in (None, record["deployment"]):
            found.setdefault(record["id"], record)
    return sorted(found.values(), key=lambda each: (each["at"], each["id"]))


def compared(record: Found, whole: bool) -> Iterator[str]:
    """Yield the lines about a version that took over. whole: with all numbers."""
    before, after = record["before"], record["after"]
    versions = f"{before['model']}@{before['version'][:8]} -> {after['model']}@{after['version'][:8]}"
    place = f"{record['deployment']}/{record['arm']}"
    yield "  ".join(map(clean, (clock(record["at"]), place, versions, f"{record['what']}: {record['summary']}")))
    if not whole:
        return
    for each in record["numbers"]:
        name = clean(f"{each['of']} {each['metric']}")
        yield f"    {name:<32}  {side(each, 'before'):>28}  {side(each, 'after'):>28}"


def side(number: Mapping[str, Any], when: str) -> str:
    """Return a number of a comparison with its interval. when: before or after."""
    value, low, high = (number[f"{when}{name}"] for name in ("", "_low", "_high"))
    if value is None:
        return "-"
    return f"{value:.4g}" + ("" if low is None or high is None else f" ({low:.4g} .. {high:.4g})")


def asked(record: Found) -> Iterator[str]:
    """Yield the lines about a request for a new version."""
    version = f"{record['model']}@{record['version']}"
    what = ", ".join(record["features"]) or "its quality"
    place = f"{record['deployment']}/{record['arm']}"
    yield "  ".join(map(clean, (clock(record["at"]), place, f"{version}: {what}")))
    labels = f", labels in {record['labels']}" if record["labels"] else ""
    since, until = clock(record["since"]), clock(record["until"])
    yield "    " + clean(f"train on {record['topic']} from {since} to {until}{labels}")
    for each in record["reasons"]:
        yield "    " + "  ".join(map(clean, (each["alert"][:8], f"since {clock(each['onset'])}", each["summary"])))
