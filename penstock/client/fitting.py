"""Does an event fit its Avro schema? fastavro writes 1.5 as the int 1, and True too: a producer looks first."""

from __future__ import annotations

import datetime
import decimal
import difflib
import math
import numbers
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from penstock.client.errors import EventInvalid, SchemaInvalid

_FLOAT_MAX = 3.4028235677973366e38  # from here on a double has no finite float


@dataclass(frozen=True, slots=True)
class Expected:
    """What one place of a schema accepts."""

    fits: Callable[[Any], bool]
    words: str  # the type, for a person
    locate: Callable[[str, Any], EventInvalid] | None = None  # finds the innermost value that does not fit

    def finding(self, path: str, value: Any) -> EventInvalid:
        """The error for a value that does not fit, with the path of the innermost culprit."""
        if self.locate is not None:
            return self.locate(path, value)
        found = None
        if isinstance(value, datetime.datetime) and value.tzinfo is None and "time zone" in self.words:
            found = f"found {value.isoformat(' ')} without a time zone; say which, such as tzinfo=datetime.UTC"
        return EventInvalid(path, value, self.words, found=found)


def expectation(kind: Any) -> Expected:
    """Compile an Avro type, as `fastavro.parse_schema(..., expand=True)` gives it.

    Raises SchemaInvalid for a recursive type.
    """
    if isinstance(kind, list):
        return _union([expectation(branch) for branch in kind])
    if isinstance(kind, str):
        if kind not in _PLAIN:
            raise SchemaInvalid(f"the schema is recursive at {kind!r}; Penstock does not read such schemas, unroll it")
        return _PLAIN[kind]
    name, logical = kind["type"], kind.get("logicalType")
    if not isinstance(name, str):
        return expectation(name)
    if (name, logical) in _LOGICAL:
        return _LOGICAL[name, logical]
    if logical == "decimal":
        return _decimal(kind)
    return _NESTED[name](kind) if name in _NESTED else expectation(name)


def _integer(bits: int) -> Callable[[Any], bool]:
    low, high = -(1 << (bits - 1)), 1 << (bits - 1)

    def fits(value: Any) -> bool:
        if type(value) is int or (isinstance(value, numbers.Integral) and not isinstance(value, bool)):
            return low <= int(value) < high
        return False

    return fits


def _is_double(value: Any) -> bool:
    return type(value) is float or (isinstance(value, numbers.Real) and not isinstance(value, bool))


def _is_float(value: Any) -> bool:
    return _is_double(value) and (abs(value) < _FLOAT_MAX or not math.isfinite(value))


def _is_instant(value: Any) -> bool:
    return (isinstance(value, datetime.datetime) and value.tzinfo is not None) or _is_long(value)


def _is_local_instant(value: Any) -> bool:
    return (isinstance(value, datetime.datetime) and value.tzinfo is None) or _is_long(value)


def _is_date(value: Any) -> bool:
    return (isinstance(value, datetime.date) and not isinstance(value, datetime.datetime)) or _is_int(value)


def _instance(*types: type) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, types)


_is_int, _is_long = _integer(32), _integer(64)

_PLAIN = {
    "null": Expected(lambda value: value is None, "null"),
    "boolean": Expected(_instance(bool), "boolean"),
    "int": Expected(_is_int, "int (32 bits)"),
    "long": Expected(_is_long, "long (64 bits)"),
    "float": Expected(_is_float, "float"),
    "double": Expected(_is_double, "double"),
    "string": Expected(_instance(str), "string"),
    "bytes": Expected(_instance(bytes, bytearray), "bytes"),
}

_INSTANT = "a datetime with a time zone or a long of {} since 1970"
_LOCAL = "a datetime without time zone or a long of {} since 1970"
_LOGICAL = {
    ("long", "timestamp-millis"): Expected(_is_instant, _INSTANT.format("ms")),
    ("long", "timestamp-micros"): Expected(_is_instant, _INSTANT.format("us")),
    ("long", "local-timestamp-millis"): Expected(_is_local_instant, _LOCAL.format("ms")),
    ("long", "local-timestamp-micros"): Expected(_is_local_instant, _LOCAL.format("us")),
    ("int", "date"): Expected(_is_date, "a date or an int of days since 1970"),
    ("int", "time-millis"): Expected(lambda v: isinstance(v, datetime.time) or _is_int(v), "a time or an int of ms"),
    ("long", "time-micros"): Expected(lambda v: isinstance(v, datetime.time) or _is_long(v), "a time or a long of us"),
    ("string", "uuid"): Expected(_instance(str, uuid.UUID), "a UUID"),
}


def _decimal(kind: Mapping[str, Any]) -> Expected:
    precision, scale = int(kind["precision"]), int(kind.get("scale", 0))

    def fits(value: Any) -> bool:
        if isinstance(value, (bytes, bytearray)):
            return True
        if not isinstance(value, decimal.Decimal) or not value.is_finite():
            return False
        _, digits, exponent = value.as_tuple()
        return -int(exponent) <= scale and len(digits) + int(exponent) <= precision - scale

    return Expected(fits, f"a Decimal of at most {precision} digits, {scale} of them behind the point")


def _enum(kind: Mapping[str, Any]) -> Expected:
    symbols = frozenset(kind["symbols"])
    return Expected(lambda v: isinstance(v, str) and v in symbols, f"one of {', '.join(kind['symbols'])}")


def _fixed(kind: Mapping[str, Any]) -> Expected:
    size = kind["size"]
    return Expected(lambda v: isinstance(v, (bytes, bytearray)) and len(v) == size, f"exactly {size} bytes")


def _union(branches: list[Expected]) -> Expected:
    words = " or ".join(branch.words for branch in branches)
    nested = [branch for branch in branches if branch.words != "null"]
    locate = nested[0].locate if len(nested) == 1 else None
    if len(branches) == 2 and len(nested) == 1:
        one = nested[0].fits
        return Expected(lambda value: value is None or one(value), words, locate)
    tests = [branch.fits for branch in branches]
    return Expected(lambda value: any(fits(value) for fits in tests), words, locate)


def _array(kind: Mapping[str, Any]) -> Expected:
    item = expectation(kind["items"])
    words = f"an array of {item.words}"

    def locate(path: str, value: Any) -> EventInvalid:
        if not isinstance(value, (list, tuple)):
            return EventInvalid(path, value, words)
        at = next(at for at, each in enumerate(value) if not item.fits(each))
        return item.finding(f"{path}[{at}]", value[at])

    return Expected(lambda v: isinstance(v, (list, tuple)) and all(map(item.fits, v)), words, locate)


def _map(kind: Mapping[str, Any]) -> Expected:
    item = expectation(kind["values"])
    words = f"a map from string to {item.words}"

    def fits(value: Any) -> bool:
        return isinstance(value, Mapping) and all(
            isinstance(key, str) and item.fits(each) for key, each in value.items()
        )

    return Expected(fits, words)


def _record(kind: Mapping[str, Any]) -> Expected:
    inner = Record(kind)

    def locate(path: str, value: Any) -> EventInvalid:
        if not isinstance(value, Mapping):
            return EventInvalid(path, value, inner.words)
        error = inner.first_misfit(value)
        assert error is not None
        return EventInvalid(f"{path}.{error.field}", error.value, error.expected, found=error.found)

    return Expected(lambda v: isinstance(v, Mapping) and inner.first_misfit(v) is None, inner.words, locate)


_NESTED: dict[str, Callable[[Mapping[str, Any]], Expected]] = {
    "enum": _enum,
    "fixed": _fixed,
    "array": _array,
    "map": _map,
    "record": _record,
    "error": _record,
}


class Record:
    """What a record schema accepts: every field without a default or null must be there, and nothing else."""

    def __init__(self, schema: Mapping[str, Any]) -> None:
        self.fields = {field["name"]: expectation(field["type"]) for field in schema["fields"]}
        self.words = f"a record of {', '.join(self.fields)}"
        self._optional = frozenset(
            field["name"] for field in schema["fields"] if "default" in field or self.fields[field["name"]].fits(None)
        )

    def first_misfit(self, event: Mapping[str, Any]) -> EventInvalid | None:
        """The first field that does not fit, or None: the event may be written."""
        found = 0
        for name, expected in self.fields.items():
            if name in event:
                found += 1
                if not expected.fits(event[name]):
                    return expected.finding(name, event[name])
            elif name not in self._optional:
                return EventInvalid(name, None, expected.words, found="the field is missing")
        return None if found == len(event) else self._unknown(event)

    def _unknown(self, event: Mapping[str, Any]) -> EventInvalid:
        name = next(name for name in event if name not in self.fields)
        return EventInvalid(str(name), event[name], "a field of the schema", found=unknown_field(name, self.fields))


def unknown_field(name: object, known: Mapping[str, Any]) -> str:
    """What to say of a field that a schema does not have."""
    close = difflib.get_close_matches(str(name), list(known), n=1)
    return "it has none of this name" + (
        f"; did you mean {close[0]!r}?" if close else f"; known are {', '.join(known)}"
    )
