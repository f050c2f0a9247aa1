"""Fixtures of the tests of the worker's loop."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from streams import worker as module
from tests.streams.bench import Bench


@pytest.fixture
def make() -> Iterator[Callable[..., Bench]]:
    made: list[Bench] = []

    def create(**options: Any) -> Bench:
        made.append(Bench(**options))
        return made[-1]

    yield create
    for bench in made:
        if bench.thread.is_alive():
            bench.stop()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a loop tick and try again without waiting."""
    monkeypatch.setattr(module, "TICK_SECONDS", 0.01)
    monkeypatch.setattr(module, "RETRY_SECONDS", (0.0, 0.05))
