"""A worker process that control moves: what is carried over to the next worker, and what is not."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from streams import service
from streams.options import Options
from streams.orders import Caution, Order
from streams.topics import Topic

CAUTION = Caution(held={3: (1000, 1001)})


def built(source: str) -> Any:
    deployment = SimpleNamespace(name="d")
    return SimpleNamespace(
        site=SimpleNamespace(source=Topic(source, 4, 1), group="g"), wanted=SimpleNamespace(deployment=deployment)
    )


class Guard:
    def __init__(self) -> None:
        self.closed = False

    def close(self) -> None:
        self.closed = True


@pytest.mark.parametrize(("to", "caution"), [("other", Caution()), ("events", CAUTION)])
def test_offsets_that_workers_died_on_are_those_of_the_topic_that_was_read_then(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, to: str, caution: Caution
) -> None:
    """Held back in another topic, they would stop a partition for nothing."""
    orders: list[Order] = []
    guards: list[Guard] = []

    def worker(built: Any, order: Order, *_: Any) -> Any:
        orders.append(order)
        guards.append(Guard())
        return SimpleNamespace(run=lambda: None, whole=True, outgrown=None), guards[-1]

    moves = [built(to), None]
    controlled: Any = SimpleNamespace(attend=lambda *_: None, swapping=lambda: False, moved=lambda: moves.pop(0))
    signals: Any = SimpleNamespace(tell=lambda _: None, stopping=lambda: False, ignore=lambda: None)
    monkeypatch.setattr(service, "_worker", worker)
    options = Options(kafka={}, repository="", state_folder=tmp_path)
    builder: Any = SimpleNamespace()
    service._run(builder, built("events"), Order("0", None, CAUTION), options, signals, controlled)
    assert [order.caution for order in orders] == [CAUTION, caution]
    assert [order.slot for order in orders] == ["0", "0"]
    assert [guard.closed for guard in guards] == [True, False]  # the last one's file ends with the process
