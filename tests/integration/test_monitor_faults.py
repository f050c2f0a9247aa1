"""The same alerts and pairs however the input is spread, replayed or disturbed; the whole list is `scripts/chaos`'s."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.monitor_run import CONTROL, FOUR, ONE, Ground, run
from tests.chaos.scenario import Hurts
from tests.conftest import TopicFactory

pytestmark = [pytest.mark.timeout(600), pytest.mark.usefixtures("unmeasured")]


@pytest.fixture
def ground(bootstrap_servers: str, topic: TopicFactory, tmp_path: Path) -> Ground:
    return Ground({"bootstrap.servers": bootstrap_servers}, topic, tmp_path)


def test_one_four_or_twelve_partitions_one_or_three_workers_replayed_or_killed_give_the_same_alerts_and_pairs(
    ground: Ground,
) -> None:
    judged = run(ground, Hurts(seed=7, kills=4, terms=1, freezes=2, brokers=0, every=4.0), (ONE, FOUR))
    assert len(judged.happened) == 7
    assert judged.problems == [], "\n".join(judged.lines)


def test_monitors_that_start_from_their_groups_offsets_fail_the_same_comparison(ground: Ground) -> None:
    judged = run(ground, Hurts(seed=7, kills=4, terms=0, freezes=0, brokers=0, every=5.0, flags=(CONTROL,)))
    assert judged.differences
    assert judged.problems == []
