"""What a policy would do in worlds whose truth is known: the controller's own fold on made-up outcomes. Pure."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from monitoring.allocation import Allocation
from monitoring.decision import Decision
from monitoring.evidence import Seen, Standing
from monitoring.rewards import Reward
from monitoring.steering import Steering
from schemas.control import ArmState, State
from schemas.policy import Policy

End = Literal["promoted", "withdrawn", "undecided"]
DAY_S = 86_400
ACTIVE = ArmState("active", "active", "model@1", "model", "1", "")
CANDIDATE = ArmState("", "canary", "model@2", "model", "2", "")


@dataclass(frozen=True, slots=True)
class World:
    """The truth. rate: labelled events a second of both arms. mean, gain: of the outcome as a share of its range, the
    incumbent's, and by how much the candidate's is larger. swing: by which both move up and down over each day.

    tick: s, from look to look. delay: s, from event to label. lasts: s, after which nothing is waited for any more.
    """

    rate: float = 10.0
    mean: float = 0.8
    gain: float = 0.0
    swing: float = 0.0
    tick: float = 60.0
    delay: float = 30.0
    lasts: float = 7.0 * DAY_S

    def means(self, at: float) -> tuple[float, float]:
        """Return the means of both at a time (s)."""
        here = self.mean + self.swing * math.sin(2 * math.pi * at / DAY_S)
        return tuple(min(max(each, 0.0), 1.0) for each in (here, here + self.gain))  # type: ignore[return-value]


@dataclass(frozen=True, slots=True)
class Run:
    """How one rollout ended. at: s since its begin. labels: that were known of both, and of the candidate.

    regret: what was lost against the better one from the begin on, in outcomes (shares of the range), until the end of
    the world: who was not promoted although better goes on losing.
    """

    end: End
    at: float
    labels: int
    candidate: int
    regret: float
    steps: tuple[float, ...] = ()


def rollout(
    policy: Policy,
    world: World,
    rng: np.random.Generator,
    watch: Callable[[float, Sequence[Reward]], object] = lambda now, rewards: None,
) -> Run:
    """Return how one rollout goes: proposals are approved at once, for what is asked is how good they are.

    watch: is given the outcomes of each look, too, at a time (s).
    """
    state = _started(policy)
    steering = Steering(policy)
    steering.take(Standing(0, state))
    waiting: deque[tuple[float, list[Reward]]] = deque()
    steps, regret, labels, candidates = [policy.steps[0]], 0.0, 0, 0
    for number in range(1, int(world.lasts / world.tick) + 1):
        now, weight = number * world.tick, (state.arms[-1].weight or 0.0) / 100
        counts, rewards = _drawn(policy, world, state, now - world.tick / 2, rng)
        regret += world.rate * world.tick * (abs(world.gain) * (1 - weight if world.gain > 0 else weight))
        labels, candidates = labels + sum(counts), candidates + counts[1]
        waiting.append((now + world.delay, rewards))
        while waiting and waiting[0][0] <= now:
            seen = Seen(int(now * 1000), waiting.popleft()[1])
            watch(now, seen.rewards)
            decision = steering.take(seen)
            if decision is None:
                continue
            if decision.kind == "step":
                state = _with(state, decision.to)
                steps.append(decision.to)
                steering.take(Standing(int(now * 1000), state, decision.id))
                continue
            lost = abs(world.gain) if (world.gain > 0) != (decision.kind == "promote") else 0.0
            regret += lost * world.rate * max(world.lasts - now, 0.0)
            end: End = "promoted" if decision.kind == "promote" else "withdrawn"
            return Run(end, now, labels, candidates, regret, tuple(steps))
    return Run("undecided", world.lasts, labels, candidates, regret, tuple(steps))


@dataclass(frozen=True, slots=True)
class Contest:
    """A world of several arms. means: of their outcomes, by name; `active` is one of them. The rest as in World."""

    means: Mapping[str, float]
    rate: float = 10.0
    swing: float = 0.0
    tick: float = 60.0
    delay: float = 30.0
    lasts: float = 7.0 * DAY_S

    @property
    def ticks(self) -> int:
        return int(self.lasts / self.tick)

    def draw(
        self, at: float, shares: Mapping[str, float], rng: np.random.Generator
    ) -> tuple[dict[str, tuple[int, int]], float]:
        """Return events and good ones of a tick by arm, and what was lost against the best. shares: add up to 1."""
        names, level = list(self.means), self.swing * math.sin(2 * math.pi * at / DAY_S)
        counts = rng.multinomial(rng.poisson(self.rate * self.tick), [shares[name] for name in names])
        means = [min(max(self.means[name] + level, 0.0), 1.0) for name in names]
        good = rng.binomial(counts, means)
        lost = float(np.dot(counts, max(means) - np.array(means)))
        return {n: (int(c), int(g)) for n, c, g in zip(names, counts, good, strict=True)}, lost


def contested(
    policy: Policy, world: Contest, rng: np.random.Generator
) -> tuple[float, list[Reward], dict[int, Shares]]:
    """Return the regret of a bandit's policy, all outcomes, and the shares (0 to 1) of each revision."""
    assert policy.bandit is not None
    names = [name for name in world.means if name != "active"]
    state = _shared(policy, 1, dict.fromkeys(names, float(100 // len(world.means))))
    fold = Allocation(policy, policy.bandit)
    fold.take(Standing(0, state))
    waiting: deque[tuple[float, list[Reward]]] = deque()
    told, regret, shares = list[Reward](), 0.0, dict[int, Shares]({1: _shares(state)})
    for number in range(1, world.ticks + 1):
        now = number * world.tick
        drawn, lost = world.draw(now, shares[state.revision], rng)
        regret += lost
        rewards = [
            Reward(state.revision, name, policy.outcome.metric, "", "", count, float(good), float(good))
            for name, (count, good) in drawn.items()
        ]
        told += rewards
        waiting.append((now + world.delay, rewards))
        while waiting and waiting[0][0] <= now:
            decision = fold.take(Seen(int(now * 1000), waiting.popleft()[1]))
            if decision is not None and decision.kind == "reweigh":
                state = _shared(policy, state.revision + 1, decision.evidence["shares"])
                shares[state.revision] = _shares(state)
                fold.take(Standing(int(now * 1000), state, decision.id))
    return regret, told, shares


def thompson(world: Contest, floor: float, rng: np.random.Generator) -> float:
    """Return the regret of Thompson sampling that knows each outcome at once, and draws anew for each event.

    floor: percent that each arm keeps.
    """
    names = list(world.means)
    good, bad = np.ones(len(names)), np.ones(len(names))
    regret, keep = 0.0, floor / 100
    for number in range(1, world.ticks + 1):
        drawn = rng.beta(good, bad, (max(1, round(world.rate * world.tick)), len(names)))
        chance = np.bincount(drawn.argmax(axis=1), minlength=len(names)) / len(drawn)
        shares = dict(zip(names, keep + (1 - keep * len(names)) * chance, strict=True))
        found, lost = world.draw(number * world.tick, shares, rng)
        regret += lost
        good += [found[name][1] for name in names]
        bad += [found[name][0] - found[name][1] for name in names]
    return regret


Shares = Mapping[str, float]


def _shared(policy: Policy, revision: int, shares: Shares) -> State:
    arms = [replace(CANDIDATE, name=name, role="challenger", weight=percent) for name, percent in shares.items()]
    return State(policy.deployment, revision, "{}", "{}", (ACTIVE, *arms))


def _shares(state: State) -> dict[str, float]:
    found = {arm.name: (arm.weight or 0.0) / 100 for arm in state.arms if arm.role != "active"}
    return {"active": 1 - sum(found.values()), **found}


def replayed(policy: Policy, state: State, seen: Iterator[Seen]) -> Iterator[Decision]:
    """Yield what a policy would have decided on recorded outcomes, every proposal approved, nothing carried out.

    The shares stay what they were: what is recorded came of them.
    """
    steering = Steering(policy)
    steering.take(Standing(0, state))
    for fact in seen:
        rewards = [replace(each, revision=state.revision) for each in fact.rewards]  # as if they came of these shares
        decision = steering.take(Seen(fact.at, rewards))
        if decision is not None:
            yield decision
            if decision.kind != "step":
                return
            state = _with(state, decision.to)
            steering.take(Standing(fact.at, state, decision.id))


def _started(policy: Policy) -> State:
    arm = replace(CANDIDATE, name=policy.arm, weight=policy.steps[0])
    return State(policy.deployment, 1, "{}", "{}", (replace(ACTIVE, weight=None), arm))


def _with(state: State, percent: float) -> State:
    *others, arm = state.arms
    return replace(state, revision=state.revision + 1, arms=(*others, replace(arm, weight=percent)))


def _drawn(
    policy: Policy, world: World, state: State, at: float, rng: np.random.Generator
) -> tuple[tuple[int, int], list[Reward]]:
    """Return the events of a tick of both arms, and their outcomes, each right or wrong: no others vary more."""
    arm, outcome = state.arms[-1], policy.outcome
    count = int(rng.poisson(world.rate * world.tick))
    candidate = int(rng.binomial(count, (arm.weight or 0.0) / 100))
    found = []
    for name, events, mean in zip(("active", arm.name), (count - candidate, candidate), world.means(at), strict=True):
        good = float(rng.binomial(events, mean))
        total = good if outcome.better == "higher" else events - good
        found.append(Reward(state.revision, name, outcome.metric, "", "", events, total, total))
    return (count - candidate, candidate), found
