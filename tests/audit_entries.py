"""Entries of the audit for tests, and a plain producer that writes them as the control plane does."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from confluent_kafka import Producer

from schemas.control import Entry

OLD, NEW = "0d3adb44-0000-4000-8000-000000000001", "0d3adb44-0000-4000-8000-000000000002"
BEGAN_MS = 1_767_225_600_000  # 2026-01-01T00:00:00Z


def arm(version: str = OLD, name: str = "active", ref: str = "flights@production", **more: Any) -> dict[str, Any]:
    """An arm as a deployment's state has it."""
    role = name.partition("-")[0]
    digest = hashlib.sha256(version.encode()).hexdigest()
    model = ref.partition("@")[0]
    return {"name": name, "role": role, "ref": ref, "model": model, "version": version, "digest": digest, **more}


def deployed(
    revision: int, *arms: Mapping[str, Any], deployment: str = "flights", paused: bool = False
) -> dict[str, Any]:
    """A deployment's state."""
    return {
        "deployment": deployment,
        "revision": revision,
        "declaration": json.dumps({"name": deployment}),
        "event_schema": '{"type":"record"}',
        "arms": list(arms),
        "paused": paused,
    }


def entry(
    sequence: int,
    action: str,
    subject: str = "flights",
    *,
    kind: str = "deployment",
    before: Mapping[str, Any] | str | None = None,
    after: Mapping[str, Any] | str | None = None,
    who: str = "ada",
    why: str = "",
    **more: Any,
) -> Entry:
    """An entry; before and after may be text that is no JSON. Times are a minute apart."""
    fields: dict[str, Any] = {
        "id": str(uuid.uuid5(uuid.NAMESPACE_OID, f"{sequence} {subject} {action}")),
        "sequence": sequence,
        "previous": "",
        "at_ms": BEGAN_MS + sequence * 60_000,
        "who": who,
        "host": "control",
        "action": action,
        "why": why,
        "subject_kind": kind,
        "subject": subject,
        "revision_before": before.get("revision") if isinstance(before, Mapping) else None,
        "revision_after": after.get("revision") if isinstance(after, Mapping) else None,
        "before": json.dumps(before) if isinstance(before, Mapping) else before,
        "after": json.dumps(after) if isinstance(after, Mapping) else after,
        "signature": None,
        "signer": None,
        **more,
    }
    stated = json.dumps({name: value for name, value in fields.items() if name != "signature"}, sort_keys=True)
    return Entry(**{"hash": hashlib.sha256(stated.encode()).hexdigest(), **fields})


def applied(count: int, first: int = 1) -> list[Entry]:
    """So many entries that each apply another revision."""
    return [entry(n, "apply", after=deployed(n, arm()), why=f"change {n}") for n in range(first, first + count)]


def publish(
    servers: str, topic: str, values: Iterable[bytes], *, per: int = 3, end: str = "commit_transaction"
) -> None:
    """Write records as the control plane does, in transactions, so that their offsets have gaps."""
    producer = Producer({"bootstrap.servers": servers, "transactional.id": f"{topic}.control"})
    producer.init_transactions(30)
    waiting: Sequence[bytes] = list(values)
    while waiting:
        producer.begin_transaction()
        for value in waiting[:per]:
            producer.produce(topic, value, b"flights", partition=0)
        producer.flush(30)
        getattr(producer, end)(30)
        waiting = waiting[per:]
