"""Events of one micro-batch to one frame of the deployment's columns, whatever framing and writer schemas they have."""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import repeat
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import polars as pl

from schemas.declared import Framing
from schemas.deployment import Check
from schemas.errors import SchemaRefused, UnknownSchema
from schemas.field_checks import FieldChecks
from schemas.json_events import JsonEvents
from schemas.nodes import parse
from schemas.plans import Plan, Refusal, Rows, plan_for
from schemas.resolve import leaves
from schemas.strict import StrictReader
from schemas.values import Rejection
from schemas.wire import CONFLUENT, CONFLUENT_BYTES, SINGLE_OBJECT, SINGLE_OBJECT_BYTES, fingerprint

KEPT_PLANS = 256
_SPACES = b" \t\r\n"


class Writers(Protocol):
    """Where writer schemas come from; see `schemas.sources`."""

    def by_id(self, schema_id: int) -> Mapping[str, Any]: ...

    def by_fingerprint(self, fingerprint: str) -> Mapping[str, Any]: ...


@dataclass(frozen=True, slots=True)
class Decoded:
    """One batch.

    frame: one row per accepted message, in message order; one column per column of the reader schema.
    rows: message index of each frame row; None when every message was accepted.
    rejected: the others, by message index, in order.
    schemas: fingerprints of the writers' schemas in the batch (JSON: the reader's).
    schema_of: index into `schemas` per frame row; None when there is only one.
    """

    frame: pl.DataFrame
    rows: npt.NDArray[np.int64] | None
    rejected: list[Rejection]
    schemas: tuple[str, ...]
    schema_of: npt.NDArray[np.int64] | None


class EventDecoder:
    """Decodes batches for one deployment. Not for several threads at once.

    reader: the deployment's event schema. Raises SchemaRefused for one that is not read, DeploymentInvalid for checks
    that do not fit its columns.
    """

    def __init__(
        self,
        reader: Mapping[str, Any],
        *,
        writers: Writers,
        framing: Framing = "auto",
        checks: Mapping[str, Check] | None = None,
        event_bytes: int = 1 << 20,
    ) -> None:
        self._reader = parse(reader)
        found = leaves(self._reader)
        self.columns: Mapping[str, pl.DataType] = {leaf.name: leaf.dtype for leaf in found}
        self._checks = FieldChecks(checks or {}, self.columns, {leaf.name: leaf.nullable for leaf in found})
        self._writers = writers
        self._framing = framing
        self._event_bytes = event_bytes
        self._plans: OrderedDict[bytes, Plan] = OrderedDict()
        self._json = JsonEvents(self._reader)
        StrictReader(reader)  # says what fastavro dislikes about the schema
        self._fingerprint = fingerprint(reader)

    def again(self) -> EventDecoder:
        """Return a decoder of the same events that knows the writers' schemas already, and counts from 0 on.

        Both must be used by the same thread.
        """
        other = copy.copy(self)
        other._checks = self._checks.again()
        return other

    @property
    def broken_checks(self) -> Mapping[str, int]:
        """Rows that broke a declared check so far, per column, whatever the check does with them."""
        return self._checks.counted

    def decode(self, values: Sequence[bytes | None]) -> Decoded:
        """Decode messages in order; every one becomes a frame row or a rejection. Raises only SourceUnavailable."""
        rejected: list[Rejection] = []
        parts = self._parts(values, rejected)
        parts = [part for part in parts if len(part[1])]
        if len(parts) == 1:
            frame, rows, name = parts[0]
            names: tuple[str, ...] = (name,)
            schema_of = None
        else:
            frame, rows, names, schema_of = self._merge(parts)
        broken: list[Rejection] = []
        if self._checks.counted and len(frame):
            frame, broken = self._checks.apply(frame)
        if broken:
            drop = np.array([item.row for item in broken])
            rejected += [replace(item, row=int(rows[item.row])) for item in broken]
            keep = np.delete(np.arange(len(rows)), drop)
            frame, rows = frame[keep], rows[keep]
            schema_of = None if schema_of is None else schema_of[keep]
        rejected.sort(key=lambda item: item.row)
        return Decoded(frame, None if len(rows) == len(values) else rows, rejected, names, schema_of)

    def _parts(self, values: Sequence[bytes | None], rejected: list[Rejection]) -> list[tuple[pl.DataFrame, Rows, str]]:
        """The batch by framing header; one header for all is the usual case and costs least."""
        found = self._one_header(values)
        if found is not None:
            return [self._part(*found, None, rejected)]
        groups: dict[bytes, list[int]] = {}
        for row, value in enumerate(values):
            problem = self._problem(value)
            header = None if problem else self._header(value or b"")
            if problem or header is None:
                rejected.append(problem or Rejection(row, "bad_header", self._bad_header(value or b"")))
                rejected[-1] = replace(rejected[-1], row=row)
            else:
                groups.setdefault(header, []).append(row)
        return [
            self._part(
                header, [(values[row] or b"")[len(header) :] for row in rows], np.array(rows, dtype=np.int64), rejected
            )
            for header, rows in groups.items()
        ]

    def _one_header(self, values: Sequence[bytes | None]) -> tuple[bytes, list[bytes]] | None:
        """The header that every message has, and what is behind it; None when there are several, or none, or JSON."""
        header = self._header(values[0]) if values and values[0] else None
        if not header:
            return None
        try:
            size = sum(map(len, values))  # type: ignore[arg-type]
            datums = list(map(bytes.removeprefix, values, repeat(header)))  # type: ignore[arg-type]
        except TypeError:  # a tombstone has no bytes
            return None
        same = size - sum(map(len, datums)) == len(header) * len(values)
        fit = size <= self._event_bytes or max(map(len, values)) <= self._event_bytes  # type: ignore[arg-type]
        return (header, datums) if same and fit else None

    def _problem(self, value: bytes | None) -> Rejection | None:
        if not value:
            return Rejection(0, "tombstone", "the message has no value")
        if len(value) > self._event_bytes:
            return Rejection(0, "oversize", f"{len(value)} bytes, the limit is {self._event_bytes}")
        return None

    def _header(self, value: bytes) -> bytes | None:
        """The framing header of a message; empty for JSON, None where it has none of the allowed ones."""
        framing = self._framing
        if framing == "json":
            return b""
        if framing != "confluent" and value.startswith(SINGLE_OBJECT) and len(value) >= SINGLE_OBJECT_BYTES:
            return value[:SINGLE_OBJECT_BYTES]
        if framing != "single_object" and value.startswith(CONFLUENT) and len(value) >= CONFLUENT_BYTES:
            return value[:CONFLUENT_BYTES]
        if framing == "auto" and value.lstrip(_SPACES).startswith(b"{"):
            return b""
        return None

    def _bad_header(self, value: bytes) -> str:
        asked = {
            "auto": "C3 01 (single-object), 00 (Confluent) nor {",
            "confluent": "00 and a schema id",
            "single_object": "C3 01 and a fingerprint",
        }
        neither = "neither " if self._framing == "auto" else "not "
        return f"the message starts with {value[:10].hex(' ')}, {neither}{asked.get(self._framing, '')}"

    def _part(
        self, header: bytes, datums: list[bytes], rows: Rows | None, rejected: list[Rejection]
    ) -> tuple[pl.DataFrame, Rows, str]:
        """Decode what stands behind one header; `rows` are the message indices (None: they are the batch)."""
        if header:
            plan = self._plan(header)
            frame, kept, refused = plan.decode(datums)
            name = plan.fingerprint
        else:
            frame, kept, refused = self._json.decode(datums)
            name = self._fingerprint
        if rows is not None:
            kept = rows[kept]
            refused = [replace(item, row=int(rows[item.row])) for item in refused]
        rejected += refused
        return frame, kept, name

    def _plan(self, header: bytes) -> Plan:
        """How to decode what stands behind a header; unknown schemas are asked for again with every batch."""
        plan = self._plans.get(header)
        if plan is not None:
            self._plans.move_to_end(header)
            return plan
        try:
            if header.startswith(SINGLE_OBJECT):
                schema = self._writers.by_fingerprint(header[2:].hex())
            else:
                schema = self._writers.by_id(int.from_bytes(header[1:], "big"))
        except UnknownSchema as error:
            return Refusal("unknown_schema", str(error), "UnknownSchema", self.columns)
        except SchemaRefused as error:  # what the source has is no Avro record schema
            return Refusal("refused_schema", str(error), "SchemaRefused", self.columns)
        plan = plan_for(self._reader, schema, self.columns)
        self._plans[header] = plan
        if len(self._plans) > KEPT_PLANS:
            self._plans.popitem(last=False)
        return plan

    def _merge(
        self, parts: list[tuple[pl.DataFrame, Rows, str]]
    ) -> tuple[pl.DataFrame, Rows, tuple[str, ...], npt.NDArray[np.int64] | None]:
        """Parts of several writers in message order."""
        if not parts:
            return pl.DataFrame(schema=self.columns), np.empty(0, dtype=np.int64), (), None
        names = tuple(dict.fromkeys(name for _, _, name in parts))
        rows = np.concatenate([rows for _, rows, _ in parts])
        writer = np.concatenate([np.full(len(rows), names.index(name), dtype=np.int64) for _, rows, name in parts])
        order = np.argsort(rows)
        frame = pl.concat([frame for frame, _, _ in parts])[order]
        return frame, rows[order], names, writer[order] if len(names) > 1 else None
