"""Entries of the audit as CloudEvents 1.0, in structured JSON: one form for the topic and for webhooks; pure.

The same entry gives the same bytes, whoever makes them and how often: consumers know a repeat by its id.
"""

from __future__ import annotations

import json
import re
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from penstock.audit import state
from schemas.control import Entry

CONTENT_TYPE = "application/cloudevents+json; charset=UTF-8"
PREFIX = "io.penstock"
EVENT_BYTES = 900_000  # of an event; a larger one leaves out what the audit has anyway
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
UNREADABLE = f"{PREFIX}.audit.unreadable"
DECIDED = ("step", "promote", "reweigh", "withdraw", "rollback", "retrain", "shadow", "enter")
TYPES = {
    ("deployment", "apply"): f"{PREFIX}.deployment.applied",
    ("deployment", "tag"): f"{PREFIX}.deployment.applied",  # a tag that it follows was moved
    ("deployment", "untag"): f"{PREFIX}.deployment.applied",
    ("deployment", "promote"): f"{PREFIX}.deployment.promoted",
    ("deployment", "rollback"): f"{PREFIX}.deployment.rolled_back",
    ("deployment", "pause"): f"{PREFIX}.deployment.paused",
    ("deployment", "resume"): f"{PREFIX}.deployment.resumed",
    ("deployment", "remove"): f"{PREFIX}.deployment.removed",
    ("deployment", "refused"): f"{PREFIX}.deployment.refused",
    ("model", "register"): f"{PREFIX}.model.registered",
    ("model", "tag"): f"{PREFIX}.model.tagged",
    ("model", "untag"): f"{PREFIX}.model.untagged",
    ("model", "note"): f"{PREFIX}.model.noted",
    ("model", "remove"): f"{PREFIX}.model.removed",
    ("deployment", "step"): f"{PREFIX}.deployment.reweighted",
    ("deployment", "withdraw"): f"{PREFIX}.deployment.withdrawn",
    ("decision", "propose"): f"{PREFIX}.decision.proposed",
    ("decision", "approve"): f"{PREFIX}.decision.approved",
    ("decision", "veto"): f"{PREFIX}.decision.vetoed",
    **{
        ("decision", kind): f"{PREFIX}.decision.made" for kind in ("step", "promote", "reweigh", "withdraw", "rollback")
    },
    ("policy", "apply"): f"{PREFIX}.policy.applied",
    ("experiment", "finish"): f"{PREFIX}.experiment.finished",
}
BEYOND = ("event_schema",)  # of a deployment's state: long, and in the audit
_ID = re.compile(r"[A-Za-z0-9_-]{1,100}")  # safe in a header of HTTP and in what webhooks sign
_NAME = re.compile(r"[^a-z0-9_]+")


@dataclass(frozen=True, slots=True)
class Event:
    """A CloudEvent as both bindings send it. value: structured JSON."""

    id: str
    type: str
    subject: str
    value: bytes


def type_of(subject_kind: str, action: str) -> str:
    """Return the event's type; an action that this version does not know names its own."""
    known = TYPES.get((subject_kind, action))
    return known or ".".join((PREFIX, *(_NAME.sub("_", part.lower()) or "unknown" for part in (subject_kind, action))))


def event_of(entry: Entry, source: str) -> Event:
    """Return the event of an entry. source: a URI reference that names the cluster, `/penstock/<cluster id>`.

    Raises ValueError where `before` or `after` is no JSON object.
    """
    data = {
        "sequence": entry.sequence,
        "action": entry.action,
        "who": entry.who,
        "host": entry.host,
        "why": entry.why,
        "revision_before": entry.revision_before,
        "revision_after": entry.revision_after,
        "before": _shown(state(entry.before)),
        "after": _shown(state(entry.after)),
        "hash": entry.hash,
        "signer": entry.signer,
    }
    identity = entry.id if _ID.fullmatch(entry.id) else _uuid("entry", entry.sequence, entry.hash)
    kind = type_of(entry.subject_kind, entry.action)
    event = _event(identity, kind, entry.subject, entry.at_ms, source, data)
    event["sequence"] = f"{entry.sequence:020d}"  # the extension wants text that sorts
    value = _bytes(event)
    if len(value) > EVENT_BYTES:
        data |= {"why": entry.why[:1000], "before": None, "after": None, "left_out": ["before", "after"]}
        value = _bytes(event)
    return Event(identity, kind, entry.subject, value)


def unreadable_event(topic: str, partition: int, offset: int, at_ms: int, reason: str, source: str) -> Event:
    """Return the event that stands for a record of the audit that is no entry: nothing is passed over in silence."""
    place = f"{topic}/{partition}@{offset}"
    identity = _uuid("record", place)
    data = {"topic": topic, "partition": partition, "offset": offset, "reason": reason[:1000]}
    return Event(identity, UNREADABLE, place, _bytes(_event(identity, UNREADABLE, place, at_ms, source, data)))


def time_of(at_ms: int) -> str | None:
    """Return milliseconds since 1970 as RFC 3339 says them, in UTC; None for what is no time."""
    try:
        moment = EPOCH + timedelta(milliseconds=at_ms)
    except OverflowError:
        return None
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _event(identity: str, kind: str, subject: str, at_ms: int, source: str, data: dict[str, Any]) -> dict[str, Any]:
    time = time_of(at_ms)
    return {
        "specversion": "1.0",
        "id": identity,
        "source": source,
        "type": kind,
        **({"subject": subject} if subject else {}),  # an empty attribute is not allowed
        **({"time": time} if time else {}),
        "datacontenttype": "application/json",
        "data": data,
    }


def _shown(said: dict[str, Any] | None) -> dict[str, Any] | None:
    return None if said is None else {name: value for name, value in said.items() if name not in BEYOND}


def _uuid(*parts: object) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_URL, "/".join(map(str, parts))))


def _bytes(event: dict[str, Any]) -> bytes:
    """Encode as JSON; half a surrogate pair, which JSON can name and UTF-8 cannot, becomes a question mark."""
    return json.dumps(event, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
