"""What a report says of versions that took over and of requests for new ones."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from monitoring.hindsight import Span
from penstock.report import aftermath
from penstock.report.extras import MAKERS
from schemas import records
from tests.penstock.report.test_page import Read

AT = 1_767_225_600_000
WINDOW = {"model": "late", "version": "0d3adb44-1", "since": AT - 60_000, "until": AT, "rows": 5000}
NUMBER = {"of": "late", "metric": "median", "before": 0.5, "after": 0.6}


def comparison(identity: str = "a", **more: Any) -> dict[str, Any]:
    return {
        **{"id": identity, "what": "outputs", "deployment": "flights", "arm": "active", "at": AT},
        **{"before": WINDOW, "after": {**WINDOW, "version": "1d3adb44-1"}, "numbers": [NUMBER]},
        **{"summary": "moved: <late>", **more},
    }


def request(**more: Any) -> dict[str, Any]:
    reason = {"alert": "x", "kind": "feature", "name": "wind", "onset": AT, "summary": "wind"}
    return {
        **{"id": "r", "deployment": "flights", "arm": "active", "model": "late", "version": "0d3adb44-1", "at": AT},
        **{"features": ["wind"], "reasons": [reason], "topic": "events", "labels": "", "since": AT, "until": AT},
        **more,
    }


class Reader:
    """Topics with what was published in them."""

    def __init__(self, **topics: list[bytes]) -> None:
        self._topics = {f"penstock.{name}": values for name, values in topics.items()}

    def partitions(self, topic: str) -> list[int]:
        return [0] if topic in self._topics else []

    def ends(self, topic: str) -> dict[int, tuple[int, int]]:
        return {0: (0, len(self._topics[topic]))}

    def read(self, topic: str, bounds: Any, size: int) -> list[list[Any]]:
        return [[SimpleNamespace(value=lambda value=value: value) for value in self._topics[topic]]]


def sections(reader: Reader) -> dict[str, Any]:
    deployment: Any = SimpleNamespace(name="flights")
    found: Any = reader
    return {each.key: each for each in aftermath.sections(found, deployment, Span(AT - 1, AT + 1))}


def test_each_record_of_the_range_is_told_once_and_what_is_not_there_is_left_out() -> None:
    values = [records.encode("comparison", comparison()), b"junk", records.encode("comparison", comparison())]
    values += [records.encode("comparison", comparison("b", deployment="other"))]
    values += [records.encode("comparison", comparison("c", at=AT + 5))]
    found = sections(Reader(comparisons=values))
    assert found.keys() == {"takeovers"}
    (told,) = found["takeovers"].content["told"]
    assert (told["id"], told["at"], told["before"]["since"]) == ("a", AT, AT - 60_000)
    text = " ".join(Read.of(found["takeovers"].markup).texts)
    for part in ("active: late@1d3adb44 after late@0d3adb44: outputs", "moved: <late>.", "5,000 events before", "0.6"):
        assert part in text
    assert sections(Reader()) == {}


def test_requests_tell_what_moved_and_what_to_train_on() -> None:
    found = sections(Reader(retraining=[records.encode("retraining", request())]))
    text = " ".join(Read.of(found["retraining"].markup).texts)
    for part in ("active: late@0d3adb44", "wind", "events", "2026-01-01 00:00:00 to 2026-01-01 00:00:00 UTC"):
        assert part in text


def test_a_report_asks_for_them() -> None:
    assert aftermath.sections in MAKERS
