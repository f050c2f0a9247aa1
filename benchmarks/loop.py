"""`scripts/bench loop`: whether the controller may be trusted, and how soon it acts; the last line is the verdict.

    trials   simulated rollouts with a look at every tick: promotions of candidates that are no better, beside a test of
             fixed size that is looked at as often; labels until a true gain of 2 points is found, beside such a test
    bandit   the regret of shares by evidence beside Thompson sampling that knows each outcome at once; how often
             off-policy estimates hold the truth
    kills    the controller is killed again and again during a hundred rollouts on a real broker
    harm     under load a candidate with 5 % of the events is worse by 5 points, or fails, or is late

Exit status 1 when one misses what docs/controller.md promises.
"""

from __future__ import annotations

import argparse
import math
import os
import statistics
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.decisions import killed
from benchmarks.harmful import FAILING, LATE, Harm, Taken
from benchmarks.jobs import JOBS
from benchmarks.records import check, put
from benchmarks.rig import Rig, broker
from benchmarks.stand import SECOND
from monitoring.offpolicy import cells_of, doubly_robust, ips
from monitoring.rewards import Reward
from monitoring.simulation import DAY_S, Contest, World, contested, rollout, thompson
from schemas.policy import Policy

LEVEL, GAIN = 0.05, 0.02
POWER = 0.8  # of the test of fixed size that a true gain is compared with
Z_LEVEL, Z_POWER = 1.644854, 0.841621  # quantiles of 1 - LEVEL and POWER
TWICE, HALF_MORE, COVERED = 2.0, 1.5, 0.95
RATE, DELAY = 20_000, 30.0  # events/s, and seconds from event to label
WORSE_SECONDS, ILL_SECONDS = 60.0, 5.0
NAMES = {SECOND: "is worse", FAILING: "fails", LATE: "is late"}
FLOOR = 1  # percent, of the bandit and of what it is compared with
CONTEST = Contest({"active": 0.50, "one": 0.55, "two": 0.45}, rate=20.0, tick=60.0, delay=600.0, lasts=4.0 * DAY_S)
FALSE = World(rate=1.0, gain=0.0, swing=0.1, tick=600.0, delay=600.0, lasts=3.0 * DAY_S)
TRUE = World(rate=20.0, gain=GAIN, tick=10.0, delay=0.0, lasts=DAY_S / 2)


def policy(*steps: float, **bandit: Any) -> Policy:
    said: dict[str, Any] = {
        "deployment": "simulated",
        "steps": list(steps) or [5, 25, 100],
        "promotion": {"labels": 0, "seconds": 0, "act": "act", "level": LEVEL},
        "rollback": {"level": 1e-12},  # who may promote is asked, not who goes
        "cool_down": 0,
        "changes_per_day": 1000,
    }
    return Policy.model_validate({**said, "bandit": bandit or None})


@dataclass
class Looks:
    """A test of fixed size that is looked at after every tick. said: whether it ever said better."""

    said: bool = False
    sums: dict[str, list[float]] = field(default_factory=lambda: {"active": [0, 0.0], "canary": [0, 0.0]})

    def look(self, now: float, rewards: Sequence[Reward]) -> None:
        del now
        for each in rewards:
            self.sums[each.arm][0] += each.count
            self.sums[each.arm][1] += each.total
        (ones, one), (others, other) = self.sums["active"], self.sums["canary"]
        if ones and others:
            mean = (one + other) / (ones + others)
            spread = math.sqrt(max(mean * (1 - mean) * (1 / ones + 1 / others), 1e-12))
            self.said |= (other / others - one / ones) / spread > Z_LEVEL


def false_promotion(seed: int) -> tuple[bool, bool]:
    """Say of a rollout without a difference whether it is promoted, and whether the test of fixed size says better."""
    looks = Looks()
    run = rollout(policy(), FALSE, np.random.default_rng([1, seed]), looks.look)
    return run.end == "promoted", looks.said


def labels_to_a_gain(seed: int) -> float:
    run = rollout(policy(50, 100), TRUE, np.random.default_rng([2, seed]))
    return run.labels if run.end == "promoted" else math.inf


def fixed_size(mean: float, gain: float) -> float:
    """Return the events of both arms, half each, with which a one-sided test of LEVEL finds the gain with POWER."""
    spread = (mean * (1 - mean) + (mean + gain) * (1 - mean - gain)) / 2
    return 4 * spread * ((Z_LEVEL + Z_POWER) / gain) ** 2


def regrets(seed: int) -> tuple[float, float]:
    rule = policy(floor=FLOOR, every=300, labels=100, change=1)
    ours, _, _ = contested(rule, CONTEST, np.random.default_rng([3, seed]))
    return ours, thompson(CONTEST, FLOOR, np.random.default_rng([4, seed]))


def held(seed: int) -> list[bool]:
    """Say of each arm and kind of estimate whether its interval holds the truth."""
    rule = policy(floor=5, every=3600, labels=100, change=1)
    _, told, shares = contested(rule, CONTEST, np.random.default_rng([5, seed]))
    found = []
    for estimate in (ips, doubly_robust):
        for arm, mean in CONTEST.means.items():
            made = estimate(cells_of(told, "accuracy"), shares, arm)
            found.append(made is not None and made.low <= mean <= made.high)
    return found


def many(of: Callable[[int], Any], runs: int) -> list[Any]:
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(of, range(runs), chunksize=max(1, runs // 64)))


@dataclass(frozen=True, slots=True)
class Verdict:
    """One target."""

    what: str
    found: float
    most: float
    at_least: bool = False

    @property
    def met(self) -> bool:
        return self.found >= self.most if self.at_least else self.found <= self.most

    def __str__(self) -> str:
        word = "at least" if self.at_least else "at most"
        return f"{self.what} {self.found:.4g} ({word} {self.most:g}{'' if self.met else ', MISSED'})"


def trials(rollouts: int) -> list[Verdict]:
    ends = many(false_promotion, rollouts)
    ours, theirs = (statistics.fmean(each) for each in zip(*ends, strict=True))
    print(f"  {rollouts:,} rollouts of a candidate that is no better: {ours:.2%} promoted", flush=True)
    print(f"  a test of fixed size, looked at as often, says better in {theirs:.2%}", flush=True)
    labels = many(labels_to_a_gain, max(100, rollouts // 20))
    median, fixed = statistics.median(labels), fixed_size(TRUE.mean, GAIN)
    print(f"  a gain of {GAIN:g}: found after {median:,.0f} labels (median); fixed size {fixed:,.0f}", flush=True)
    return [
        Verdict("promotions that should not be", ours, LEVEL),
        Verdict("of a test of fixed size", theirs, LEVEL, at_least=True),
        Verdict("labels to a gain, to a test of fixed size", median / fixed, TWICE),
    ]


def bandit(runs: int) -> list[Verdict]:
    ours, best = (statistics.fmean(each) for each in zip(*many(regrets, runs), strict=True))
    print(f"  regret {ours:,.0f} outcomes; {best:,.0f} where each outcome is known at once", flush=True)
    covered = np.array(many(held, runs))
    names = [f"{kind} of {arm}" for kind in ("ips", "doubly robust") for arm in CONTEST.means]
    for name, share in zip(names, covered.mean(axis=0), strict=True):
        print(f"  {name}: the interval holds the truth in {share:.1%}", flush=True)
    chance = COVERED - 3 * math.sqrt(COVERED * (1 - COVERED) / runs)  # by which so many runs differ
    return [
        Verdict("regret to that of outcomes known at once", ours / best, HALF_MORE),
        Verdict("least share of intervals that hold", float(covered.mean(axis=0).min()), chance, at_least=True),
    ]


def kills(number: int) -> list[Verdict]:
    found = killed(5 * number, number)
    print(
        f"  {found.rollouts} rollouts, {found.kills} kill -9 of the controller: {found.expected} decisions", flush=True
    )
    return [
        Verdict("decisions lost", found.lost, 0),
        Verdict("doubled", found.doubled, 0),
        Verdict("different", found.different, 0),
        Verdict("made", found.expected, found.rollouts, at_least=True),
    ]


def harm(runs: int) -> list[Verdict]:
    """Take back candidates that are worse, fail, or are late, under load."""
    found: dict[str, list[Taken]] = {SECOND: [], FAILING: [], LATE: []}
    for run in range(runs):
        for tag, times in found.items():
            with broker(None) as where, tempfile.TemporaryDirectory(prefix="penstock-harm-") as folder:
                rig = Rig(where, Path(folder), JOBS["matrix"])
                times.append(Harm(rig, tag, RATE, DELAY if tag == SECOND else None).taken())
                rig.close()
            print(f"  {NAMES[tag]}, run {run + 1}: {times[-1]}", flush=True)
    worse = statistics.median(each.since_label for each in found[SECOND])
    ill = {tag: statistics.median(each.since_event for each in found[tag]) for tag in (FAILING, LATE)}
    return [
        Verdict("s from the first label of one that is worse", worse, WORSE_SECONDS),
        *(Verdict(f"s from the first event of one that {NAMES[tag]}", took, ILL_SECONDS) for tag, took in ill.items()),
    ]


PARTS: dict[str, Callable[[int], list[Verdict]]] = {"trials": trials, "bandit": bandit, "kills": kills, "harm": harm}
RUNS = {"trials": (10_000, 1_000), "bandit": (400, 60), "kills": (20, 4), "harm": (5, 1)}


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/bench loop", description=__doc__)
    parser.add_argument("--parts", nargs="+", default=list(PARTS), choices=list(PARTS))
    parser.add_argument("--quick", action="store_true", help="fewer runs")
    parser.add_argument("--json", type=Path, help="put what was found into this file")
    options = parser.parse_args()
    check(options.json)
    verdicts: list[Verdict] = []
    for name in options.parts:
        print(name, flush=True)
        found = PARTS[name](RUNS[name][options.quick])
        put(options.json, name, {each.what: each.found for each in found}, within="loop")
        verdicts += found
    met = all(each.met for each in verdicts)
    print(("PASS: " if met else "FAIL: ") + "; ".join(map(str, verdicts)))
    raise SystemExit(not met)


if __name__ == "__main__":
    main()
