"""One JSON value after the other, checked against the deployment's schema: the judge of what the fast readers leave.

Numbers stay numbers: no text as a number, no 3.0 as an int. Bytes are Latin-1 text as in Avro's defaults, enums their
symbols, times the integers of their unit or ISO 8601 text, decimals numbers or text. A missing field takes its default;
unknown fields are ignored.
"""

from __future__ import annotations

import datetime as dt
import decimal
from collections.abc import Callable
from typing import Any

from schemas.columns import INT_LEAST, INT_MOST
from schemas.errors import SchemaRefused
from schemas.nodes import NO_DEFAULT, Field, Node
from schemas.strict import Undecodable

Read = Callable[[Any, str], Any]
LONG_LEAST, LONG_MOST = -(1 << 63), (1 << 63) - 1
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_MICROS = {"millis": 1_000, "micros": 1}


def record_reader(
    node: Node, path: tuple[str, ...] = ()
) -> Callable[[Any, tuple[str, ...], dict[tuple[str, ...], Any]], None]:
    """Reads one JSON object into raw values by path."""
    parts = [(part, (*path, part.name), *_part(part, (*path, part.name))) for part in node.fields]

    def read(event: Any, _: tuple[str, ...], out: dict[tuple[str, ...], Any]) -> None:
        if type(event) is not dict:
            raise _wrong(".".join(path) or "the event", event, f"record {node.name}")
        for part, here, nullable, leaf, nested in parts:
            value = event.get(part.name, part.default)
            if value is NO_DEFAULT:
                raise Undecodable("missing_field", f"{'.'.join(here)} is missing and has no default")
            if value is None:
                if not nullable:
                    raise _wrong(".".join(here), value, part.type.kind)
            elif nested is not None:
                nested(value, here, out)
            else:
                assert leaf is not None
                out[here] = leaf(value, ".".join(here))

    return read


def _part(part: Field, path: tuple[str, ...]) -> tuple[bool, Read | None, Any]:
    inner, nullable = part.type.nullable()
    if inner.kind == "record":
        return nullable, None, record_reader(inner, path)
    return nullable, value_reader(inner), None


def value_reader(node: Node) -> Read:
    """Return what checks one value and makes it raw; raises Undecodable."""
    node, null = node.nullable()
    read = _not_null(node)
    if not null:
        return read
    return lambda value, place: None if value is None else read(value, place)


def _not_null(node: Node) -> Read:
    if node.logical == "decimal":
        return _decimal(node)
    if node.kind in ("int", "long"):
        return _integer(node)
    if node.kind in ("float", "double"):
        return _number
    if node.kind in ("bytes", "fixed"):
        return _bytes(node)
    if node.kind == "enum":
        return _symbol(node)
    if node.kind == "array":
        return _array(node)
    if node.kind == "record":
        return _struct(node)
    kind = {"boolean": bool, "string": str}.get(node.kind)
    if kind is None:
        raise SchemaRefused(f"{node.kind} has no column")

    def plain(value: Any, place: str) -> Any:
        if type(value) is not kind:
            raise _wrong(place, value, node.kind)
        return value

    return plain


def _number(value: Any, place: str) -> float:
    if type(value) is float:
        return value
    if type(value) is int:
        return float(value)
    raise _wrong(place, value, "number")


def _integer(node: Node) -> Read:
    least, most = (INT_LEAST, INT_MOST) if node.kind == "int" else (LONG_LEAST, LONG_MOST)

    def integer(value: Any, place: str) -> int:
        if type(value) is str and node.logical:
            value = iso_time(value, node, place)
        if type(value) is not int or not least <= value <= most:
            raise _wrong(place, value, node.logical or node.kind)
        return value

    return integer


def iso_time(text: str, node: Node, place: str) -> int:
    """ISO 8601 text as the integer of its unit; a timestamp without a zone is UTC."""
    try:
        if node.logical == "date":
            return dt.date.fromisoformat(text).toordinal() - _EPOCH.date().toordinal()
        moment = dt.datetime.fromisoformat(text)
    except ValueError:
        raise _wrong(place, text, node.logical) from None
    unit = node.logical.rpartition("-")[2]
    if "timestamp" not in node.logical or (node.logical.startswith("local") and moment.tzinfo is not None):
        raise _wrong(place, text, node.logical)
    micros = (moment.replace(tzinfo=moment.tzinfo or dt.UTC) - _EPOCH) // dt.timedelta(microseconds=1)
    return micros * 1_000 if unit == "nanos" else micros // _MICROS[unit]


def _bytes(node: Node) -> Read:
    def read(value: Any, place: str) -> bytes:
        try:
            raw: bytes | None = value.encode("latin-1") if type(value) is str else None
        except UnicodeEncodeError:
            raw = None
        if raw is None or (node.kind == "fixed" and len(raw) != node.size):
            raise _wrong(place, value, f"{node.kind} as Latin-1 text")
        return bytes(raw)

    return read


def _symbol(node: Node) -> Read:
    known = frozenset(node.symbols)

    def symbol(value: Any, place: str) -> Any:
        if type(value) is not str or value not in known:
            if type(value) is str and node.default is not None:
                return node.default
            raise _wrong(place, value, f"enum {node.name}")
        return value

    return symbol


def _decimal(node: Node) -> Read:
    """As the bytes Avro would carry, so that both ways give the same double."""

    def read(value: Any, place: str) -> bytes:
        if type(value) not in (int, float, str):
            raise _wrong(place, value, "decimal")
        try:
            number = decimal.Decimal(str(value))
            sign, digits, exponent = number.as_tuple()
            fits = isinstance(exponent, int) and exponent + node.scale >= 0
            fits = fits and len(digits) + int(exponent) + node.scale <= node.precision
        except decimal.InvalidOperation:
            fits = False
        if not fits:
            raise _wrong(place, value, f"decimal({node.precision}, {node.scale})")
        whole: int = int("".join(map(str, digits))) * 10 ** (int(exponent) + node.scale) * (-1 if sign else 1)
        return whole.to_bytes(whole.bit_length() // 8 + 1, "big", signed=True)

    return read


def _array(node: Node) -> Read:
    assert node.items is not None
    item = value_reader(node.items)

    def array(value: Any, place: str) -> list[Any]:
        if type(value) is not list:
            raise _wrong(place, value, "array")
        return [item(one, place) for one in value]

    return array


def _struct(node: Node) -> Read:
    """A record inside an array."""
    parts = [(part, value_reader(part.type), part.type.nullable()[1]) for part in node.fields]

    def struct(value: Any, place: str) -> dict[str, Any]:
        if type(value) is not dict:
            raise _wrong(place, value, f"record {node.name}")
        out = {}
        for part, read, _ in parts:
            found = value.get(part.name, part.default)
            if found is NO_DEFAULT:
                raise Undecodable("missing_field", f"{place}.{part.name} is missing and has no default")
            out[part.name] = read(found, f"{place}.{part.name}")
        return out

    return struct


def _wrong(place: str, value: object, expected: str) -> Undecodable:
    text = repr(value) if not isinstance(value, dict | list) else type(value).__name__
    return Undecodable("wrong_type", f"{place} is {text if len(text) <= 60 else text[:57] + '...'}, not {expected}")
