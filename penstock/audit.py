"""The entries of the audit as lineage and events need them: their shape, how they are read, and drafts of new ones.

An entry says what somebody changed. Its record is an Avro single object; everything here but `decode` only knows the
attributes of `AuditEntry`.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Protocol

from penstock.client import cluster
from penstock.client.errors import ConnectionFailed
from penstock.client.records import RecordReader
from schemas import records
from schemas.errors import RecordInvalid

if TYPE_CHECKING:
    from models.repository import Entry

TOPIC = "penstock.audit"
PATIENCE = 30.0  # seconds without a record before a reader gives up


class AuditEntry(Protocol):
    """One entry. at_ms: since 1970. before, after: JSON objects as text, None where there was or is nothing."""

    @property
    def id(self) -> str: ...
    @property
    def sequence(self) -> int: ...
    @property
    def previous(self) -> str: ...
    @property
    def at_ms(self) -> int: ...
    @property
    def who(self) -> str: ...
    @property
    def host(self) -> str: ...
    @property
    def action(self) -> str: ...
    @property
    def why(self) -> str: ...
    @property
    def subject_kind(self) -> str: ...
    @property
    def subject(self) -> str: ...
    @property
    def revision_before(self) -> int | None: ...
    @property
    def revision_after(self) -> int | None: ...
    @property
    def before(self) -> str | None: ...
    @property
    def after(self) -> str | None: ...
    @property
    def hash(self) -> str: ...
    @property
    def signature(self) -> bytes | None: ...
    @property
    def signer(self) -> str | None: ...


@dataclass(frozen=True, slots=True)
class Recorded:
    """An entry as its record holds it; see AuditEntry."""

    id: str
    sequence: int
    previous: str
    at_ms: int
    who: str
    host: str
    action: str
    why: str
    subject_kind: str
    subject: str
    revision_before: int | None
    revision_after: int | None
    before: str | None
    after: str | None
    hash: str
    signature: bytes | None
    signer: str | None


@dataclass(frozen=True, slots=True)
class Draft:
    """What is to be written into the audit, but for what its writer adds: id, sequence, time, who and the hashes."""

    action: str
    subject_kind: str
    subject: str
    why: str = ""
    before: str | None = None
    after: str | None = None


def decode(value: bytes | None) -> AuditEntry:
    """Return the entry of a record's value. Raises RecordInvalid."""
    record = records.decode("audit", value or b"")
    try:
        return Recorded(**{field.name: record[field.name] for field in fields(Recorded)})
    except KeyError as error:
        raise RecordInvalid(f"the audit's record has no field {error}") from error


def state(text: str | None) -> dict[str, Any] | None:
    """Return what an entry's `before` or `after` says, or None for nothing. Raises ValueError when it is no object."""
    if text is None:
        return None
    try:
        found = json.loads(text, parse_constant=_no_number)
    except RecursionError as error:
        raise ValueError("JSON that is nested too deeply") from error
    if found is not None and not isinstance(found, dict):
        raise ValueError(f"{type(found).__name__} instead of a JSON object")
    return found


def _no_number(text: str) -> Any:
    raise ValueError(f"{text} is no JSON")


def read(
    kafka: Mapping[str, str],
    topic: str = TOPIC,
    decode: Callable[[bytes | None], AuditEntry] = decode,
    clock: Callable[[], float] = time.monotonic,
) -> tuple[list[AuditEntry], list[int]]:
    """Return every entry that is committed now, in their order, and the offsets of records that are none.

    Raises NoSuchTopic, ConnectionFailed.
    """
    settings: dict[str, Any] = {"log_level": 2, **kafka}
    servers = settings.pop("bootstrap.servers")
    entries, unreadable = [], []
    reader = RecordReader(servers, topic, start="earliest", **settings)
    try:
        deadline = clock() + PATIENCE
        while not reader.at_end:
            messages = reader.read(1000, 0.5)
            for message in messages:
                try:
                    entries.append(decode(cluster.as_bytes(message.value())))
                except RecordInvalid:
                    unreadable.append(int(message.offset() or 0))
            if messages:
                deadline = clock() + PATIENCE
            elif clock() > deadline:
                raise ConnectionFailed(f"topic {topic!r} on {servers} could not be read to its end; try again")
    finally:
        reader.close()
    return entries, unreadable


def registered(entry: Entry, why: str = "") -> Draft:
    """Return the draft that says that a version was added to the repository."""
    manifest = entry.manifest
    after = {
        "model": manifest.name,
        "version": manifest.version,
        "digest": entry.digest,
        "created": manifest.created.isoformat(),
        "author": manifest.author,
        "tags": list(entry.tags),
        "training": {part: getattr(manifest.training, part) for part in ("data", "data_sha256", "run_id")},
        "metrics": dict(manifest.metrics),
    }
    return Draft("register", "model", manifest.name, why, after=json.dumps(after, sort_keys=True))


def experiment_finished(
    run_id: str, metrics: Mapping[str, float], *, model: str = "", version: str = "", why: str = ""
) -> Draft:
    """Return the draft that says that a training run ended, and which version it made if it made one."""
    after = {"run_id": run_id, "metrics": dict(metrics), "model": model or None, "version": version or None}
    return Draft("finish", "experiment", run_id, why, after=json.dumps(after, sort_keys=True))
