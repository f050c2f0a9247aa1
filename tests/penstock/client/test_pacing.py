"""When events are due, on a clock that the test moves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from penstock.client.events import EventEncoder
from penstock.client.feeding import Feed
from penstock.client.files import open_file
from penstock.client.pacing import Clock, EventTime, FixedRate, Unlimited

SCHEMA = {
    "type": "record",
    "name": "Event",
    "fields": [{"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}}],
}


class Hand:
    """A clock's hand: sleeping moves it."""

    def __init__(self) -> None:
        self.now = 100.0

    def sleep(self, seconds: float) -> None:
        self.now += seconds


class Sent:
    """Stands for a producer: when was what sent?"""

    def __init__(self, hand: Hand) -> None:
        self.hand, self.at = hand, list[float]()
        self.flushed = False

    def publish(self, value: bytes, key: bytes | None) -> None:
        self.at.append(round(self.hand.now - 100.0, 1))

    def poll(self) -> None: ...

    def flush(self, seconds: float) -> None:
        self.flushed = True


def feed(tmp_path: Path, seconds: list[int], **options: Any) -> tuple[Feed, Sent]:
    (tmp_path / "a.csv").write_text("at\n" + "".join(f"{second * 1000}\n" for second in seconds))
    hand = Hand()
    sent = Sent(hand)
    files = [open_file(tmp_path / "a.csv", EventEncoder(SCHEMA))]
    made = Feed(sent, files, clock=Clock(lambda: hand.now, hand.sleep), event_time="at", **options)  # type: ignore[arg-type]
    made.run()
    return made, sent


def test_a_rate_spaces_events_evenly(tmp_path: Path) -> None:
    _, sent = feed(tmp_path, [0, 0, 0], pace=lambda: FixedRate(2.0))
    assert sent.at == [0.0, 0.5, 1.0]
    assert sent.flushed


def test_event_time_is_replayed_with_a_speed_and_disorder_is_counted(tmp_path: Path) -> None:
    made, sent = feed(tmp_path, [1000, 1010, 1005, 1030], pace=lambda: EventTime(10.0))
    assert sent.at == [0.0, 1.0, 1.0, 3.0]
    assert made.disordered == 1


def test_every_repetition_starts_anew(tmp_path: Path) -> None:
    made, sent = feed(tmp_path, [1000, 1010], pace=lambda: EventTime(10.0), repeat=2)
    assert sent.at == [0.0, 1.0, 1.0, 2.0]
    assert (made.sent, made.rounds) == (4, 2)


@pytest.mark.parametrize(("repeat", "limit", "count"), [(0, 5, 5), (1, 1, 1), (3, None, 6)])
def test_a_limit_stops_also_an_endless_feed(tmp_path: Path, repeat: int, limit: int | None, count: int) -> None:
    made, sent = feed(tmp_path, [1, 2], pace=Unlimited, repeat=repeat, limit=limit)
    assert made.sent == len(sent.at) == count


def test_an_empty_file_ends_an_endless_feed(tmp_path: Path) -> None:
    made, _ = feed(tmp_path, [], pace=Unlimited, repeat=0)
    assert made.sent == 0


def test_a_feed_that_is_stopped_sends_no_more_and_flushes(tmp_path: Path) -> None:
    """Also amid a wait of an hour for what is due next."""
    (tmp_path / "a.csv").write_text("at\n" + "".join(f"{second * 1000}\n" for second in (0, 1, 3_600)))
    hand = Hand()
    sent = Sent(hand)
    files = [open_file(tmp_path / "a.csv", EventEncoder(SCHEMA))]

    def sleep(seconds: float) -> None:
        hand.sleep(seconds)
        if hand.now > 105.0:
            made.stop()

    clock = Clock(lambda: hand.now, sleep)
    made = Feed(sent, files, lambda: EventTime(1.0), clock, event_time="at", repeat=0)  # type: ignore[arg-type]
    made.run()
    assert (made.sent, sent.at, sent.flushed, made.stopped) == (2, [0.0, 1.0], True, True)
    assert hand.now < 106.0
