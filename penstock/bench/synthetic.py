"""Random events of any Avro record schema, within the declared checks: what is measured with by default."""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from schemas.deployment import Check

NULL_SHARE = 0.05  # of the values of a field that may be null
DAY = 86_400
LETTERS = list("abcdefghijklmnopqrstuvwxyz")
PER_SECOND = {"millis": 1_000, "micros": 1_000_000, "nanos": 1_000_000_000}


class Synthesizer:
    """Makes random rows.

    schema: an Avro record schema. checks: of fields, by name. shapes: extents of the arrays that fill a model's input.
    """

    def __init__(
        self,
        schema: Mapping[str, Any],
        checks: Mapping[str, Check],
        shapes: Mapping[str, Sequence[int]],
        seed: int = 0,
    ) -> None:
        self._schema, self._checks, self._shapes = schema, checks, shapes
        self._rng = np.random.default_rng(seed)
        self._named: dict[str, Any] = {}
        self._now = int(time.time())

    def rows(self, count: int) -> list[dict[str, Any]]:
        """Return `count` events as mappings that fastavro writes."""
        self._name(self._schema)
        return [self._record(self._schema, top=True) for _ in range(count)]

    def _name(self, kind: Any) -> None:
        """Remember named types, which a schema may use again by their names."""
        if isinstance(kind, list):
            for each in kind:
                self._name(each)
        elif isinstance(kind, Mapping):
            if "name" in kind:
                space = f"{kind['namespace']}." if kind.get("namespace") else ""
                self._named[kind["name"]] = self._named[space + kind["name"]] = kind
            for part in (*(field["type"] for field in kind.get("fields", ())), kind.get("items"), kind.get("values")):
                self._name(part)

    def _record(self, kind: Mapping[str, Any], top: bool = False) -> dict[str, Any]:
        return {field["name"]: self._field(field, top) for field in kind["fields"]}

    def _field(self, field: Mapping[str, Any], top: bool) -> Any:
        kind, name = field["type"], field["name"]
        if top and name in self._shapes:
            return self._array(kind, self._shapes[name])
        check = self._checks.get(name) if top else None
        if check is not None and check.one_of:
            return check.one_of[int(self._rng.integers(len(check.one_of)))]
        return self._value(kind, check)

    def _array(self, kind: Any, shape: Sequence[int]) -> Any:
        """An array of numbers for a model's input: nested if the field is, else flat."""
        kind = next(each for each in (kind if isinstance(kind, list) else [kind]) if each != "null")
        numbers = self._rng.random(tuple(shape))
        nested = isinstance(kind["items"], Mapping) and kind["items"].get("type") == "array"
        numbers = numbers.reshape([size for size in shape if size > 1] or [1]) if nested else numbers.ravel()
        whole = str(kind).find("'int'") >= 0 or str(kind).find("'long'") >= 0
        listed: Any = (numbers * 255).astype(int).tolist() if whole else numbers.tolist()
        return listed

    def _value(self, kind: Any, check: Check | None = None) -> Any:
        if isinstance(kind, list):
            if "null" in kind and self._rng.random() < NULL_SHARE:
                return None
            return self._value(next((each for each in kind if each != "null"), "null"), check)
        if isinstance(kind, str) and kind in self._named:
            kind = self._named[kind]
        if not isinstance(kind, Mapping):
            return self._primitive(kind, check)
        match kind["type"]:
            case "record" | "error":
                return self._record(kind)
            case "enum":
                return kind["symbols"][int(self._rng.integers(len(kind["symbols"])))]
            case "array":
                return [self._value(kind["items"]) for _ in range(3)]
            case "map":
                return {"key": self._value(kind["values"])}
            case "fixed":
                return self._rng.bytes(kind["size"])
        return self._logical(kind, check)

    def _logical(self, kind: Mapping[str, Any], check: Check | None) -> Any:
        logical = str(kind.get("logicalType", ""))
        part, _, unit = logical.rpartition("-")
        if part in ("timestamp", "local-timestamp"):
            return (self._now - int(self._rng.integers(DAY))) * PER_SECOND[unit]
        if part == "time":
            return int(self._rng.integers(DAY)) * PER_SECOND[unit]
        if logical == "date":
            return self._now // DAY
        if logical == "uuid":
            return str(uuid.UUID(bytes=self._rng.bytes(16), version=4))
        if logical == "decimal":
            return bytes([int(self._rng.integers(1, 100))])
        return self._value(kind["type"], check)

    def _primitive(self, kind: str, check: Check | None) -> Any:
        low, high = (check.min, check.max) if check else (None, None)
        match kind:
            case "double" | "float":
                if low is None and high is None:
                    return float(self._rng.standard_normal())
                return float(self._rng.uniform(*_range(low, high)))
            case "int" | "long":
                low, high = _range(0 if low is None and high is None else low, high)
                return int(self._rng.integers(int(np.ceil(low)), int(high) + 1))
            case "boolean":
                return bool(self._rng.random() < 0.5)
            case "bytes":
                return self._rng.bytes(16)
            case "null":
                return None
        return "".join(self._rng.choice(LETTERS, 8))


def _range(low: float | None, high: float | None) -> tuple[float, float]:
    """Return both ends, a hundred apart where one is not given."""
    if low is None:
        return (high or 0.0) - 100.0, high or 0.0
    return low, low + 100.0 if high is None else high
