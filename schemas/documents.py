"""A schema as a document from outside: its text, its fingerprint, and how long it is remembered."""

from __future__ import annotations

import json
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar

from schemas.errors import SchemaRefused
from schemas.nodes import parse
from schemas.wire import fingerprint as fingerprint_of

SCHEMA_BYTES = 1 << 20  # the longest text of a schema that is read
V = TypeVar("V")


def parse_text(text: str | bytes, where: str) -> dict[str, Any]:
    """Return the schema that stands in the text. Raises SchemaRefused for what is too long, no JSON or no object."""
    if len(text) > SCHEMA_BYTES:
        raise SchemaRefused(f"{where}: {len(text)} bytes of schema; the limit is {SCHEMA_BYTES}")
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise SchemaRefused(f"{where}: not a schema in JSON: {error}") from error
    if not isinstance(document, dict):
        raise SchemaRefused(f"{where}: an event's schema is a record, this is a JSON {type(document).__name__}")
    return document


def safe_fingerprint(schema: Mapping[str, Any], where: str) -> str:
    """Return the fingerprint of a stranger's schema. Raises SchemaRefused for what cannot be read safely."""
    try:
        parse(schema)
        return fingerprint_of(schema)
    except SchemaRefused as error:
        raise SchemaRefused(f"{where}: {error}") from error
    except Exception as error:
        raise SchemaRefused(f"{where}: not an Avro schema: {type(error).__name__}: {error}") from error


class Cache(Generic[V]):
    """The latest values by key: at most `size` of them, each for at most `seconds`."""

    def __init__(self, size: int, seconds: float = float("inf"), clock: Callable[[], float] = time.monotonic) -> None:
        self._size, self._seconds, self._clock = size, seconds, clock
        self._values: OrderedDict[Any, tuple[float, V]] = OrderedDict()

    def get(self, key: Any) -> V | None:
        found = self._values.get(key)
        if found is None or self._clock() - found[0] > self._seconds:
            return None
        return found[1]

    def put(self, key: Any, value: V) -> None:
        self._values[key] = (self._clock(), value)
        self._values.move_to_end(key)
        if len(self._values) > self._size:
            self._values.popitem(last=False)

    def __len__(self) -> int:
        return len(self._values)
