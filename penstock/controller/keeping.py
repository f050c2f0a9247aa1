"""What the controller knows, written down every few seconds: a start goes on from there instead of reading everything.

Losing it, or finding an older one, costs reading again: what was done stands in the audit.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from monitoring.allocation import Allocation
from monitoring.decision import Decision
from monitoring.errors import SnapshotInvalid
from monitoring.evidence import Fact
from monitoring.folds import packed, unpacked
from monitoring.renewal import Renewal
from monitoring.steering import Steering
from penstock.controller.facts import Loads, Standings
from schemas.policy import Policy

log = logging.getLogger(__name__)
FORMAT = 1
TOPIC = "penstock.controller"


class Fold(Protocol):
    """What decides about a deployment. pending: what was decided and is neither done nor void."""

    pending: Decision | None

    def take(self, fact: Fact) -> Decision | None:
        """Take the next fact; return what is decided on it."""

    def dump(self) -> dict[str, Any]:
        """Return everything but the policy as plain values."""


@dataclass(slots=True)
class Kept:
    """One deployment's. positions: by topic, the next offset that was not taken. folds: what decides, by name."""

    policy: Policy
    positions: dict[str, int]
    folds: dict[str, Fold]
    loads: Loads
    standings: Standings

    @classmethod
    def new(cls, policy: Policy) -> Kept:
        """Return what is known before anything was read."""
        return cls(policy, {}, folds_of(policy), Loads(), Standings())

    def dump(self) -> bytes:
        """Return it for the topic."""
        document = {
            "format": FORMAT,
            "positions": self.positions,
            "judged": judged(self.policy),
            "folds": {name: fold.dump() for name, fold in self.folds.items()},
            "loads": self.loads.dump(),
            "made": {name: list(each) for name, each in sorted(self.standings.made.items())},
        }
        return packed(document)

    @classmethod
    def load(cls, policy: Policy, data: bytes) -> Kept:
        """Return what was dumped. Evidence under another outcome or arm is of no use: it is read anew."""

        def made(document: Mapping[str, Any]) -> Kept:
            if document["judged"] != judged(policy):
                log.info(
                    "%s: another outcome or arm is judged now, so what is known of it is read anew", policy.deployment
                )
                return cls.new(policy)
            standings = Standings({name: (one, number) for name, (one, number) in document["made"].items()})
            loads = Loads.load(document["loads"])
            folds = folds_of(policy, document["folds"])
            return cls(policy, dict(document["positions"]), folds, loads, standings)

        return unpacked(data, FORMAT, made)


def folds_of(policy: Policy, document: Mapping[str, Any] | None = None) -> dict[str, Fold]:
    """Return what decides by a policy, as it was dumped; as it begins where it was not."""
    known, found = document or {}, dict[str, Fold]()
    if policy.bandit is not None:
        found["shares"] = Allocation(policy, policy.bandit)
        if "shares" in known:
            found["shares"] = Allocation.load(policy, policy.bandit, known["shares"])
    else:
        found["candidate"] = Steering.load(policy, known["candidate"]) if "candidate" in known else Steering(policy)
    if policy.retraining is not None:
        found["renewal"] = Renewal(policy, policy.retraining)
        if "renewal" in known:
            found["renewal"] = Renewal.load(policy, policy.retraining, known["renewal"])
    return found


def judged(policy: Policy) -> list[Any]:
    """Return what evidence depends on."""
    return [
        policy.arm,
        policy.bandit is not None,
        policy.retraining is not None,
        policy.outcome.model_dump(mode="json"),
    ]


def kept_of(policy: Policy, data: bytes | None) -> Kept:
    """Return what is known of a deployment; nothing where there is no snapshot, or one that cannot be read."""
    if not data:
        return Kept.new(policy)
    try:
        return Kept.load(policy, data)
    except SnapshotInvalid as error:
        log.warning("%s: what was known is read anew: %s", policy.deployment, error)
        return Kept.new(policy)
