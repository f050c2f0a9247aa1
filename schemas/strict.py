"""One message at a time through fastavro, the whole message consumed: the judge of what the block path would not take.

It serves the messages that are not plainly good, the batches that the block reader fails on, and the writers whose
schemas resolve only value by value (maps, unions of several types, arrays of records). Schemas were checked before: a
message cannot claim more values than it has bytes, so a refusal takes no longer than reading the message.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import fastavro
import fastavro.read

from schemas.errors import SchemaError, SchemaRefused
from schemas.nodes import NO_DEFAULT, Node
from schemas.values import Reason


class Undecodable(SchemaError):
    """One message is not a datum of its writer's schema."""

    def __init__(self, reason: Reason, detail: str, exception: str = "") -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail
        self.exception = exception


class StrictReader:
    """Reads single datums; with a reader's schema fastavro resolves the writer's to it."""

    def __init__(self, writer: Any, reader: Any = None, *, skips: bool = True) -> None:
        """`skips`: the reader leaves out fields of the writer, so that messages have to be read whole first."""
        self._skips = skips
        try:
            self._writer = fastavro.parse_schema(writer, _write_hint=False)
            self._reader = None if reader is None else fastavro.parse_schema(reader, _write_hint=False)
        except Exception as error:  # fastavro raises many kinds for a schema it dislikes
            raise SchemaRefused(f"{type(error).__name__}: {error}") from error

    def read(self, datum: bytes) -> Any:
        """The value of a datum. Raises Undecodable."""
        if self._reader is not None and self._skips:
            # fastavro does not look into fields that it skips, not even whether they are there
            self._read(datum, None)
        return self._read(datum, self._reader)

    def _read(self, datum: bytes, reader: Any) -> Any:
        stream = io.BytesIO(datum)
        try:
            value = fastavro.schemaless_reader(stream, self._writer, reader)
        except EOFError:
            raise Undecodable("truncated", "the message ends before its last field", "EOFError") from None
        except fastavro.read.SchemaResolutionError as error:
            raise Undecodable("unresolvable", _line(error), "SchemaResolutionError") from None
        except Exception as error:  # IndexError, UnicodeDecodeError, OverflowError, MemoryError, struct.error, ...
            raise Undecodable("malformed", _line(error), type(error).__name__) from None
        if stream.tell() != len(datum):
            left = len(datum) - stream.tell()
            raise Undecodable("trailing_bytes", f"{left} bytes follow the last field")
        return value


def _line(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if len(text) <= 200 else text[:197] + "..."


def plain_schema(node: Node, seen: set[str] | None = None) -> Any:
    """The schema of a tree as JSON without logical types, so that values stay raw."""
    seen = set() if seen is None else seen
    if node.kind == "union":
        return [plain_schema(branch, seen) for branch in node.branches]
    if node.kind in ("array", "map"):
        assert node.items is not None
        return {"type": node.kind, "items" if node.kind == "array" else "values": plain_schema(node.items, seen)}
    if not node.name:
        return node.kind
    if node.name in seen:
        return node.name
    seen.add(node.name)
    made: dict[str, Any] = {"type": node.kind, "name": node.name, "aliases": list(node.aliases)}
    if "." not in node.name:
        made["namespace"] = ""
    if node.kind == "fixed":
        return {**made, "size": node.size}
    if node.kind == "enum":
        return {**made, "symbols": list(node.symbols), **({"default": node.default} if node.default else {})}
    fields = []
    for part in node.fields:
        field = {"name": part.name, "type": plain_schema(part.type, seen), "aliases": list(part.aliases)}
        fields.append(field if part.default is NO_DEFAULT else {**field, "default": part.default})
    return {**made, "fields": fields}


def whole(reader: Node, writer: Node) -> Node | None:
    """The reader with the writer's other fields too, so that nothing is skipped; None where names of types clash."""
    full = _whole(reader, writer)
    before, after = list(_names(reader)), list(_names(full))
    added = after[:]
    for name in before:
        added.remove(name)
    return None if set(added) & set(before) else full


def _whole(reader: Node, writer: Node) -> Node:
    ours, theirs = _record(reader), _record(writer)
    if ours is None or theirs is None:
        return reader
    written = {part.name: part for part in theirs.fields}
    fields = []
    for part in ours.fields:
        match = next((written.pop(name) for name in (part.name, *part.aliases) if name in written), None)
        fields.append(part if match is None else replace(part, type=_whole(part.type, match.type)))
    full = replace(ours, fields=(*fields, *written.values()))
    if reader.kind != "union":
        return full
    return replace(reader, branches=tuple(full if branch is ours else branch for branch in reader.branches))


def _record(node: Node) -> Node | None:
    return next((part for part in (node.branches or (node,)) if part.kind == "record"), None)


def _names(node: Node) -> Iterator[str]:
    if node.name:
        yield node.name
    for inner in (*node.branches, *(part.type for part in node.fields), *([node.items] if node.items else [])):
        yield from _names(inner)
