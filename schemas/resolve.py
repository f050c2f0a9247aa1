"""Writer schema to the deployment's columns: which schemas are refused, which columns there are, where each comes from.

The reader schema is flattened: a field of a nested record becomes a column with a dotted name. Columns by type: double
Float64, float Float32, int Int32, long Int64, boolean Boolean, string and uuid String, bytes and fixed Binary, enum
pl.Enum(symbols), date Date, timestamps Datetime("ms" | "us" | "ns", "UTC"), local timestamps the same without a zone,
times of day plain integers in their unit, arrays List(item). A decimal is Float64, the double nearest to its exact
value: it is there to be scored and compared; who needs the exact digits of money sends them as a string beside it.
Maps and unions of several types have no column: a reader schema with them is refused, a writer may have them in fields
that the reader leaves out (or narrows to one type).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from schemas.errors import SchemaRefused
from schemas.nodes import NO_DEFAULT, Field, Node, parse

_PLAIN: dict[str, pl.DataType] = {
    "boolean": pl.Boolean(),
    "int": pl.Int32(),
    "long": pl.Int64(),
    "float": pl.Float32(),
    "double": pl.Float64(),
    "string": pl.String(),
    "bytes": pl.Binary(),
    "fixed": pl.Binary(),
}
_LOGICAL: dict[str, pl.DataType] = {
    "date": pl.Date(),
    "timestamp-millis": pl.Datetime("ms", "UTC"),
    "timestamp-micros": pl.Datetime("us", "UTC"),
    "timestamp-nanos": pl.Datetime("ns", "UTC"),
    "local-timestamp-millis": pl.Datetime("ms"),
    "local-timestamp-micros": pl.Datetime("us"),
    "local-timestamp-nanos": pl.Datetime("ns"),
    "decimal": pl.Float64(),
}
_PROMOTED = {
    ("int", "long"),
    ("int", "float"),
    ("int", "double"),
    ("long", "float"),
    ("long", "double"),
    ("float", "double"),
    ("string", "bytes"),
    ("bytes", "string"),
}


class NeedsStrict(Exception):
    """This pair of schemas resolves value by value (strict path), not column by column."""


@dataclass(frozen=True, slots=True)
class Leaf:
    """One column of the deployment: `path` leads through the reader's records to its field."""

    name: str
    path: tuple[str, ...]
    type: Node  # without the null branch
    nullable: bool
    dtype: pl.DataType


@dataclass(frozen=True, slots=True)
class Source:
    """Where a leaf comes from in a writer's record: a path of the writer's field names, or a constant."""

    leaf: Leaf
    path: tuple[str, ...] | None
    type: Node | None  # the writer's, without the null branch
    constant: Any = None
    nulls: bool = True  # whether the writer may send null for it


def check_schema(schema: Any) -> None:
    """Raise SchemaRefused, naming type and place, for what is not decoded: recursive, amplifying, malformed, huge."""
    parse(schema)


def columns_of(reader: Any) -> dict[str, pl.DataType]:
    """Column name to dtype, in the order of the schema. Raises SchemaRefused for what has no column."""
    return {leaf.name: leaf.dtype for leaf in leaves(parse(reader))}


def leaves(reader: Node) -> list[Leaf]:
    """The columns of a reader schema, flattened."""
    if reader.kind != "record":
        raise SchemaRefused(f"schema: an event is a record, not {reader.kind}")
    found = list(_leaves(reader, (), False))
    if not found:
        raise SchemaRefused(f"record {reader.name!r} has no fields, so there is nothing to read")
    names = [leaf.name for leaf in found]
    if len(set(names)) != len(names):  # not possible while field names cannot contain dots; kept as a guard
        raise SchemaRefused(f"record {reader.name!r} has two columns of the same name")
    return found


def _leaves(record: Node, path: tuple[str, ...], nullable: bool) -> Iterator[Leaf]:
    for part in record.fields:
        inner, null = part.type.nullable()
        here = (*path, part.name)
        if inner.kind == "record":
            yield from _leaves(inner, here, nullable or null)
        else:
            yield Leaf(".".join(here), here, inner, nullable or null, dtype_of(inner, ".".join(here)))


def dtype_of(node: Node, place: str) -> pl.DataType:
    """The polars type of a value. Raises SchemaRefused for maps, unions of several types and null alone."""
    node, _ = node.nullable()
    if node.logical in _LOGICAL:
        return _LOGICAL[node.logical]
    if node.kind in _PLAIN:
        return _PLAIN[node.kind]
    if node.kind == "enum":
        return pl.Enum(node.symbols)
    if node.kind == "array" and node.items is not None:
        _no_decimals(node.items, place)
        return pl.List(dtype_of(node.items, f"{place}[]"))
    if node.kind == "record":
        return pl.Struct({part.name: dtype_of(part.type, f"{place}.{part.name}") for part in node.fields})
    what = "a union of several types" if node.kind == "union" else node.kind
    raise SchemaRefused(f"{place}: {what} has no column; leave the field out of the deployment's schema or narrow it")


def _no_decimals(node: Node, place: str) -> None:
    """Raise SchemaRefused for decimals inside an array, which are not converted."""
    inner, _ = node.nullable()
    if inner.logical == "decimal":
        raise SchemaRefused(f"{place}: an array of decimals has no column; send doubles or leave the field out")
    for part in inner.fields:
        _no_decimals(part.type, f"{place}.{part.name}")


def sources(reader: Node, writer: Node) -> list[Source]:
    """Where each column comes from. Raises SchemaRefused (does not resolve) or NeedsStrict (only value by value)."""
    if writer.kind != "record" or not same_name(reader, writer):
        raise SchemaRefused(f"the writer's {writer.kind} {writer.name!r} is not the record {reader.name!r} or an alias")
    return list(_sources(reader, writer, (), (), False, False))


def same_name(reader: Node, writer: Node) -> bool:
    """Avro's rule: unqualified names agree, or the writer's is an alias of the reader's."""
    short = writer.name.rpartition(".")[2]
    return short == reader.name.rpartition(".")[2] or writer.name in reader.aliases or short in reader.aliases


def _sources(
    reader: Node, writer: Node, path: tuple[str, ...], at: tuple[str, ...], nullable: bool, absent: bool
) -> Iterator[Source]:
    """`nullable`: a record above may be null for the reader; `absent`: the writer may send null for one."""
    written = {part.name: part for part in writer.fields}
    taken = set()
    for part in reader.fields:
        match = next((name for name in (part.name, *part.aliases) if name in written and name not in taken), None)
        if match is None:
            if absent:
                raise NeedsStrict  # null where the record is null, else the default
            yield from _defaults(part, path, nullable)
        else:
            taken.add(match)
            yield from _matched(part, written[match].type, path, (*at, match), nullable, absent)


def _matched(
    part: Field, written: Node, path: tuple[str, ...], at: tuple[str, ...], nullable: bool, absent: bool
) -> Iterator[Source]:
    here = (*path, part.name)
    inner, null = part.type.nullable()
    other, other_null = written.nullable()
    if other.kind in ("union", "map") or (written.kind == "union" and len(written.branches) == 1):
        raise NeedsStrict
    if other.kind == "null":
        if not null:
            raise SchemaRefused(f"{'.'.join(here)}: the writer always sends null, the deployment does not allow it")
        yield from (Source(leaf, None, None) for leaf in _under(part, path, nullable))
    elif inner.kind == "record":
        if other.kind != "record" or not same_name(inner, other):
            raise SchemaRefused(
                f"{'.'.join(here)}: the writer sends {other.kind} {other.name}, not record {inner.name}"
            )
        if other_null and not null:
            raise NeedsStrict
        yield from _sources(inner, other, here, at, nullable or null, absent or other_null)
    else:
        name = ".".join(here)
        _promotable(inner, other, name)
        leaf = Leaf(name, here, inner, nullable or null, dtype_of(inner, name))
        yield Source(leaf, at, other, nulls=absent or other_null)


def _promotable(reader: Node, writer: Node, place: str) -> None:
    """Raise SchemaRefused unless Avro's rules turn the writer's type into the reader's."""
    if reader.kind == writer.kind == "array":
        if reader.items == writer.items and _plain_items(reader):
            return
        raise NeedsStrict
    if reader.kind == writer.kind:
        if reader.kind == "fixed" and reader.size != writer.size:
            raise SchemaRefused(f"{place}: fixed of {writer.size} bytes, the deployment reads {reader.size}")
        if reader.kind in ("fixed", "enum") and not same_name(reader, writer):
            raise SchemaRefused(f"{place}: {writer.kind} {writer.name!r} is not {reader.name!r} or an alias")
    elif (writer.kind, reader.kind) not in _PROMOTED:
        raise SchemaRefused(f"{place}: the writer sends {writer.kind}, which does not become {reader.kind}")
    if {reader.logical, writer.logical} & {"decimal"} and reader.kind != writer.kind:
        raise SchemaRefused(f"{place}: decimal needs the same carrier on both sides ({writer.kind}, {reader.kind})")


def _plain_items(node: Node) -> bool:
    items, _ = node.items.nullable() if node.items else (node, False)
    return items.kind in ("double", "float", "boolean", "string", "long", "int", "bytes") and not items.logical


def _under(part: Field, path: tuple[str, ...], nullable: bool) -> Iterator[Leaf]:
    return _leaves(Node("record", fields=(part,)), path, nullable)


def _defaults(part: Field, path: tuple[str, ...], nullable: bool) -> Iterator[Source]:
    if part.default is NO_DEFAULT:
        raise SchemaRefused(f"{'.'.join((*path, part.name))}: the writer does not send it and it has no default")
    for leaf in _under(part, path, nullable):
        value = part.default
        for step in leaf.path[len(path) + 1 :]:
            value = value.get(step) if isinstance(value, Mapping) else None
        yield Source(leaf, None, None, constant_of(leaf, value))


def constant_of(leaf: Leaf, default: Any) -> Any:
    """A default as it stands in JSON, as the leaf's raw value (bytes from Latin-1 text). Raises SchemaRefused."""
    if default is None:
        if not leaf.nullable:
            raise SchemaRefused(f"{leaf.name}: its default is null, which its type does not allow")
        return None
    if leaf.type.kind in ("bytes", "fixed") and isinstance(default, str):
        return default.encode("latin-1", "replace")
    if leaf.type.kind in ("double", "float") and isinstance(default, int | float):
        return float(default)
    expected = {"int": int, "long": int, "boolean": bool, "string": str, "enum": str, "array": list}
    if not isinstance(default, expected.get(leaf.type.kind, bytes)):
        raise SchemaRefused(f"{leaf.name}: its default {default!r} is not of its type {leaf.type.kind}")
    return default
