"""Decisions as the audit tells them: what was decided on which evidence, what people said, what came of it; pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal

from penstock.changes import decision, when
from penstock.controller.acting import PROPOSE
from penstock.controller.facts import DECISION, VERDICTS
from schemas.control import Entry

Became = Literal["waits", "approved", "vetoed", "done", "void"]


@dataclass(frozen=True, slots=True)
class Known:
    """A decision. number: of its first entry in the audit. told: as `monitoring.steering.Decision`, as plain values.

    by: who answered, and why; empty where nobody did.
    """

    number: int
    at_ms: int
    told: dict[str, Any]
    became: Became
    by: str = ""

    @property
    def id(self) -> str:
        return str(self.told["id"])

    @property
    def deployment(self) -> str:
        return str(self.told["deployment"])

    @property
    def summary(self) -> str:
        """What it changes, in a few words."""
        return decision(self.told)


def decisions_of(entries: Iterable[Entry]) -> list[Known]:
    """Return all decisions, in the order in which they were made. entries: of the audit, in order."""
    found: dict[str, Known] = {}
    for entry in entries:
        if entry.subject_kind == DECISION:
            _take(found, entry)
        elif entry.changes_state:
            for known in [
                k for k in found.values() if k.deployment == entry.subject and k.became in ("waits", "approved")
            ]:
                if known.told["revision"] != entry.revision_after:
                    found[known.id] = replace(known, became="void")
    return list(found.values())


def _take(found: dict[str, Known], entry: Entry) -> None:
    known = found.get(entry.subject)
    if entry.action in VERDICTS:
        if known is not None and known.became == "waits":
            answered: Became = "approved" if entry.action == "approve" else "vetoed"
            by = entry.who + (f": {entry.why}" if entry.why else "")
            found[entry.subject] = replace(known, became=answered, by=by)
        return
    try:
        told = json.loads(entry.after or "")
        number, by = (known.number, known.by) if known else (entry.sequence, "")
        became: Became = "waits" if entry.action == PROPOSE else "done"
        found[entry.subject] = Known(number, entry.at_ms, {**told, "id": entry.subject}, became, by)
    except (ValueError, TypeError):  # nothing that a controller of ours tells
        return


def explained(known: Known) -> Iterator[str]:
    """Yield lines that tell a person what was decided, and why."""
    told, evidence = known.told, known.told["evidence"]
    yield f"decision {known.number}: {told['deployment']}, {known.summary}"
    yield f"  {when(told['at'])}, on revision {told['revision']}; {known.became}" + (
        f" ({known.by})" if known.by else ""
    )
    yield f"  why: {told['why']}"
    yield f"  candidate: {told['candidate']}" + (f", beside {told['incumbent']}" if told["incumbent"] else "")
    if "candidate" in evidence:
        for side in ("candidate", "incumbent"):
            mean = evidence[side]["mean"]
            number = (
                "no outcome is known" if mean is None else f"mean {mean:.4f} of {evidence[side]['outcomes']:,} outcomes"
            )
            yield f"  {side:<9}  {number}"
        gap = evidence["difference"]
        sure = f"{1 - gap['level']:.0%}"
        yield f"  difference between {gap['low']:+.4f} and {gap['high']:+.4f} ({sure} sure, whenever one looks)"
        share = evidence["with_this_share"]
        yield (
            f"  with {told['before']:g} % since {when(share['since'])}: {share['labels']:,} labels, "
            f"{share['events']:,} events, {share['failed']:,} of them failed"
        )
        if evidence.get("run_ms") is not None:
            yield f"  a run of its model takes {evidence['run_ms']:.1f} ms"
    for name, chance in evidence.get("chances", {}).items():
        mean = evidence["means"][name]
        number = "no outcome is known" if mean is None else f"mean {mean:.4f} as a share of the range"
        yield f"  {name:<10} {chance:6.1%} likely the best; {number}; {evidence['before'][name]:g} % before"
    if "log_e_value" in evidence:
        yield (
            f"  e-value {_power(evidence['log_e_value'])}: who bets on it has so many times the stake; 1 / level is "
            "enough"
        )
    if "alert" in evidence:
        yield f"  alert {evidence['alert'][:12]}: `penstock alerts show {evidence['alert'][:12]}`"


def _power(log: float) -> str:
    return f"{2.718281828459045**log:,.0f}" if log < 20 else f"10^{log / 2.302585092994046:.0f}"
