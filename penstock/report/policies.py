"""The section on what would have been if one arm had had all events: off-policy estimates."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from monitoring.errors import PartInvalid
from monitoring.hindsight import Span
from monitoring.offpolicy import Estimate, cells_of, doubly_robust, ips
from monitoring.rewards import Reward, Told
from penstock.report import words
from penstock.report.markup import Markup, tag, together
from penstock.report.parts import table
from penstock.report.section import Section
from schemas.control import Entry, State
from schemas.deployment import Deployment
from schemas.errors import RecordInvalid
from streams import control
from streams.reading import TopicReader, values_of

READ = 1_000
SHARING = ("active", "canary", "challenger")  # roles of arms that share the events
HEAD = ("metric", "if all had gone to", "outcomes", "its own mean", "IPS", "interval", "doubly robust", "interval")
Propensities = dict[int, dict[str, float]]  # by revision and arm


def sections(reader: TopicReader, deployment: Deployment, span: Span) -> Sequence[Section]:
    """Return the section where several arms share the events and outcomes are known. Raises Refused."""
    topic = deployment.rewards_topic
    if deployment.labels is None or not reader.partitions(topic):
        return []
    rewards = [each for told in _told(reader, topic, deployment.name) if span.holds(told.at) for each in told.rewards]
    states = _states(reader, deployment.name) if rewards else {}
    content = estimated(rewards, states)
    return [Section("policies", content, policies_markup(content))] if content["estimates"] else []


def _told(reader: TopicReader, topic: str, deployment: str) -> Iterator[Told]:
    """Yield what the topic holds of a deployment, each record once."""
    seen: set[tuple[int, int]] = set()
    for value in values_of(reader.read(topic, reader.ends(topic), READ)):
        try:
            told = Told.of(value)
        except PartInvalid:
            continue
        if told.deployment == deployment and (told.partition, told.number) not in seen:
            seen.add((told.partition, told.number))
            yield told


def _states(reader: TopicReader, deployment: str) -> dict[int, State]:
    """Return what the audit tells of a deployment, by revision."""
    topic, found = control.TOPICS.audit, dict[int, State]()
    if not reader.partitions(topic):
        return found
    for value in values_of(reader.read(topic, reader.ends(topic), READ)):
        try:
            entry = Entry.decode(value)
            if entry.changes_state and entry.subject == deployment and entry.after:
                found[entry.revision_after or 0] = State.of_told(entry.after)
        except RecordInvalid:
            continue
    return found


def estimated(rewards: Sequence[Reward], states: Mapping[int, State]) -> dict[str, Any]:
    """Return the estimates as plain values, of the revisions whose arms have the versions that they had last."""
    known = sorted({each.revision for each in rewards} & set(states))
    if not known:
        return {"segment": "", "versions": {}, "revisions": [], "estimates": []}
    versions = _versions(states[known[-1]])
    chosen = [revision for revision in known if _versions(states[revision]) == versions]
    ours = [each for each in rewards if each.revision in chosen]
    shares: Propensities = {revision: _propensities(states[revision]) for revision in chosen}
    segment = min((each.segment for each in ours if each.segment), default="")
    found = []
    for metric in sorted({each.metric for each in ours}):
        whole, parts = cells_of(ours, metric), cells_of(ours, metric, segment)
        for arm in versions:
            one = ips(whole, shares, arm)
            if one is not None:
                found.append(_row(metric, one, doubly_robust(parts, shares, arm), _mean(ours, metric, arm)))
    return {"segment": segment, "versions": versions, "revisions": chosen, "estimates": found}


def _row(metric: str, one: Estimate, other: Estimate | None, mean: float) -> dict[str, Any]:
    return {
        "metric": metric,
        "arm": one.arm,
        "outcomes": one.events,
        "mean": mean,
        "ips": [one.value, one.low, one.high],
        "doubly_robust": None if other is None else [other.value, other.low, other.high],
    }


def _mean(rewards: Sequence[Reward], metric: str, arm: str) -> float:
    own = [each for each in rewards if (each.metric, each.segment, each.arm) == (metric, "", arm)]
    return sum(each.total for each in own) / max(sum(each.count for each in own), 1)


def _versions(state: State) -> dict[str, str]:
    return {arm.name: arm.pinned for arm in state.arms if arm.role in SHARING}


def _propensities(state: State) -> dict[str, float]:
    found = {arm.name: (arm.weight or 0.0) / 100 for arm in state.arms if arm.role in SHARING[1:]}
    return {**{arm.name: 1 - sum(found.values()) for arm in state.arms if arm.role == "active"}, **found}


def policies_markup(content: Mapping[str, Any]) -> Markup:
    """Return the section."""
    rows = [
        (
            each["metric"],
            f"{each['arm']}: {content['versions'][each['arm']]}",
            f"{each['outcomes']:,}",
            f"{each['mean']:.4f}",
            *_cells(each["ips"]),
            *_cells(each["doubly_robust"]),
        )
        for each in content["estimates"]
    ]
    by = f" The model is the arm's mean by {content['segment']}." if content["segment"] else ""
    text = (
        "Outcomes as shares of the metric's range, weighted by how likely each event was to come to its arm: what they "
        f"would be if one arm had had all events. Intervals are of 95 %.{by} "
        f"From {words.count(len(content['revisions']), 'revision')}."
    )
    return together(
        [tag("h2", "If one arm had had all events"), tag("p", text, class_="soft"), table(HEAD, rows, (2, 3))]
    )


def _cells(found: Sequence[float] | None) -> tuple[str, str]:
    if found is None:
        return words.NOTHING, words.NOTHING
    return f"{found[0]:.4f}", f"{found[1]:.4f} .. {found[2]:.4f}"
