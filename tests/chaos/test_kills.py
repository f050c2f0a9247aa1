"""A worker killed with -9 again and again while events flow: nothing lost, nothing twice, order kept."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.rig import Rig, account, encoder

EVENTS, KILLS = 200_000, 10


def run(rig: Rig, seed: int) -> dict[str, int]:
    """Let the events flow through workers that are killed at seeded places; return the account."""
    encode, places = encoder(), random.Random(seed)
    share = EVENTS // (KILLS + 1) // 4 * 4
    for kill in range(KILLS + 1):
        first, last = kill * share, EVENTS if kill == KILLS else (kill + 1) * share
        values = [encode({"id": i, "a": i * 0.5, "b": None}) for i in range(first, last)]
        flow = threading.Thread(target=trickle, args=(rig, values))
        worker = rig.worker()
        flow.start()
        if kill < KILLS:
            rig.wait_committed(first + int(places.uniform(0.05, 0.9) * share))
            worker.kill()
        flow.join()
    rig.wait_committed(EVENTS, 90)
    assert worker.stop() == 0
    return account(rig.places(EVENTS), dict.fromkeys(range(4), EVENTS // 4))


def trickle(rig: Rig, values: list[bytes | None]) -> None:
    """Publish over a second or so, in chunks that fill batches and leave gaps between them."""
    for at in range(0, len(values), 3_000):
        rig.produce(values[at : at + 3_000])
        time.sleep(0.15)


@pytest.fixture
def rig_of(bootstrap_servers: str, tmp_path: Path, topic: Callable[..., str]) -> Callable[[str], Rig]:
    return lambda delivery: Rig(bootstrap_servers, tmp_path, topic, delivery=delivery)


@pytest.mark.timeout(480)
def test_ten_kills_lose_nothing_repeat_nothing_and_keep_order(rig_of: Callable[[str], Rig]) -> None:
    rig = rig_of("exactly_once")
    try:
        found = run(rig, seed=1)
    finally:
        rig.close()
    assert found == {"lost": 0, "duplicated": 0, "out_of_order": 0, "unknown": 0}


@pytest.mark.timeout(480)
def test_without_transactions_the_same_kills_show_duplicates(rig_of: Callable[[str], Rig]) -> None:
    """The negative control: were this to pass without duplicates, the test above would prove nothing."""
    rig = rig_of("at_least_once")
    try:
        found = run(rig, seed=1)
    finally:
        rig.close()
    assert found["lost"] == 0
    assert found["duplicated"] > 0
