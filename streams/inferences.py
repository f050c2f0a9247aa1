"""Inferences read back as frames: which event each is of, what made it, and its outputs in a form that can be compared.

The writers' schemas are the published ones, and each frame is decoded as a batch, as workers decode events.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from schemas.decode import EventDecoder, Writers
from schemas.errors import SchemaRefused, UnknownSchema
from schemas.values import OutputField
from schemas.wire import SINGLE_OBJECT, SINGLE_OBJECT_BYTES

NUMBERS = ("double", "float", "long", "int")
LINEAGE = ("deployment", "source_topic", "arm", "model", "version")
POSITION = ("source_partition", "source_offset")
OUTPUT = "output."  # before the names of outputs, which may be any
RECORD_BYTES = 1 << 30
DTYPES: dict[str, pl.DataType] = {"number": pl.Float64(), "label": pl.String(), "list": pl.List(pl.Float64())}


@dataclass(frozen=True, slots=True)
class Output:
    """An output that can be compared. kind: number, label or list. classes: what the places of a list stand for."""

    name: str
    kind: str
    classes: tuple[str, ...] = ()

    @property
    def column(self) -> str:
        return OUTPUT + self.name

    @property
    def decides(self) -> bool:
        """Whether it says which class an event is of."""
        return self.kind == "label" or bool(self.classes)


def output_of(field: OutputField) -> Output:
    """Return how an output of a model is compared."""
    if field.kind in ("vector", "map"):
        return Output(field.name, "list", field.classes)
    return Output(field.name, "number" if field.kind == "scalar" and field.avro in NUMBERS else "label")


def outputs_in(schema: Mapping[str, Any]) -> dict[str, Output]:
    """Return the outputs that a schema of inferences declares, by name."""
    found = {}
    for field in schema["fields"]:
        if field.get("penstock.role") == "output":
            avro = field["type"][1]
            kind, classes = field.get("penstock.kind", "scalar"), tuple(field.get("classes", ()))
            declared = OutputField(field["name"], kind, avro if isinstance(avro, str) else "", classes)
            found[field["name"]] = output_of(declared)
    return found


class InferenceReader:
    """Decodes inferences. outputs: those that are looked at; where a writer has another kind of it, it is null.

    unreadable: how many records were none. seen: the outputs that any writer declared.
    """

    def __init__(self, writers: Writers, outputs: Sequence[Output]) -> None:
        self._writers, self._outputs = writers, list(outputs)
        self._decoders: dict[bytes, EventDecoder | None] = {}
        self.unreadable = 0
        self.seen: dict[str, Output] = {}

    def frame(self, values: Sequence[bytes | None], keys: Sequence[bytes | None]) -> pl.DataFrame:
        """Return a row for each inference: lineage, partition, offset, key, and a column for each output.

        Raises SourceUnavailable.
        """
        groups: dict[bytes, list[int]] = {}
        for row, value in enumerate(values):
            groups.setdefault((value or b"")[:SINGLE_OBJECT_BYTES], []).append(row)
        frames = []
        for header, rows in groups.items():
            decoder = self._decoder(header)
            if decoder is None:
                self.unreadable += len(rows)
                continue
            decoded = decoder.decode([values[row] for row in rows])
            self.unreadable += len(decoded.rejected)
            kept = rows if decoded.rows is None else [rows[row] for row in decoded.rows.tolist()]
            key = pl.Series("key", [keys[row] for row in kept], dtype=pl.Binary())
            frames.append(self._normal(decoded.frame).with_columns(key))
        return pl.concat(frames) if frames else pl.DataFrame(schema=self.schema)

    @property
    def schema(self) -> pl.Schema:
        """The columns of every frame."""
        names = {**dict.fromkeys(LINEAGE, pl.String()), "partition": pl.Int32(), "offset": pl.Int64()}
        return pl.Schema({**names, **{each.column: DTYPES[each.kind] for each in self._outputs}, "key": pl.Binary()})

    def _decoder(self, header: bytes) -> EventDecoder | None:
        if header not in self._decoders:
            self._decoders[header] = self._made(header)
        return self._decoders[header]

    def _made(self, header: bytes) -> EventDecoder | None:
        """Return what decodes the records of one writer; None where they are no inferences."""
        if not header.startswith(SINGLE_OBJECT) or len(header) < SINGLE_OBJECT_BYTES:
            return None
        try:
            schema = self._writers.by_fingerprint(header[2:].hex())
            declared = outputs_in(schema)
            self.seen |= declared
            wanted = {each.name for each in self._outputs if declared.get(each.name) == each}
            fields = [each for each in schema["fields"] if each["name"] in {*LINEAGE, *POSITION, *wanted}]
            if len(fields) < len(LINEAGE) + len(POSITION) + len(wanted):
                return None
            reader = {**schema, "fields": fields}
            return EventDecoder(reader, writers=self._writers, framing="single_object", event_bytes=RECORD_BYTES)
        except (UnknownSchema, SchemaRefused, KeyError, TypeError, IndexError):
            return None

    def _normal(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Return the columns that every frame has, whoever wrote it."""
        columns = [frame[name] for name in LINEAGE]
        columns += [frame["source_partition"].alias("partition"), frame["source_offset"].alias("offset")]
        for each in self._outputs:
            dtype = DTYPES[each.kind]
            absent = pl.Series([None], dtype=dtype).new_from_index(0, len(frame))
            column = frame[each.name].cast(dtype) if each.name in frame.columns else absent
            columns.append(column.alias(each.column))
        return pl.DataFrame(columns)
