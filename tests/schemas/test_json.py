"""JSON events: the fast readers make of every message what the judge makes of it, on random and damaged ones."""

from __future__ import annotations

import json
import random
from typing import Any

import polars as pl
import pytest

from schemas.json_events import JsonEvents
from schemas.nodes import parse

Json = Any
NUMBERS = ("int", "long", "float", "double")
SINGLE = (*NUMBERS, "boolean", "string", "enum", "date", "timestamp")
TEXTS = ("", "x", "ü", "a[b", 'q"', "\\", "2024-02-29", "2024-02-29T12:00:00Z", "\ud7ff", "EWR")
WHOLE = (0, 1, -1, 2**31 - 1, 2**31, -(2**31) - 1, 2**53 + 1, 2**63 - 1, 2**63, -(2**63), 10**30)
BROKEN = ("0.5", "-0", "-0.0", "1e3", "1.5e300", "1e400", "1e39", "3.0")


class Maker:
    """Random reader schemas, and messages that are good, odd or broken."""

    def __init__(self, seed: int, *, arrays: bool) -> None:
        self.chance, self.arrays, self.count = random.Random(seed), arrays, 0

    def record(self, depth: int = 0) -> Json:
        fields = [self._field(depth) for _ in range(self.chance.randint(1, 6))]
        if self.arrays and not depth:
            fields += [self._field(depth, self._array()) for _ in range(self.chance.randint(1, 2))]
            self.chance.shuffle(fields)
        self.count += 1
        return {"type": "record", "name": f"R{self.count}", "fields": fields}

    def _array(self) -> Json:
        items: Json = self.chance.choice(NUMBERS)
        if self.chance.random() < 0.4:
            items = {"type": "array", "items": items}
        return {"type": "array", "items": items}

    def _field(self, depth: int, kind: Json = None) -> Json:
        self.count += 1
        field: Json = {"name": self.chance.choice(["class", "f", "_g"]) + str(self.count)}
        if kind is None and not self.arrays and depth < 2 and self.chance.random() < 0.2:
            kind = self.record(depth + 1)
        kind = kind or self._single()
        field["type"] = ["null", kind] if self.chance.random() < 0.3 else kind
        if self.chance.random() < 0.2:
            field["default"] = None if isinstance(field["type"], list) else self._value(kind)
        return field

    def _single(self) -> Json:
        kind = self.chance.choice(SINGLE)
        self.count += 1
        if kind == "enum":
            whole: Json = {"type": "enum", "name": f"E{self.count}", "symbols": ["EWR", "JFK", "x"]}
            return whole | ({"default": "x"} if self.chance.random() < 0.3 else {})
        if kind == "date":
            return {"type": "int", "logicalType": "date"}
        return {"type": "long", "logicalType": "timestamp-millis"} if kind == "timestamp" else kind

    def _value(self, kind: Json) -> Json:
        """A value that fits, as a rule."""
        chance = self.chance
        if isinstance(kind, list):
            return None if chance.random() < 0.3 else self._value(kind[1])
        if isinstance(kind, dict):
            if kind["type"] == "array":
                size = 3 if chance.random() < 0.9 else chance.randint(0, 4)
                return [self._value(kind["items"]) for _ in range(size)]
            if kind["type"] == "record":
                return {field["name"]: self._value(field["type"]) for field in kind["fields"]}
            return chance.choice(kind["symbols"]) if kind["type"] == "enum" else chance.randint(0, 20_000)
        if kind in ("int", "long"):
            return chance.randint(-1_000, 1_000)
        if kind in ("float", "double"):
            return chance.choice([chance.random(), chance.gauss(0, 1e6), chance.randint(-5, 5), 1e-300])
        return chance.random() < 0.5 if kind == "boolean" else chance.choice(TEXTS)

    def message(self, schema: Json) -> bytes:
        event = self._value(schema)
        for field in schema["fields"]:
            if self.chance.random() < 0.05:
                event[field["name"]] = self._odd()
            if self.chance.random() < 0.05:
                event.pop(field["name"], None)
        if self.chance.random() < 0.1:
            event["more"] = self._odd()
        text = json.dumps(event, ensure_ascii=self.chance.random() < 0.5)
        if self.chance.random() < 0.1:
            text = text.replace("1", self.chance.choice(BROKEN), 1)
        data = text.encode()
        return self._damaged(data, schema) if self.chance.random() < 0.2 else data

    def _odd(self) -> Json:
        return self.chance.choice([None, True, "x", 3.0, [], [1], {}, {"a": 1}, [[1, 2]], [None], *WHOLE, *TEXTS])

    def _damaged(self, data: bytes, schema: Json) -> bytes:
        at = self.chance.randrange(len(data))
        name = schema["fields"][0]["name"].encode()
        return self.chance.choice(
            [
                data[:at],
                data[:at] + bytes([self.chance.randrange(256)]) + data[at + 1 :],
                b"\xef\xbb\xbf" + data,
                data + b" ",
                data + b"x",
                b'{"' + name + b'":1,' + data[1:],
                data[:-1] + b',"' + name + b'":2}',
                data[:-1] + b',"u":"\xff"}',
                data[:-1] + b',"u":"\\ud800"}',
                data[:-1] + b',"u":' + b"[" * 5_000 + b"]" * 5_000 + b"}",
                b"[" + data + b"]",
                data.replace(name, b"\\u%04x" % name[0] + name[1:]),
            ]
        )


def infinite_aside(fast: JsonEvents, slow: JsonEvents, message: bytes) -> bool:
    """Say whether nothing is wrong with a message but a number beyond doubles in a field that nobody asks for."""
    _, _, refused = slow.decode([message])
    return bool(refused) and "infinity" in refused[0].detail and not fast.decode([message])[2]


def judged(schema: Json, messages: list[bytes]) -> tuple[JsonEvents, JsonEvents, int]:
    """Decode with and without the fast reader, which must agree; return both and how many the judge had to see."""
    fast, slow = JsonEvents(parse(schema)), JsonEvents(parse(schema))
    slow._fast = None
    messages = [message for message in messages if not infinite_aside(fast, slow, message)]
    seen = 0
    one = fast._one

    def counting(value: bytes) -> Any:
        nonlocal seen
        seen += 1
        return one(value)

    fast._one = counting  # type: ignore[method-assign]
    found, rows, rejected = fast.decode(messages)
    expected, expected_rows, expected_rejected = slow.decode(messages)
    assert rejected == expected_rejected
    assert rows.tolist() == expected_rows.tolist()
    assert found.schema == expected.schema
    assert found.equals(expected), (schema, found, expected)
    return fast, slow, seen


@pytest.mark.parametrize("arrays", [False, True])
@pytest.mark.parametrize("seed", range(150))
def test_both_ways_make_the_same_of_every_message(seed: int, arrays: bool) -> None:
    maker = Maker(seed, arrays=arrays)
    schema = maker.record()
    judged(schema, [maker.message(schema) for _ in range(60)])


@pytest.mark.parametrize("arrays", [False, True])
def test_good_messages_do_not_need_the_judge(arrays: bool) -> None:
    fields: Json = [{"name": "id", "type": "long"}, {"name": "at", "type": ["null", "string"], "default": None}]
    if arrays:
        fields.append({"name": "x", "type": {"type": "array", "items": {"type": "array", "items": "double"}}})
    messages = [json.dumps({"id": i, "at": "é", "x": [[1.5, i], [2, 3]]}).encode() for i in range(20)]
    _, _, seen = judged({"type": "record", "name": "E", "fields": fields}, messages)
    assert seen == 0


def test_times_as_text_do_not_need_the_judge() -> None:
    fields = [{"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}}]
    messages = [b'{"at": "2024-02-29T12:00:00Z"}', b'{"at": 1709208000000}']
    fast, _, seen = judged({"type": "record", "name": "E", "fields": fields}, messages)
    assert seen == 0
    frame = fast.decode(messages)[0]
    assert frame["at"].n_unique() == 1


@pytest.mark.parametrize(
    "kind",
    [
        "bytes",
        {"type": "fixed", "name": "F", "size": 2},
        {"type": "bytes", "logicalType": "decimal", "precision": 4, "scale": 2},
        {"type": "array", "items": "string"},
        {"type": "array", "items": ["null", "double"]},
        ["null", {"type": "record", "name": "N", "fields": [{"name": "a", "type": "int"}]}],
    ],
)
def test_schemas_that_only_the_judge_reads_are_read(kind: Json) -> None:
    events = JsonEvents(parse({"type": "record", "name": "E", "fields": [{"name": "a", "type": kind}]}))
    assert events._fast is None
    good = {"bytes": "ab", "array": []}.get(kind if isinstance(kind, str) else "array")
    frame, rows, _ = events.decode([json.dumps({"a": good if kind in ("bytes",) else None}).encode()])
    assert isinstance(frame, pl.DataFrame)
    assert len(rows) == len(frame)
