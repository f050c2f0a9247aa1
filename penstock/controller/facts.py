"""Records as facts: what the fold of `monitoring.steering` takes, from the audit, rewards, alerts and slots' words."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from monitoring.evidence import Alarm, Answer, Asked, Fact, Load, Seen, Standing, Started, Tagged
from monitoring.rewards import Told
from schemas import records
from schemas.control import Entry, State, Status
from schemas.errors import RecordInvalid

DECISION = "decision"  # kind of subject in the audit
POLICY = "policy"
VERDICTS = {"approve": "approved", "veto": "vetoed"}
Counts = dict[str, int]


def seen_of(at: int, value: bytes) -> tuple[str, Seen]:
    """Return a deployment and the outcomes that a record tells. Raises PartInvalid."""
    told = Told.of(value)
    return told.deployment, Seen(at, told.rewards)


def alarm_of(at: int, value: bytes) -> tuple[str, Alarm]:
    """Return a deployment and an alert. Raises RecordInvalid."""
    alert = records.decode("alert", value)
    lineage = alert["arm"], alert["model"], alert["version"]
    about = alert["detector"], alert["kind"], alert["name"]
    is_open = alert["state"] != "closed"
    return alert["deployment"], Alarm(at, alert["id"], lineage, about, alert["worst"], alert["summary"], is_open)


def asked_of(at: int, value: bytes) -> tuple[str, Asked]:
    """Return a deployment and the request for a new version. Raises RecordInvalid."""
    request = records.decode("retraining", value)
    plain = json.loads(json.dumps(request, default=lambda moment: round(moment.timestamp() * 1000)))
    return request["deployment"], Asked(at, plain)


@dataclass(slots=True)
class Standings:
    """Follows the audit. made: by deployment, the decision whose entry came last, and the number of that entry."""

    made: dict[str, tuple[str, int]] = field(default_factory=dict)

    def take(self, entry: Entry) -> Iterator[tuple[str, Fact]]:
        """Yield a deployment, empty for all of them, and what an entry tells of it; nothing where that is nothing."""
        if entry.subject_kind == DECISION:
            told = json.loads(entry.after or "{}")
            deployment = str(told.get("deployment", ""))
            if entry.action in VERDICTS:
                verdict: Any = VERDICTS[entry.action]
                yield deployment, Answer(entry.at_ms, entry.subject, verdict, entry.who, entry.why)
            else:
                self.made[deployment] = entry.subject, entry.sequence
                if entry.action == "retrain":
                    yield deployment, Started(entry.at_ms, entry.subject)
        elif entry.subject_kind == "model" and entry.action == "tag" and entry.after:
            told = json.loads(entry.after)
            if told.get("version"):
                yield "", Tagged(entry.at_ms, told["model"], told["tag"], told["version"])
        elif entry.changes_state:
            decision, sequence = self.made.pop(entry.subject, ("", 0))
            yield (
                entry.subject,
                Standing(entry.at_ms, _state_of(entry), decision if sequence + 1 == entry.sequence else ""),
            )


def _state_of(entry: Entry) -> State | None:
    """Return the state that an entry tells; None where there is none any more. Raises RecordInvalid."""
    if entry.after is None:
        return None
    return replace(State.of_told(entry.after), revision=entry.revision_after or 0)


@dataclass(slots=True)
class Loads:
    """What slots counted up to now, by slot and process: a word tells of what came since the last."""

    counts: dict[str, tuple[str, Counts]] = field(default_factory=dict)

    def take(self, at: int, status: Status) -> Iterator[Load]:
        """Yield what a slot did with the events of each arm that has a share of them since its last word.

        The first word of a process that was running before tells of too much: of it nothing is taken.
        """
        slot, process = f"{status.deployment}/{status.group}/{status.slot}", f"{status.host}/{status.pid}"
        if status.vitals is None or status.revision is None:
            return
        counts, known = dict(status.vitals.counts), self.counts.get(slot)
        before = known[1] if known is not None and known[0] == process else {} if known is not None else counts
        self.counts[slot] = process, counts
        shared = any(name.startswith("events.") for name in counts)
        if not shared and len(status.arms) == 1:  # a shadow's, which has its events alone
            new = {what: counts.get(what, 0) - before.get(what, 0) for what in ("events", "dead_letters")}
            if any(count > 0 for count in new.values()):
                yield Load(at, status.revision, status.arms[0].name, new["events"], new["dead_letters"])
        for arm in sorted(name.partition(".")[2] for name in counts if name.startswith("events.")):
            new = {what: counts.get(f"{what}.{arm}", 0) - before.get(f"{what}.{arm}", 0) for what in WHAT}
            if any(count > 0 for count in new.values()):
                took = new["micros"] / new["runs"] / 1000 if new["runs"] > 0 else None
                yield Load(at, status.revision, arm, new["events"], new["failed"], took)

    def dump(self) -> dict[str, Any]:
        """Return it as plain values."""
        return {slot: list(each) for slot, each in sorted(self.counts.items())}

    @classmethod
    def load(cls, document: Mapping[str, Any]) -> Loads:
        """Return what was dumped."""
        return cls({slot: (process, dict(counts)) for slot, (process, counts) in document.items()})


WHAT = ("events", "failed", "runs", "micros")


def status_of(value: bytes) -> Status | None:
    """Return a slot's word; None for one of another release."""
    try:
        return Status.decode(value)
    except RecordInvalid:
        return None
