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
    """Let the events flow through workers that are killed at seeded moments; return the account."""
    encode = encoder()
    chunks = [
        [encode({"id": i, "a": i * 0.5, "b": None}) for i in range(c, c + 4_000)] for c in range(0, EVENTS, 4_000)
    ]
    rig.produce(chunks[0])
    flow = threading.Thread(target=lambda: [(rig.produce(chunk), time.sleep(0.3)) for chunk in chunks[1:]])
    flow.start()
    moments = random.Random(seed)
    for kill in range(KILLS):
        worker = rig.worker()
        rig.wait_committed(min(EVENTS, rig.committed() + 1))  # it works again
        time.sleep(moments.uniform(0.0, 0.4))
        if kill % 3 == 0:  # a backlog: batches in full, one committed beside the next
            rig.wait_committed(min(EVENTS, rig.committed() + 1))
        worker.kill()
    flow.join()
    last = rig.worker()
    rig.wait_committed(EVENTS, 90)
    assert last.stop() == 0
    return account(rig.places(EVENTS), dict.fromkeys(range(4), EVENTS // 4))


@pytest.fixture
def rig_of(bootstrap_servers: str, tmp_path: Path, topic: Callable[..., str]) -> Callable[[str], Rig]:
    return lambda delivery: Rig(bootstrap_servers, tmp_path, topic, delivery=delivery)


@pytest.mark.timeout(240)
def test_ten_kills_lose_nothing_repeat_nothing_and_keep_order(rig_of: Callable[[str], Rig]) -> None:
    rig = rig_of("exactly_once")
    try:
        found = run(rig, seed=1)
    finally:
        rig.close()
    assert found == {"lost": 0, "duplicated": 0, "out_of_order": 0, "unknown": 0}


@pytest.mark.timeout(240)
def test_without_transactions_the_same_kills_show_duplicates(rig_of: Callable[[str], Rig]) -> None:
    """The negative control: were this to pass without duplicates, the test above would prove nothing."""
    rig = rig_of("at_least_once")
    try:
        found = run(rig, seed=1)
    finally:
        rig.close()
    assert found["lost"] == 0
    assert found["duplicated"] > 0
