"""A policy in made-up worlds or on recorded outcomes, and what came of it in words."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from monitoring.evidence import Seen
from monitoring.rewards import Told
from monitoring.simulation import Run, World, replayed, rollout
from penstock.changes import when
from penstock.errors import NothingRecorded
from schemas.policy import Policy


def of_worlds(policy: Policy, worlds: Iterable[World], rollouts: int, seed: int) -> dict[str, Any]:
    """Return how rollouts end in each world. The same seed gives the same numbers."""
    found = []
    for number, world in enumerate(worlds):
        streams = np.random.SeedSequence([seed, number]).spawn(rollouts)
        found.append(_summed(world, [rollout(policy, world, np.random.default_rng(each)) for each in streams]))
    return {"deployment": policy.deployment, "rollouts": rollouts, "seed": seed, "worlds": found}


def _summed(world: World, runs: Sequence[Run]) -> dict[str, Any]:
    ends: dict[str, Any] = {}
    for end in ("promoted", "withdrawn", "undecided"):
        of = [run for run in runs if run.end == end]
        ends[end] = {"share": len(of) / len(runs)}
        if of:
            ends[end] |= {
                "median_seconds": statistics.median(run.at for run in of),
                "median_labels": statistics.median(run.labels for run in of),
                "median_labels_of_the_candidate": statistics.median(run.candidate for run in of),
            }
    return {"world": asdict(world), "ends": ends, "regret": statistics.fmean(run.regret for run in runs)}


def of_recorded(policy: Policy, servers: str | None) -> dict[str, Any]:
    """Return what the policy would have decided on the outcomes of its deployment. Raises NothingRecorded."""
    from penstock.cli import control
    from penstock.config import kafka_settings
    from streams.control import state_of

    state = state_of(control.look(servers).states, policy.deployment)
    topic = state.content()[0].rewards_topic
    seen = list(_recorded(kafka_settings(servers), topic))
    if not seen:
        raise NothingRecorded(
            f"{topic} holds no outcomes: they are told while several arms share the events of {policy.deployment}, "
            "labels come, and `penstock monitor` runs"
        )
    decided = [asdict(each) for each in replayed(policy, state, iter(seen))]
    return {"deployment": policy.deployment, "records": len(seen), "decisions": decided}


def _recorded(kafka: Mapping[str, str], topic: str) -> Iterator[Seen]:
    from penstock.alerting import committed

    for value in committed(kafka, topic):
        told = Told.of(value)
        yield Seen(told.at, told.rewards)


def lines(found: Mapping[str, Any]) -> Iterator[str]:
    """Yield what was found, for a person."""
    if "decisions" in found:
        yield f"{found['deployment']}: {found['records']:,} records of outcomes"
        for each in found["decisions"]:
            yield f"  {when(each['at'])}  {each['kind']} to {each['to']:g} %: {each['why']}"
        if not found["decisions"]:
            yield "  nothing would have been decided"
        return
    for each in found["worlds"]:
        world = each["world"]
        yield (
            f"a candidate that is {_gain(world['gain'])}, {world['rate']:g} labelled events/s, a look every "
            f"{world['tick']:g} s for {world['lasts'] / 86_400:g} days:"
        )
        for end, told in each["ends"].items():
            more = ""
            if told["share"]:
                hours = told["median_seconds"] / 3600
                more = f", after {hours:,.1f} h and {told['median_labels']:,.0f} labels (median)"
            yield f"  {end:<9} {told['share']:7.2%}{more}"
        yield f"  regret    {each['regret']:,.0f} outcomes on average"


def _gain(gain: float) -> str:
    return "no better and no worse" if not gain else f"{'better' if gain > 0 else 'worse'} by {abs(gain):g}"
