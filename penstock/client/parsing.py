"""Text to values of Avro types: cells of CSV files, and what JSON can only say as text."""

from __future__ import annotations

import datetime
import json
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any

Parse = Callable[[str], Any]
MISFITS = (ValueError, ArithmeticError)  # what a Parse raises for text that does not fit
_TRUE, _FALSE = frozenset({"true", "1", "yes", "t"}), frozenset({"false", "0", "no", "f"})
_INSTANTS = {"timestamp-millis": 1_000, "timestamp-micros": 1_000_000}


def parser(kind: Any) -> Parse:
    """From a cell's text to a value of an Avro type; raises ValueError. Empty is null where null is allowed."""
    if isinstance(kind, list):
        parsers = [parser(branch) for branch in kind if branch != "null"]
        nullable = len(parsers) < len(kind)
        return lambda cell: None if nullable and cell == "" else _first(parsers, cell)
    if isinstance(kind, str):
        return _PARSERS[kind]
    name, logical = kind["type"], kind.get("logicalType")
    if logical in _INSTANTS:
        return _instant(_INSTANTS[logical])
    if logical in _TIMES:
        return _TIMES[logical]
    if name == "enum":
        return str
    if name in ("record", "array", "map"):
        return lambda cell: json.loads(cell)
    return parser(name) if name != "fixed" else _latin


def from_json(kind: Any) -> Parse | None:
    """From the text in JSON to a value of an Avro type that JSON does not have; None where text stays text."""
    if isinstance(kind, list):
        branches = [branch for branch in kind if branch != "null"]
        return from_json(branches[0]) if len(branches) == 1 else None
    if isinstance(kind, str):
        return _latin if kind == "bytes" else None
    if kind.get("logicalType") in (*_INSTANTS, *_TIMES) or kind["type"] in ("bytes", "fixed"):
        return parser(kind)
    return from_json(kind["type"]) if not isinstance(kind["type"], str) else None


def _first(parsers: list[Parse], cell: str) -> Any:
    for parse in parsers[:-1]:
        try:
            return parse(cell)
        except ValueError:
            pass
    return parsers[-1](cell)


def _boolean(cell: str) -> bool:
    word = cell.strip().lower()
    if word not in _TRUE and word not in _FALSE:
        raise ValueError(cell)
    return word in _TRUE


def _integer(cell: str) -> int:
    if "_" in cell:
        raise ValueError(cell)
    return int(cell)


def _number(cell: str) -> float:
    if "_" in cell:
        raise ValueError(cell)
    return float(cell)


def _null(cell: str) -> None:
    if cell:
        raise ValueError(cell)


def _latin(cell: str) -> bytes:
    return cell.encode("latin-1")


def _instant(per_second: int) -> Parse:
    """ISO 8601 with a zone (without one: UTC), or an integer in the field's unit, as that integer."""

    def parse(cell: str) -> int:
        text = cell.strip()
        if text.lstrip("-").isdigit() and len(text) != 8:
            return int(text)
        moment = datetime.datetime.fromisoformat(text)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=datetime.UTC)
        return (moment - _EPOCH) // datetime.timedelta(
            seconds=1
        ) * per_second + moment.microsecond * per_second // 1_000_000

    return parse


_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_PARSERS: Mapping[str, Parse] = {
    "null": _null,
    "boolean": _boolean,
    "int": _integer,
    "long": _integer,
    "float": _number,
    "double": _number,
    "string": str,
    "bytes": _latin,
}
_TIMES: Mapping[str, Parse] = {
    "date": lambda cell: datetime.date.fromisoformat(cell.strip()),
    "time-millis": lambda cell: datetime.time.fromisoformat(cell.strip()),
    "time-micros": lambda cell: datetime.time.fromisoformat(cell.strip()),
    "decimal": lambda cell: Decimal(cell.strip()),
}
