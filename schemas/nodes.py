"""An Avro schema as a small tree, so that everything else can walk it without fearing it.

Schemas come from strangers. `parse` resolves names and refuses, by name, what makes a decoder crash, hang or use
unbounded memory: recursive types, arrays and maps whose items take no bytes (ten bytes could claim a billion of them),
trees that are too deep or too large once names are expanded.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from schemas.errors import SchemaRefused

PRIMITIVES = frozenset(["null", "boolean", "int", "long", "float", "double", "bytes", "string"])
_LEAST = {"null": 0, "boolean": 1, "int": 1, "long": 1, "float": 4, "double": 8, "bytes": 1, "string": 1}
_CARRIER = {
    "date": ("int",),
    "time-millis": ("int",),
    "time-micros": ("long",),
    "timestamp-millis": ("long",),
    "timestamp-micros": ("long",),
    "timestamp-nanos": ("long",),
    "local-timestamp-millis": ("long",),
    "local-timestamp-micros": ("long",),
    "local-timestamp-nanos": ("long",),
    "decimal": ("bytes", "fixed"),
    "uuid": ("string", "fixed"),
}
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*")
MAX_DEPTH = 32
MAX_NODES = 20_000
MAX_FIXED = 1 << 20
MAX_SYMBOLS = 1 << 16
NO_DEFAULT: Any = object()


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a record; `default` is NO_DEFAULT where the schema gives none."""

    name: str
    type: Node
    aliases: tuple[str, ...] = ()
    default: Any = NO_DEFAULT


@dataclass(frozen=True, slots=True)
class Node:
    """One type. `least` is the least number of bytes one value takes, `nodes` the size of the tree below."""

    kind: str
    name: str = ""
    aliases: tuple[str, ...] = ()
    logical: str = ""
    size: int = 0
    precision: int = 0
    scale: int = 0
    symbols: tuple[str, ...] = ()
    default: str | None = None
    items: Node | None = None
    fields: tuple[Field, ...] = ()
    branches: tuple[Node, ...] = ()
    least: int = 0
    nodes: int = 1

    def nullable(self) -> tuple[Node, bool]:
        """The only value branch and whether null is allowed; a union of several types is returned as it is."""
        if self.kind == "union":
            values = [branch for branch in self.branches if branch.kind != "null"]
            if len(values) == 1:
                return values[0], len(self.branches) > 1
        return self, self.kind == "null"


def parse(schema: Any) -> Node:
    """The tree of a schema as it stands in JSON. Raises SchemaRefused that names the place and the reason."""
    return _Parser().type(schema, "", "schema", 0)


@dataclass
class _Parser:
    named: dict[str, Node] = field(default_factory=dict)
    open: set[str] = field(default_factory=set)

    def type(self, schema: Any, space: str, place: str, depth: int) -> Node:
        if depth > MAX_DEPTH:
            raise SchemaRefused(f"{place}: nested more than {MAX_DEPTH} deep; flatten the schema")
        if isinstance(schema, str):
            return self._reference(schema, space, place)
        if isinstance(schema, list):
            return self._union(schema, space, place, depth)
        if not isinstance(schema, Mapping) or "type" not in schema:
            raise SchemaRefused(f"{place}: {_short(schema)} is not an Avro type")
        kind = schema["type"]
        if isinstance(kind, dict | list):
            return self.type(kind, space, place, depth + 1)
        if kind in ("record", "error"):
            return self._record(schema, space, place, depth)
        if kind in ("array", "map"):
            return self._collection(schema, space, place, depth)
        if kind in ("enum", "fixed"):
            return self._named_leaf(schema, space, place)
        return _with_logical(self._reference(kind, space, place), schema)

    def _reference(self, name: Any, space: str, place: str) -> Node:
        if isinstance(name, str) and name in PRIMITIVES:
            return Node(name, least=_LEAST[name])
        if not isinstance(name, str):
            raise SchemaRefused(f"{place}: {_short(name)} is not an Avro type")
        full = name if "." in name or not space else f"{space}.{name}"
        for candidate in (full, name):
            if candidate in self.open:
                raise SchemaRefused(f"{place}: type {candidate!r} contains itself; recursive schemas are not read")
            if candidate in self.named:
                return self.named[candidate]
        raise SchemaRefused(f"{place}: type {_short(name)} is not defined before it is used")

    def _union(self, schema: list[Any], space: str, place: str, depth: int) -> Node:
        branches = tuple(self.type(part, space, f"{place}[{i}]", depth + 1) for i, part in enumerate(schema))
        keys = [branch.name or branch.kind for branch in branches]
        if not branches or len(set(keys)) != len(keys) or "union" in keys:
            raise SchemaRefused(f"{place}: a union needs distinct types that are not unions, this one has {keys}")
        nodes = _limited(1 + sum(branch.nodes for branch in branches), place)
        return Node("union", branches=branches, least=1 + min(branch.least for branch in branches), nodes=nodes)

    def _collection(self, schema: Mapping[str, Any], space: str, place: str, depth: int) -> Node:
        kind, key = schema["type"], "items" if schema["type"] == "array" else "values"
        if key not in schema:
            raise SchemaRefused(f"{place}: {kind} without {key!r}")
        items = self.type(schema[key], space, f"{place}.{key}", depth + 1)
        if items.least == 0:
            what = f"{items.kind} {items.name!r}" if items.name else items.kind
            raise SchemaRefused(
                f"{place}: {kind} of {what}, whose values take no bytes: a few bytes could claim any number of them"
            )
        return Node(kind, items=items, least=1, nodes=_limited(1 + items.nodes, place))

    def _record(self, schema: Mapping[str, Any], space: str, place: str, depth: int) -> Node:
        name, aliases = self._name(schema, space, place)
        inner = name.rpartition(".")[0]
        self.open.add(name)
        fields = tuple(self._field(part, inner, f"{place}.{name}", depth) for part in _list(schema, "fields", place))
        self.open.discard(name)
        names = [part.name for part in fields]
        if len(set(names)) != len(names):
            raise SchemaRefused(f"{place}: record {name!r} has two fields of the same name")
        nodes = _limited(1 + sum(part.type.nodes for part in fields), place)
        least = sum(part.type.least for part in fields)
        return self._keep(Node("record", name, aliases, fields=fields, least=least, nodes=nodes))

    def _field(self, part: Any, space: str, place: str, depth: int) -> Field:
        if not isinstance(part, Mapping) or not isinstance(part.get("name"), str) or "type" not in part:
            raise SchemaRefused(f"{place}: {_short(part)} is not a field with a name and a type")
        if not _NAME.fullmatch(part["name"]) or "." in part["name"]:
            raise SchemaRefused(f"{place}: {_short(part['name'])} is not a field name")
        kind = self.type(part["type"], space, f"{place}.{part['name']}", depth + 1)
        if kind.kind in PRIMITIVES and "logicalType" in part and not isinstance(part["type"], dict):
            kind = _with_logical(kind, part)  # a common slip, which most libraries honour
        return Field(part["name"], kind, _aliases(part), part.get("default", NO_DEFAULT))

    def _named_leaf(self, schema: Mapping[str, Any], space: str, place: str) -> Node:
        name, aliases = self._name(schema, space, place)
        if schema["type"] == "enum":
            symbols = _list(schema, "symbols", place)
            usable = all(isinstance(symbol, str) for symbol in symbols) and len(set(symbols)) == len(symbols)
            if not usable or not 0 < len(symbols) <= MAX_SYMBOLS:
                raise SchemaRefused(f"{place}: enum {name!r} needs 1 to {MAX_SYMBOLS} distinct symbols")
            default = schema.get("default")
            if default is not None and default not in symbols:
                raise SchemaRefused(f"{place}: the default of enum {name!r} is not one of its symbols")
            return self._keep(Node("enum", name, aliases, symbols=tuple(symbols), default=default, least=1))
        size = schema.get("size")
        if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size <= MAX_FIXED:
            raise SchemaRefused(f"{place}: fixed {name!r} needs a size from 0 to {MAX_FIXED}")
        node = _with_logical(Node("fixed", name, aliases, size=size, least=size), schema)
        return self._keep(node)

    def _name(self, schema: Mapping[str, Any], space: str, place: str) -> tuple[str, tuple[str, ...]]:
        name = schema.get("name")
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise SchemaRefused(f"{place}: {schema['type']} needs a name, not {_short(name)}")
        own = schema.get("namespace", space)
        full = name if "." in name or not own else f"{own}.{name}"
        if full in self.named or full in self.open or full in PRIMITIVES:
            raise SchemaRefused(f"{place}: type {full!r} is defined twice")
        return full, _aliases(schema)

    def _keep(self, node: Node) -> Node:
        self.named[node.name] = node
        return node


def _with_logical(node: Node, schema: Mapping[str, Any]) -> Node:
    """The node with its logical type; as Avro asks, one that is unknown or does not fit its carrier is ignored."""
    logical = schema.get("logicalType")
    if not isinstance(logical, str) or node.kind not in _CARRIER.get(logical, ()):
        return node
    precision, scale = schema.get("precision", 0), schema.get("scale", 0)
    if logical == "decimal":
        if not isinstance(precision, int) or not isinstance(scale, int) or not 0 <= scale <= precision <= 1000:
            return node
        if precision < 1:
            return node
    else:
        precision = scale = 0
    if node.kind == "fixed" and logical == "uuid" and node.size != 16:
        return node
    return Node(
        node.kind,
        node.name,
        node.aliases,
        logical=logical,
        size=node.size,
        precision=precision,
        scale=scale,
        least=node.least,
    )


def _list(schema: Mapping[str, Any], key: str, place: str) -> list[Any]:
    found = schema.get(key)
    if not isinstance(found, list):
        raise SchemaRefused(f"{place}: {schema['type']} needs a list of {key}")
    return found


def _aliases(schema: Mapping[str, Any]) -> tuple[str, ...]:
    found = schema.get("aliases", [])
    return tuple(alias for alias in found if isinstance(alias, str)) if isinstance(found, list) else ()


def _limited(nodes: int, place: str) -> int:
    if nodes > MAX_NODES:
        raise SchemaRefused(f"{place}: more than {MAX_NODES} types once names are expanded; split the schema")
    return nodes


def _short(value: object) -> str:
    text = repr(value) if not isinstance(value, dict | list) else type(value).__name__
    return text if len(text) <= 60 else text[:57] + "..."
