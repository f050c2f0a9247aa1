"""Off-policy estimates hold the truth as often as they say, however shares changed with the outcomes' level."""

from __future__ import annotations

import numpy as np
import pytest

from monitoring.offpolicy import Estimate, cells_of, doubly_robust, ips
from monitoring.rewards import Reward

MEANS = {"A": {"active": 0.9, "canary": 0.95}, "B": {"active": 0.4, "canary": 0.5}}  # by the value of a segment
SHARES = {1: {"active": 0.95, "canary": 0.05}, 2: {"active": 0.6, "canary": 0.4}}
PART = {1: 0.2, 2: 0.7}  # of the events that are A: the mix changes when the shares do
EVENTS = 4000


def rewards(seed: int) -> list[Reward]:
    draw, found = np.random.default_rng(seed), []
    for revision, shares in SHARES.items():
        for value, part in (("A", PART[revision]), ("B", 1 - PART[revision])):
            for arm, share in shares.items():
                count = int(draw.binomial(EVENTS, part * share))
                good = float(draw.binomial(count, MEANS[value][arm]))
                found.append(Reward(revision, arm, "accuracy", "origin", value, count, good, good))
    totals: dict[tuple[int, str], list[float]] = {}
    for each in found:
        sums = totals.setdefault((each.revision, each.arm), [0, 0.0])
        sums[0] += each.count
        sums[1] += each.total
    found += [Reward(r, a, "accuracy", "", "", int(n), t, t) for (r, a), (n, t) in totals.items()]
    return found


def truth(arm: str) -> float:
    return float(np.mean([PART[r] * MEANS["A"][arm] + (1 - PART[r]) * MEANS["B"][arm] for r in SHARES]))


def both(seed: int, arm: str) -> tuple[Estimate, Estimate]:
    found = rewards(seed)
    one = ips(cells_of(found, "accuracy"), SHARES, arm)
    other = doubly_robust(cells_of(found, "accuracy", "origin"), SHARES, arm)
    assert one is not None
    assert other is not None
    return one, other


@pytest.mark.parametrize("arm", ["active", "canary"])
def test_intervals_hold_the_truth_as_often_as_they_say(arm: str) -> None:
    runs = [both(seed, arm) for seed in range(400)]
    for estimates in zip(*runs, strict=True):
        held = sum(each.low <= truth(arm) <= each.high for each in estimates)
        assert held >= 400 * 0.95 - 3 * np.sqrt(400 * 0.95 * 0.05)


def test_segments_make_the_interval_narrower() -> None:
    one, other = both(1, "canary")
    assert other.high - other.low < 0.6 * (one.high - one.low)


def test_the_plain_mean_of_an_arm_is_wrong_where_shares_and_events_changed_together() -> None:
    plain = []
    for seed in range(50):
        own = [each for each in rewards(seed) if each.arm == "canary" and not each.segment]
        plain.append(sum(each.total for each in own) / sum(each.count for each in own))
    assert abs(float(np.mean(plain)) - truth("canary")) > 0.05
    assert abs(float(np.mean([both(seed, "canary")[0].value for seed in range(50)])) - truth("canary")) < 0.02


def test_an_arm_without_events_has_no_estimate() -> None:
    assert ips(cells_of(rewards(1), "accuracy"), SHARES, "nobody") is None
    assert ips({}, SHARES, "active") is None
