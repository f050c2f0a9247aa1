"""Whether events carry what a model needs: checked before anything runs, every mismatch at once."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import polars as pl

from models.manifest import Input, Manifest, Value

_NUMBERS = (pl.Float64, pl.Float32, pl.Int32, pl.Int64, pl.Boolean)
# tensor type -> the column types that become it without loss of meaning
ACCEPTED: dict[str, tuple[Any, ...]] = {
    "float": _NUMBERS,
    "double": _NUMBERS,
    "int64": (pl.Int32, pl.Int64, pl.Boolean),
    "bool": (pl.Boolean,),
    "string": (pl.String, pl.Enum),
}
LEVELS: dict[str, tuple[Any, ...]] = {
    "string": (pl.String, pl.Enum),
    "int64": (pl.Int32, pl.Int64),
    "bool": (pl.Boolean,),
}
BEYOND = {"double": 2**1024 - 2**970, "float": 2**128 - 2**103, "int64": 2**63}  # too large, from here on
EVENT_TYPES = {
    "float": "double, float, int, long or boolean",
    "double": "double, float, int, long or boolean",
    "int64": "int, long or boolean",
    "bool": "boolean",
    "string": "string or enum",
}


def mismatches(reader: Mapping[str, Any], manifest: Manifest, missing: Mapping[str, Value]) -> list[str]:
    """Every mismatch between an event schema and a model, each saying what, where and what to do.

    reader: the deployment's event schema (an Avro record), or its columns (name -> polars type).
    missing: the deployment's values that stand in for null.
    """
    if reader.get("type") == "record":
        from schemas.resolve import columns_of

        reader = columns_of(reader)
    return column_mismatches(reader, manifest, {**manifest.missing, **missing})


def column_mismatches(columns: Mapping[str, Any], manifest: Manifest, missing: Mapping[str, Value]) -> list[str]:
    """The same for columns (name -> polars type) and all values that stand in for null, the manifest's included."""
    found: list[str] = []
    for part in manifest.inputs:
        for feature in part.features:
            if feature not in columns:
                found.append(_absent(part, feature, columns, manifest))
                continue
            if part.shape:
                found += _array_mismatches(part, feature, columns[feature], manifest, missing)
                continue
            if columns[feature] not in ACCEPTED[part.type]:
                found.append(_other_type(part, feature, columns[feature], manifest))
            if feature in missing and (problem := _stand_in_problem(part, columns[feature], missing[feature])):
                found.append(f"missing.{feature}: {problem}")
    return [
        *found,
        *_level_mismatches(columns, manifest),
        *_unknown_stand_ins(columns, set(missing) - set(manifest.features)),
    ]


def _level_mismatches(columns: Mapping[str, Any], manifest: Manifest) -> Iterator[str]:
    """What keeps the events from telling the leaves of a hierarchy of models apart."""
    for level in manifest.partitions.fields if manifest.partitions else ():
        where = f"field {level.name!r}, by which model {manifest.name} is partitioned,"
        if level.name not in columns:
            hint = suggestion(level.name, columns) or "; add the field"
            yield f"{where} is not a field of the event schema{hint}"
        elif columns[level.name] not in LEVELS[level.type]:
            yield f"{where} has values of {level.type}, but the event field is {columns[level.name]}"


def suggestion(name: str, known: Iterable[str]) -> str:
    """`; did you mean X?` when a known name is close, else nothing."""
    close = difflib.get_close_matches(name, list(known), 1)
    return f"; did you mean {close[0]!r}?" if close else ""


def _where(part: Input, feature: str, manifest: Manifest) -> str:
    return f"feature {feature!r} of input {part.name!r} of model {manifest.name}"


def _absent(part: Input, feature: str, columns: Iterable[str], manifest: Manifest) -> str:
    hint = suggestion(feature, columns) or "; add the field, or use a version of the model that does without it"
    return f"{_where(part, feature, manifest)} is not a field of the event schema{hint}"


def _other_type(part: Input, feature: str, dtype: Any, manifest: Manifest) -> str:
    return (
        f"{_where(part, feature, manifest)} is a {part.type} tensor, but the event field is {dtype}; "
        f"declare the field as {EVENT_TYPES[part.type]}"
    )


def _array_mismatches(
    part: Input, feature: str, dtype: Any, manifest: Manifest, missing: Mapping[str, Value]
) -> Iterator[str]:
    """What keeps an event field from filling a tensor whose rows have a shape."""
    depth, item = nesting(dtype)
    sizes = extents(part.shape)
    if item not in ACCEPTED[part.type] or depth not in (1, len(sizes)):
        text = "array of " * len(sizes)
        either = f" or {text}numbers" if len(sizes) > 1 else ""
        yield (
            f"{_where(part, feature, manifest)} has rows of the shape {part.shape}, but the event field is {dtype}; "
            f"declare it as array of {EVENT_TYPES[part.type]}{either}"
        )
    if feature in missing:
        yield f"missing.{feature}: nothing stands in for an array; send one, or leave the event out"


def nesting(dtype: Any) -> tuple[int, Any]:
    """Return how many lists are around the items of a column, and the items' type."""
    depth = 0
    while isinstance(dtype, pl.List):
        depth, dtype = depth + 1, dtype.inner
    return depth, dtype


def extents(shape: Sequence[int]) -> list[int]:
    """Return the extents of a row that nested arrays have to show: those beyond 1, or a single 1."""
    return [size for size in shape if size > 1] or [1]


def _stand_in_problem(part: Input, dtype: Any, value: Value) -> str:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    fits = {
        "float": number or isinstance(value, bool),
        "double": number or isinstance(value, bool),
        "int64": isinstance(value, int) or (isinstance(value, float) and value.is_integer()),
        "bool": isinstance(value, bool),
        "string": isinstance(value, str),
    }[part.type]
    if not fits:
        return f"{value!r} cannot stand in for a {part.type} of input {part.name!r}; give a value of that type"
    if not _fits(value, part.type):
        return f"{value!r:.40} is beyond what a {part.type} can hold; give a value in its range"
    if isinstance(dtype, pl.Enum) and value not in dtype.categories.to_list():
        return f"{value!r} is not a symbol of the enum {dtype.categories.to_list()}"
    return ""


def _fits(value: Value, kind: str) -> bool:
    """Say whether a tensor of this type can hold a stand-in; what is not finite is one of its values."""
    beyond = BEYOND.get(kind)
    if beyond is None or isinstance(value, (str, bool)) or (isinstance(value, float) and not math.isfinite(value)):
        return True
    return -beyond <= value < beyond


def _unknown_stand_ins(columns: Mapping[str, Any], missing: Iterable[str]) -> list[str]:
    return [
        f"missing.{name}: the event schema has no such field{suggestion(name, columns)}"
        for name in sorted(missing)
        if name not in columns
    ]
