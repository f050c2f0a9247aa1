"""Random schema pairs, values and damaged bytes: `EventDecoder` against strict fastavro, message by message.

Run by hand: `PYTHONPATH=. python tests/schemas/fuzz.py --messages 1000000 --seed 1`. A finding names its batch's seed.
"""

from __future__ import annotations

import argparse
import datetime as dt
import decimal
import io
import math
import random
import struct
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import fastavro
import numpy as np

from schemas.decode import EventDecoder
from schemas.errors import SchemaError
from schemas.wire import confluent_header, fingerprint, single_object_header

BATCH = 400
Json = Any
# What the columns cannot hold although strict fastavro returns it, as the rejections say it.
NARROWER = ("outside 32 bits", "fits no column", "unit of time", "more than", "symbol of this index", "is null")


# What fastavro cannot make a Python value of although the bytes are sound.
OUT_OF_RANGE = (OverflowError, ValueError, decimal.InvalidOperation)


class Known:
    """A source of schemas for tests: whatever was put in."""

    def __init__(self, *schemas: Json) -> None:
        self.schemas = list(schemas)
        self.asked = 0

    def by_id(self, schema_id: int) -> Json:
        self.asked += 1
        return self.schemas[schema_id]

    def by_fingerprint(self, wanted: str) -> Json:
        self.asked += 1
        return next(schema for schema in self.schemas if fingerprint(schema) == wanted)


def encode(schema: Json, record: Json) -> bytes:
    out = io.BytesIO()
    fastavro.schemaless_writer(out, schema, record)
    return out.getvalue()


class Schemas:
    """Random pairs (reader, writer) that Avro resolves, and values of the writer."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.count = 0

    def pair(self) -> tuple[Json, Json]:
        reader, writer = self._records(self.rng.randrange(1, 9), 0, "Event")
        return reader, writer

    def _records(self, size: int, depth: int, name: str) -> tuple[Json, Json]:
        ours: list[Json] = []
        theirs: list[Json] = []
        for _ in range(size):
            self._field(ours, theirs, depth)
        if not ours:
            ours.append({"name": self._name("f"), "type": "int", "default": 7})
        self.rng.shuffle(theirs)
        return {"type": "record", "name": name, "fields": ours}, {"type": "record", "name": name, "fields": theirs}

    def _name(self, prefix: str) -> str:
        self.count += 1
        return f"{prefix}{self.count}"

    def _field(self, ours: list[Json], theirs: list[Json], depth: int) -> None:
        name, roll = self._name("f"), self.rng.random()
        if roll < 0.1:  # only the writer has it
            theirs.append({"name": name, "type": self._extra()})
        elif roll < 0.17:  # only the reader has it
            kind, default = self.rng.choice(
                [("double", 1.5), ("string", "x"), (["null", "long"], None), ("boolean", True)]
            )
            ours.append({"name": name, "type": kind, "default": default})
        else:
            reader, writer = self._type(depth)
            alias = self.rng.random() < 0.1
            ours.append({"name": name, "type": reader, **({"aliases": [f"old_{name}"]} if alias else {})})
            theirs.append({"name": f"old_{name}" if alias else name, "type": writer})

    def _extra(self) -> Json:
        fixed = {"type": "fixed", "name": self._name("F"), "size": 3}
        unions = ["null", "string", "double"]
        plain = ["long", "string", "null", "boolean", fixed, {"type": "array", "items": ["null", "long"]}]
        return self.rng.choice([*plain, {"type": "map", "values": "int"}, unions] if self.rng.random() < 0.3 else plain)

    def _type(self, depth: int) -> tuple[Json, Json]:
        reader, writer = self._value(depth)
        roll = self.rng.random()
        if roll < 0.45:
            return reader, writer
        if roll < 0.55:
            return ["null", reader], writer
        reader_union = ["null", reader] if self.rng.random() < 0.7 else [reader, "null"]
        return reader_union, ["null", writer] if self.rng.random() < 0.7 else [writer, "null"]

    def _value(self, depth: int) -> tuple[Json, Json]:
        roll = self.rng.random()
        if roll < 0.08 and depth < 2:
            return self._records(self.rng.randrange(1, 4), depth + 1, self._name("R"))
        if roll < 0.2:
            return self._array()
        if roll < 0.28:
            return self._enum()
        if roll < 0.4:
            same = self._logical()
            return same, same
        promoted = [("double", "int"), ("double", "long"), ("double", "float"), ("long", "int"), ("string", "bytes")]
        promoted += [("float", "int"), ("float", "long"), ("bytes", "string")]
        if roll < 0.55:
            return self.rng.choice(promoted)
        kind = self.rng.choice(["boolean", "int", "long", "float", "double", "bytes", "string"])
        return kind, kind

    def _array(self) -> tuple[Json, Json]:
        item = self.rng.choice(
            ["double", "float", "string", "long", "int", "boolean", ["null", "double"], "record", "bytes"]
        )
        if item == "record":
            item = {"type": "record", "name": self._name("I"), "fields": [{"name": "a", "type": ["null", "double"]}]}
        return {"type": "array", "items": item}, {"type": "array", "items": item}

    def _enum(self) -> tuple[Json, Json]:
        name = self._name("E")
        symbols = ["A", "B", "C", "D"][: self.rng.randrange(1, 5)]
        if self.rng.random() < 0.1:
            symbols = [f"S{i}" for i in range(70)]
        ours = self.rng.sample(symbols, len(symbols))
        default: Json = {}
        if self.rng.random() < 0.3:
            ours, default = [*ours[:-1], "Z"], {"default": "Z"}
        reader = {"type": "enum", "name": name, "symbols": ours, **default}
        return reader, {"type": "enum", "name": name, "symbols": symbols}

    def _logical(self) -> Json:
        return self.rng.choice(
            [
                {"type": "int", "logicalType": "date"},
                {"type": "long", "logicalType": "timestamp-millis"},
                {"type": "long", "logicalType": "timestamp-micros"},
                {"type": "long", "logicalType": "local-timestamp-millis"},
                {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2},
                {"type": "fixed", "name": self._name("F"), "size": self.rng.randrange(1, 5)},
            ]
        )


class Values:
    """Random raw bytes of a schema, encoded by hand, so that logical types and odd numbers need no Python values."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng

    def datum(self, schema: Json) -> bytes:
        if isinstance(schema, list):
            index = self.rng.randrange(len(schema))
            return varint(index) + self.datum(schema[index])
        kind = schema["type"] if isinstance(schema, dict) else schema
        if kind == "record":
            return b"".join(self.datum(field["type"]) for field in schema["fields"])
        if kind == "array":
            return self._items(lambda: self.datum(schema["items"]))
        if kind == "map":
            return self._items(lambda: self._sized(b"key") + self.datum(schema["values"]))
        if kind == "enum":
            return varint(self.rng.randrange(len(schema["symbols"])))
        if kind == "fixed":
            return self.rng.randbytes(schema["size"])
        if kind == "bytes" and isinstance(schema, dict):
            return self._sized(self.rng.randrange(-(10**9) + 1, 10**9).to_bytes(4, "big", signed=True))
        return self._primitive(kind)

    def _primitive(self, kind: str) -> bytes:
        rng = self.rng
        if kind == "null":
            return b""
        if kind == "boolean":
            return rng.choice([b"\0", b"\1"])
        if kind == "int":
            return varint(rng.choice([0, -1, 63, 64, -(1 << 31), (1 << 31) - 1, rng.randrange(-9999, 9999)]))
        if kind == "long":
            huge = [(1 << 63) - 1, -(1 << 63), 1 << 55, 1 << 62]
            return varint(rng.choice([0, 5, rng.randrange(1 << 41), *(huge if rng.random() < 0.2 else [])]))
        if kind == "float":
            return struct.pack("<f", rng.choice([0.0, -1.5, rng.random(), math.inf, math.nan]))
        if kind == "double":
            return struct.pack("<d", rng.choice([0.0, -1.5, rng.random(), math.inf, math.nan]))
        text = rng.choice(["", "a", "müller", "\0", "x" * rng.choice([3, 63, 64, 130])]).encode()
        return self._sized(text)

    def _sized(self, text: bytes) -> bytes:
        return varint(len(text)) + text

    def _items(self, item: Callable[[], bytes]) -> bytes:
        count = self.rng.choice([0, 0, 1, 2, 3, 5, 80] if self.rng.random() < 0.05 else [0, 1, 2, 3])
        if not count:
            return b"\0"
        made = [item() for _ in range(count)]
        if self.rng.random() < 0.02:  # several blocks, with their size
            return b"".join(varint(-1) + varint(len(one)) + one for one in made) + b"\0"
        return varint(count) + b"".join(made) + b"\0"


def varint(number: int) -> bytes:
    number = (number << 1) ^ (number >> 63)
    out = bytearray()
    while number & ~0x7F:
        out.append((number & 0x7F) | 0x80)
        number >>= 7
    return bytes([*out, number])


INTERESTING = [0, 1, 2, 3, 4, 5, 0x7F, 0x80, 0x81, 0xFE, 0xFF]
BOMBS = [varint(1 << 40), varint((1 << 63) - 1), varint(-(1 << 63)), b"\xff" * 12, b"\x80" * 9 + b"\x01", b"\x80\x00"]


def damage(rng: random.Random, datum: bytes, other: bytes) -> bytes:
    """One random change of a few bytes."""
    at = rng.randrange(len(datum) + 1)
    change = rng.randrange(8)
    if change == 0:
        return datum[:at]
    if change == 1:
        return datum + rng.randbytes(rng.randrange(1, 9))
    if change == 2:
        return datum[:at] + other[at:]
    if change == 3:
        return datum[:at] + rng.choice(BOMBS) + datum[at:]
    if change == 4:
        return datum[:at] + rng.choice(BOMBS) + datum[at + 1 :]
    if change == 5:
        return datum[:at] + datum[at + 1 :]
    if change == 6:
        return datum[:at] + bytes([rng.choice(INTERESTING)]) + datum[at + 1 :]
    return datum[:at] + rng.randbytes(1) + datum[at + 1 :]


def strict(writer: Json, reader: Json, datum: bytes) -> Any:
    """What strict fastavro says: the resolved record, or the exception; the whole message must be consumed."""
    stream = io.BytesIO(datum)
    try:
        value = fastavro.schemaless_reader(stream, writer, reader)
    except Exception as error:
        return error
    return value if stream.tell() == len(datum) else EOFError("trailing bytes")


def skipping_nothing(reader: Json, writer: Json) -> Json:
    """The reader with the writer's other fields, too: fastavro does not look into fields that it skips.

    It jumps over blocks by the size in bytes that the message claims, and over text without a look at the end.
    """
    if isinstance(reader, list) or isinstance(writer, list):
        ours, theirs = _record_in(reader), _record_in(writer)
        if ours is None or theirs is None:
            return reader
        full = skipping_nothing(ours, theirs)
        return [full if part is ours else part for part in reader] if isinstance(reader, list) else full
    if not isinstance(reader, dict) or reader["type"] != "record" or not isinstance(writer, dict):
        return reader
    fields, read = [], set()
    written = {field["name"]: field["type"] for field in writer["fields"]}
    for field in reader["fields"]:
        name = next((name for name in (field["name"], *field.get("aliases", [])) if name in written), None)
        read.add(name)
        kind = field["type"] if name is None else skipping_nothing(field["type"], written[name])
        fields.append({**field, "type": kind})
    return {**reader, "fields": fields + [field for field in writer["fields"] if field["name"] not in read]}


def _record_in(schema: Json) -> Json:
    parts = schema if isinstance(schema, list) else [schema]
    return next((part for part in parts if isinstance(part, dict) and part["type"] == "record"), None)


def flat(record: Json, reader: Json, prefix: str = "") -> dict[str, Any]:
    """A fastavro record by column name."""
    out: dict[str, Any] = {}
    for field in reader["fields"]:
        kind = field["type"]
        inner = next(part for part in kind if part != "null") if isinstance(kind, list) else kind
        value = None if record is None else record.get(field["name"])
        if isinstance(inner, dict) and inner["type"] == "record":
            out.update(flat(value, inner, f"{prefix}{field['name']}."))
        elif inner == "float" and value is not None:
            with np.errstate(over="ignore"):
                out[prefix + field["name"]] = float(np.float32(value))
        else:
            out[prefix + field["name"]] = value
    return out


def same(ours: Any, theirs: Any) -> bool:
    if isinstance(theirs, decimal.Decimal):
        return bool(ours == float(theirs))
    if isinstance(theirs, float) and isinstance(ours, float):
        return ours == theirs or (math.isnan(ours) and math.isnan(theirs))
    if isinstance(theirs, list) and isinstance(ours, list):
        return len(ours) == len(theirs) and all(map(same, ours, theirs))
    if isinstance(theirs, dict) and isinstance(ours, dict):
        return ours.keys() == theirs.keys() and all(same(ours[key], theirs[key]) for key in theirs)
    if isinstance(theirs, dt.datetime) and isinstance(ours, dt.datetime):
        return ours.replace(tzinfo=None) == theirs.replace(tzinfo=None)
    return bool(ours == theirs)


class Difference(AssertionError):
    """The decoder and strict fastavro disagree."""


def one_batch(seed: int, counts: Counter[str], size: int = BATCH) -> None:
    """Decode one batch of a random pair of schemas, damaged or not, and compare every message."""
    rng = random.Random(seed)
    reader, writer = Schemas(rng).pair()
    values = Values(rng)
    sound = [values.datum(writer) for _ in range(40)]
    share = rng.choice([0.0, 0.01, 0.1, 0.7])
    datums = [rng.choice(sound) for _ in range(size)]
    datums = [damage(rng, one, rng.choice(sound)) if rng.random() < share else one for one in datums]
    header = single_object_header(fingerprint(writer)) if rng.random() < 0.5 else confluent_header(0)
    decoder = EventDecoder(reader, writers=Known(writer))
    decoded = decoder.decode([header + datum for datum in datums])
    compare(reader, writer, datums, decoded, counts, f"seed {seed}\nreader {reader}\nwriter {writer}")


def compare(reader: Json, writer: Json, datums: list[bytes], decoded: Any, counts: Counter[str], place: str) -> None:
    """Raise Difference unless every message has the fate and the values that strict fastavro gives it."""
    rows = list(range(len(datums))) if decoded.rows is None else decoded.rows.tolist()
    refused = {item.row: item for item in decoded.rejected}
    if sorted([*rows, *refused]) != list(range(len(datums))):
        raise Difference(f"{place}\nmessages are not each a row or a rejection")
    parsed = (
        fastavro.parse_schema(writer, _write_hint=False),
        fastavro.parse_schema(skipping_nothing(reader, writer), _write_hint=False),
    )
    frame_row = {row: i for i, row in enumerate(rows)}
    verdicts: dict[bytes, Any] = {}
    for row, datum in enumerate(datums):
        if datum not in verdicts:
            verdicts[datum] = strict(*parsed, datum)
        verdict = verdicts[datum]
        if row in refused:
            counts["refused"] += 1
            if not isinstance(verdict, Exception) and not any(t in refused[row].detail for t in NARROWER):
                raise Difference(f"{place}\nmessage {datum.hex()} refused: {refused[row]}\nfastavro reads {verdict}")
        elif isinstance(verdict, Exception):
            counts["beyond Python"] += 1
            if not isinstance(verdict, OUT_OF_RANGE):
                raise Difference(f"{place}\nmessage {datum.hex()} accepted, fastavro: {verdict!r}")
        else:
            counts["both accept"] += 1
            got, wanted = decoded.frame.row(frame_row[row], named=True), flat(verdict, reader)
            if got.keys() != wanted.keys() or not all(same(got[name], wanted[name]) for name in wanted):
                raise Difference(f"{place}\nmessage {datum.hex()}\nours     {got}\nfastavro {wanted}")


def run(messages: int, seed: int) -> Counter[str]:
    """Fuzz at least this many messages; returns the counts. Raises Difference at the first finding."""
    counts: Counter[str] = Counter()
    batch = seed << 32
    while counts.total() < messages:
        try:
            one_batch(batch, counts)
        except SchemaError as error:
            raise Difference(f"seed {batch}: {error}") from error
        batch += 1
    return counts


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--messages", type=int, default=1_000_000)
    options.add_argument("--seed", type=int, default=1)
    asked = options.parse_args()
    start = time.monotonic()
    counts = run(asked.messages, asked.seed)
    print(f"{counts.total():,} messages in {time.monotonic() - start:.0f} s, no difference: {dict(counts)}")


if __name__ == "__main__":
    main()
