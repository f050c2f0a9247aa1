"""Whether each inference is of the arm that its event is due to, and whether a fallback had its reason."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt

from models.frames import distinct
from models.routing import Router
from schemas.deployment import Deployment
from streams.arms import OPEN, Made
from streams.batch import Batch, batch_of
from streams.crew import Maker
from streams.findings import Findings
from streams.recorded import Recorded
from streams.swaps import UNKNOWN, Spans
from streams.versions import Declaration, Version, Versions

ON_TRUST = {"model_timed_out", OPEN}  # why an arm was passed over: made again, it may come out otherwise
Indexes = npt.NDArray[np.int64]


class ArmJudge:
    """Judges inferences of the range that is verified."""

    def __init__(self, findings: Findings, recorded: Recorded, versions: Versions, spans: Spans) -> None:
        self._findings, self._recorded, self._versions, self._spans = findings, recorded, versions, spans

    def judge(self, batch: Batch, rows: Indexes, maker: Maker) -> None:
        """Judge inferences of some events of a batch, all of one maker, whose revision is known."""
        made, declared = maker.made, self._versions.declared[maker.revision]
        judged = judge(declared.deployment, made, batch, rows)
        for row in judged.rows.tolist():
            self._wrong("wrong_arm", batch, row, judged.detail)
        if declared.number is not None:
            self._judge_state(declared, batch, rows, maker)
        if not made.fallback:
            return
        assigned = version_assigned(self._recorded.makers, maker) if judged.again else None
        version = None if assigned is None else self._versions.get(assigned)
        if not isinstance(version, Version):
            self._findings.counts["on_trust"] += len(rows)
            return
        refused = {each.row: each.reason for each in version.scorer.score(part(batch, rows)).rejected}
        for place, row in enumerate(rows.tolist()):
            if refused.get(place) == made.fallback:
                continue
            if version.leaves and made.fallback == "model_failed" and place not in refused:
                self._findings.counts["on_trust"] += 1  # its leaf may be there again
                continue
            now = f"refuses it now: {refused[place]}" if place in refused else "scores it now"
            self._wrong(
                "wrong_arm", batch, row, f"{made.assigned} could not score it ({made.fallback}), it says, but {now}"
            )

    def _judge_state(self, declared: Declaration, batch: Batch, rows: Indexes, maker: Maker) -> None:
        """Judge inferences by what control asked for, and by where the workers said that they changed over."""
        made, pin = maker.made, declared.pins.get(maker.made.arm)
        if pin is not None and pin != f"{made.model}@{made.version}":
            for row in rows.tolist():
                self._wrong("wrong_version", batch, row, f"revision {maker.revision} pins {pin} for {made.arm}")
        for partition in distinct(batch.partitions[rows]):
            mine = rows[batch.partitions[rows] == partition]
            due = self._spans.revision_of(partition, batch.offsets[mine])
            for place in np.flatnonzero((due != maker.revision) & (due != UNKNOWN)).tolist():
                detail = f"revision {due[place]} scores this offset by what the workers told, not {maker.revision}"
                self._wrong("wrong_revision", batch, int(mine[place]), detail)

    def _wrong(self, what: str, batch: Batch, row: int, detail: str) -> None:
        event, record = self._recorded.places(batch, row)
        self._findings.found(what, event=event, record=record, detail=detail)


def part(batch: Batch, rows: Indexes) -> Batch:
    """Return some rows of a batch, in order."""
    return batch if len(rows) == len(batch) else batch_of([batch.messages[row] for row in rows.tolist()])


@dataclass(frozen=True, slots=True)
class Judged:
    """rows: of inferences that are not of the arm that they are due to, with what is wrong. again: whether scoring
    with the assigned arm must refuse the event now for the same reason.
    """

    rows: Indexes
    detail: str
    again: bool


@cache
def router_of(deployment_json: str) -> Router:
    """Return the router of a declaration, given as JSON."""
    deployment = Deployment.model_validate_json(deployment_json)
    return Router(deployment.shares(), deployment.salt or deployment.name)


def judge(deployment: Deployment, made: Made, batch: Batch, rows: Indexes) -> Judged:
    """Judge inferences of some events of a batch that one maker made, under the declaration that they name."""
    nobody = np.zeros(0, np.int64)
    again = bool(made.fallback) and made.fallback not in ON_TRUST
    if deployment.is_shadow(made.arm) or {made.arm, made.assigned} & set(deployment.everywhere):
        wrong = (made.assigned, made.propensity, made.fallback) != (made.arm, 1.0, "")
        return Judged(rows if wrong else nobody, f"{made.arm} has every event, and nobody steps in for it", False)
    if made.assigned not in deployment.shares():
        return Judged(rows, f"{made.assigned!r} is no arm that events are assigned to", False)
    chain = deployment.chain(made.assigned)
    if made.arm not in (chain[1:] if made.fallback else chain[:1]):
        why = f"falls back ({made.fallback})" if made.fallback else "does not fall back"
        return Judged(rows, f"is of {made.arm}, but {made.assigned} {why}: its chain is {', '.join(chain)}", again)
    router = router_of(deployment.model_dump_json(by_alias=True))
    index = router.names.index(made.assigned)
    if made.propensity != router.propensities[index]:
        detail = f"names the propensity {made.propensity!r}, that of {made.assigned} is {router.propensities[index]!r}"
        return Judged(rows, detail, again)
    if len(router.names) == 1:
        return Judged(nobody, "", again)
    keys = [batch.keys[row] for row in rows.tolist()]
    found = router.assign(keys, batch.partitions[rows], batch.offsets[rows])
    wrong_rows = rows[found != index]
    due = router.names[int(found[found != index][0])] if len(wrong_rows) else ""
    return Judged(wrong_rows, f"its key is assigned to {due}, the inference says {made.assigned}", again)


def version_assigned(makers: Sequence[Maker], maker: Maker) -> Maker | None:
    """Return what the assigned arm of a fallback scored with, as its own inferences say; None where they do not."""
    found = {
        each.made.version: each
        for each in makers
        if each.revision == maker.revision and each.made.arm == maker.made.assigned
    }
    return next(iter(found.values())) if len(found) == 1 else None
