"""Where a writer's schema comes from: a folder, the compacted schema topic, or a Confluent-compatible registry.

A message names its schema (a registry's id or a fingerprint), a source finds it. "Nobody has it" (`UnknownSchema`, a
dead letter) and "nobody answers" (`SourceUnavailable`, the batch waits) are different answers, never mixed up.
What a source hands out comes from strangers: whoever decodes with it checks it first (`schemas.resolve.check_schema`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from schemas.documents import SCHEMA_BYTES, Cache, parse_text, safe_fingerprint
from schemas.errors import SchemaRefused, UnknownSchema
from schemas.registry import SchemaRegistry
from schemas.topic import SchemaTopic

__all__ = ["SchemaFolder", "SchemaRegistry", "SchemaTopic", "WriterSchemas", "Writers"]

FOLDER_FILES = 10_000


class WriterSchemas(Protocol):
    """Finds the schema that a message's header names."""

    def by_id(self, schema_id: int) -> Mapping[str, Any]:
        """Return the schema of a registry's id. Raises UnknownSchema, SchemaRefused, SourceUnavailable."""

    def by_fingerprint(self, fingerprint: str) -> Mapping[str, Any]:
        """Return the schema of a fingerprint (16 hex digits as on the wire). Raises as `by_id`."""


class SchemaFolder:
    """The `*.avsc` files under a folder, by fingerprint. Files added later are found when one is asked for."""

    def __init__(self, path: str | Path, clock: Callable[[], float] = time.monotonic) -> None:
        """Read the folder. Raises SchemaRefused naming the first file that is no schema."""
        self.path = Path(path)
        if not self.path.is_dir():
            raise SchemaRefused(f"{self.path}: no such folder; create it or leave out the schema folder")
        self._seen: dict[Path, tuple[int, int]] = {}
        self._schemas: dict[str, dict[str, Any]] = {}
        self._unknown: Cache[bool] = Cache(1024, 1.0, clock)
        self._read()

    def by_id(self, schema_id: int) -> Mapping[str, Any]:
        raise UnknownSchema(f"schema id {schema_id}: ids are found in a registry only, and none is configured")

    def by_fingerprint(self, fingerprint: str) -> Mapping[str, Any]:
        if fingerprint not in self._schemas and not self._unknown.get(fingerprint):
            self._read()
            self._unknown.put(fingerprint, True)
        if fingerprint not in self._schemas:
            raise UnknownSchema(f"schema {fingerprint}: no file under {self.path} has this fingerprint")
        return self._schemas[fingerprint]

    def _read(self) -> None:
        for count, file in enumerate(sorted(self.path.rglob("*.avsc"))):
            if count == FOLDER_FILES:
                raise SchemaRefused(f"{self.path}: more than {FOLDER_FILES} schema files; name a smaller folder")
            status = file.stat()
            mark = (status.st_mtime_ns, status.st_size)
            if self._seen.get(file) == mark:
                continue
            if status.st_size > SCHEMA_BYTES:
                raise SchemaRefused(f"{file}: {status.st_size} bytes of schema; the limit is {SCHEMA_BYTES}")
            schema = parse_text(file.read_bytes(), str(file))
            self._schemas[safe_fingerprint(schema, str(file))] = schema
            self._seen[file] = mark


class Writers:
    """All configured sources as one: ids are asked of the registry, fingerprints of the folder, then of the topic."""

    def __init__(
        self,
        *,
        topic: SchemaTopic | None = None,
        registry: SchemaRegistry | None = None,
        folder: SchemaFolder | None = None,
    ) -> None:
        self.topic, self.registry, self.folder = topic, registry, folder

    def by_id(self, schema_id: int) -> Mapping[str, Any]:
        if self.registry is None:
            raise UnknownSchema(
                f"schema id {schema_id}: the message is in Confluent framing and no registry is configured; "
                "name one with --registry URL"
            )
        return self.registry.by_id(schema_id)

    def by_fingerprint(self, fingerprint: str) -> Mapping[str, Any]:
        for source in (self.folder, self.topic):
            if source is None:
                continue
            try:
                return source.by_fingerprint(fingerprint)
            except UnknownSchema:
                pass
        asked = [str(source.path) for source in [self.folder] if source] + [t.topic for t in [self.topic] if t]
        places = f"not in {' or '.join(asked)}" if asked else "no schema folder or topic is configured"
        raise UnknownSchema(
            f"schema {fingerprint}: {places}; publish it with penstock.client.Producer or put its .avsc into the folder"
        )
