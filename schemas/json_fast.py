"""JSON events that are plainly good, by the fastest parser for their shape; whatever is odd is left to the judge.

Events of single values go through a msgspec struct, which parses and checks types in one pass. Events with arrays of
numbers go through simdjson, which hands each array over as one buffer. Either takes a part of what `json_values` takes
and makes the same of it: `tests/schemas/test_json.py` compares them on random and damaged messages. One thing passes
here and not there: a number beyond doubles in a field that nobody asks for.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
import numpy.typing as npt
import polars as pl
import simdjson

from schemas.columns import INT_LEAST, INT_MOST, raw_dtype
from schemas.errors import SchemaError
from schemas.json_values import LONG_LEAST, LONG_MOST, Read, iso_time, value_reader
from schemas.nodes import NO_DEFAULT, Field, Node
from schemas.resolve import Leaf

FastReader = Callable[[bytes], Sequence[Any]]
# What a fast reader may raise: the message is for the judge.
ODD = (msgspec.MsgspecError, SchemaError, ValueError, TypeError, RuntimeError, OverflowError)
_BOM = b"\xef\xbb\xbf"
_DTYPES: dict[str, npt.DTypeLike] = {"d": np.float64, "i": np.int64}
_BUFFERS: dict[str, Literal["d", "i"]] = {"float": "d", "double": "d", "int": "i", "long": "i"}
_PLAIN: dict[str, Any] = {"boolean": bool, "float": float, "double": float, "string": str}


class Unsuited(Exception):
    """The schema has a part that only the judge reads."""


@dataclass(frozen=True, slots=True)
class Numbers:
    """An array of numbers. flat: all of them; sizes: how many, or of nested arrays the length of each."""

    flat: npt.NDArray[Any]
    sizes: tuple[int, ...]
    nested: bool


def fast_reader(record: Node, leaves: Sequence[Leaf]) -> FastReader | None:
    """Return what reads a plainly good event as the raw values of `leaves`, raising one of ODD for any other.

    None when the schema has parts that only the judge reads: bytes, decimals, arrays of other things than numbers,
    nullable records.
    """
    try:
        if any(leaf.type.kind == "array" for leaf in leaves):
            return _with_arrays(record)
        return _plain(record, leaves)
    except Unsuited:
        return None


# ---- single values


def _plain(record: Node, leaves: Sequence[Leaf]) -> FastReader:
    places: dict[tuple[str, ...], str] = {}
    decode = msgspec.json.Decoder(_struct(record, (), "", places)).decode
    get = attrgetter(*(places[leaf.path] for leaf in leaves))
    times = [(i, leaf.type, leaf.name) for i, leaf in enumerate(leaves) if leaf.type.logical]
    times = [(i, node, name) for i, node, name in times if node.kind in ("int", "long")]
    single = len(leaves) == 1

    def read(value: bytes) -> Sequence[Any]:
        if not value.isascii():
            value.decode()  # what is not asked for may be no UTF-8 and nobody has looked
        event = get(decode(value))
        return (event,) if single else event

    def read_times(value: bytes) -> Sequence[Any]:
        event = list(read(value))
        for i, node, name in times:
            if type(event[i]) is str:
                event[i] = iso_time(event[i], node, name)
        return event

    return read_times if times else read


def _struct(record: Node, path: tuple[str, ...], attribute: str, places: dict[tuple[str, ...], str]) -> Any:
    """Return a struct type for a record; notes in `places` by which attributes each leaf is reached."""
    fields: list[tuple[str, Any, Any]] = []
    for number, part in enumerate(record.fields):
        inner, nullable = part.type.nullable()
        name, here = f"f{number}", (*path, part.name)
        if inner.kind == "record":
            if nullable or part.default is not NO_DEFAULT:
                raise Unsuited
            fields.append((name, _struct(inner, here, f"{attribute}{name}.", places), msgspec.NODEFAULT))
        else:
            kind = _type(inner)
            fields.append((name, kind | None if nullable else kind, _default(part, inner, nullable)))
            places[here] = attribute + name
    names = {f"f{number}": part.name for number, part in enumerate(record.fields)}
    return msgspec.defstruct("Event", fields, rename=names, kw_only=True, gc=False)


def _type(node: Node) -> Any:
    if node.kind in ("int", "long"):
        least, most = (INT_LEAST, INT_MOST) if node.kind == "int" else (LONG_LEAST, LONG_MOST)
        whole = Annotated[int, msgspec.Meta(ge=least, le=most)]
        return whole | str if node.logical else whole
    if node.kind == "enum":
        return Literal[node.symbols]
    if node.kind in _PLAIN and node.logical != "decimal":
        return _PLAIN[node.kind]
    raise Unsuited


def _default(part: Field, node: Node, nullable: bool) -> Any:
    if part.default is NO_DEFAULT:
        return msgspec.NODEFAULT
    if part.default is None and nullable:
        return None
    try:
        return value_reader(node)(part.default, part.name)
    except SchemaError:  # the judge says so of each message that lacks the field
        raise Unsuited from None


# ---- arrays of numbers


def _with_arrays(record: Node) -> FastReader:
    parser = simdjson.Parser()
    parts = [_part(part) for part in record.fields]

    def read(value: bytes) -> Sequence[Any]:
        if value.startswith(_BOM):
            raise ValueError("simdjson skips it, the judge does not")
        event: Any = parser.parse(value)
        if type(event) is not simdjson.Object:
            raise ValueError("no object")
        found, brackets, out = 0, 0, []
        for name, default, nullable, array, take in parts:
            item = event.get(name, NO_DEFAULT)
            if item is NO_DEFAULT:
                if default is NO_DEFAULT:
                    raise ValueError("a field is missing")
                item = default
            else:
                found += 1
            if item is None:
                if not nullable:
                    raise ValueError("null where no null may be")
            elif array is not None and item is not default:
                item = _numbers(item, *array)
                brackets += 1 + len(item.sizes) * item.nested
            else:
                item = take(item, name)
            out.append(item)
        if value.count(b"[") != brackets:  # arrays are nested deeper than the schema says, or a text holds a bracket
            raise ValueError("brackets")
        if len(event) != found and len(set(event.keys())) != len(event):
            raise ValueError("a key is there twice: here the first would win, for the judge the last")
        return out

    return read


def _part(part: Field) -> tuple[str, Any, bool, tuple[Literal["d", "i"], bool, int] | None, Read]:
    """Return name, default, whether null is allowed, what an array of numbers is, and what reads a single value."""
    inner, nullable = part.type.nullable()
    if inner.kind == "array":
        return part.name, part.default, nullable, _array_kind(inner), value_reader(inner)
    if inner.kind in ("record", "bytes", "fixed", "map", "union", "null") or inner.logical == "decimal":
        raise Unsuited
    return part.name, part.default, nullable, None, value_reader(inner)


def _array_kind(node: Node) -> tuple[Literal["d", "i"], bool, int]:
    items = node.items
    nested = items is not None and items.kind == "array"
    items = items.items if nested and items is not None else items
    if items is None or items.kind not in _BUFFERS or items.logical:
        raise Unsuited
    return _BUFFERS[items.kind], nested, INT_MOST if items.kind == "int" else LONG_MOST


def _numbers(array: Any, kind: Literal["d", "i"], nested: bool, most: int) -> Numbers:
    if type(array) is not simdjson.Array:
        raise TypeError("no array")
    parts: Any = array
    sizes = tuple(len(part) for part in parts) if nested else (len(parts),)
    flat = np.frombuffer(array.as_buffer(of_type=kind), _DTYPES[kind])
    if most == INT_MOST and len(flat) and (flat.min() < INT_LEAST or flat.max() > INT_MOST):
        raise ValueError("an int outside 32 bits")
    return Numbers(flat, sizes, nested)


def lists(column: Sequence[Any], node: Node) -> pl.Series | None:
    """Return the arrays of one field as a raw column, None where one of them came from the judge."""
    if not all(isinstance(each, Numbers) for each in column):
        return None
    assert node.items is not None
    dtype = pl.List(raw_dtype(node.items))
    flat = np.concatenate([each.flat for each in column])
    shapes = {(len(each.sizes), *set(each.sizes)) if each.nested else each.sizes for each in column}
    if len(shapes) == 1 and math.prod(shape := next(iter(shapes))) and len(shape) == 1 + column[0].nested:
        return pl.Series(flat).reshape((len(column), *shape)).cast(dtype)
    return pl.Series([plain_list(each) for each in column], dtype=dtype)


def plain_list(numbers: Any) -> Any:
    """Return an array as the judge would have given it."""
    if not isinstance(numbers, Numbers):
        return numbers
    if not numbers.nested:
        return numbers.flat.tolist()
    ends = np.cumsum(numbers.sizes)[:-1]
    return [part.tolist() for part in np.split(numbers.flat, ends)] if numbers.sizes else []
