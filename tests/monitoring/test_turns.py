"""A burst in one stream, and others beside it."""

from __future__ import annotations

import asyncio

import pytest

from monitoring import turns
from monitoring.turns import Turn


def folded(burst: int) -> list[str]:
    """Return whose records were folded in which order: 10 ms each, a burst of one stream and five of another."""
    now, found = [0.0], list[str]()

    async def stream(name: str, records: int) -> None:
        turn = Turn(lambda: now[0])
        for _ in range(records):
            now[0] += 0.01
            found.append(name)
            await turn.over()

    async def both() -> None:
        await asyncio.gather(stream("samples", burst), stream("profiles", 5))

    asyncio.run(both())
    return found


def test_a_burst_of_samples_holds_profiles_up_for_a_turn_only() -> None:
    found = folded(1000)
    assert found.index("profiles") <= 6
    assert found.count("samples") == 1000


def test_without_turns_the_whole_burst_is_folded_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "SECONDS", float("inf"))
    assert folded(1000).index("profiles") == 1000
