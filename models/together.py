"""Many records of samples and labels read at once: those with the same columns become one, rows end to end.

So a record of few rows costs little more than its bytes. What does not fit together is read record by record, so that
one that is damaged harms no other; what is refused is what `Samples.decode` and `LabelCopies.decode` refuse.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from models import packed, varint
from models.samples import Longs, Maker, Samples
from schemas import records
from schemas.errors import RecordInvalid

Member = tuple[int, dict[str, Any]]  # place among the records that are read, record


@dataclass(frozen=True, slots=True, eq=False)
class ManySamples:
    """Records of one maker. places: among those that were read; sizes: rows of each, shape (records,).

    rows: of all, end to end; sorted within a record only.
    """

    places: Longs
    sizes: Longs
    rows: Samples


class Head(NamedTuple):
    """What a record of copied labels says of its partition, see `LabelCopies`."""

    partition: int
    follows: int
    position: int
    watermark: int


@dataclass(frozen=True, slots=True, eq=False)
class ManyCopies:
    """Records of labels of one topic. places, sizes: as of `ManySamples`. heads: of each record.

    partitions, offsets, times, keys, value, numbers: of all rows, end to end.
    """

    deployment: str
    places: Longs
    sizes: Longs
    heads: Sequence[Head]
    partitions: Longs
    offsets: Longs
    times: Longs
    keys: Sequence[bytes]
    value: pl.Series
    numbers: Mapping[str, pl.Series]


@dataclass(frozen=True, slots=True)
class Together:
    """What many records hold. poison: places of what is neither samples nor labels, in order."""

    samples: list[ManySamples] = field(default_factory=list)
    copies: list[ManyCopies] = field(default_factory=list)
    poison: list[int] = field(default_factory=list)


def read(values: Sequence[bytes]) -> Together:
    """Return what records hold; those with the same columns are one, in the order of the first of them."""
    found, alike = Together(), dict[tuple[Any, ...], list[Member]]()
    for at, value in enumerate(values):
        name, record = _parsed(value)
        if record is None:
            found.poison.append(at)
        else:
            alike.setdefault((name, *_shape(name, record)), []).append((at, record))
    for key, members in alike.items():
        _put(found, key[0], members)
    found.poison.sort()
    return found


def _parsed(value: bytes) -> tuple[str, dict[str, Any] | None]:
    for name in ("sample", "labels"):
        try:
            return name, records.decode(name, value)
        except RecordInvalid:
            continue
    return "", None


def _shape(name: str, record: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return what is the same of records whose rows can be one after the other."""
    if name == "sample":
        whose = tuple(record[each] for each in Maker.__slots__)
        return whose, _kinds(record["outputs"]), _kinds(record["segments"])
    return record["deployment"], record["topic"], _kinds([record["value"]]), _kinds(record["numbers"])


def _kinds(columns: Sequence[Mapping[str, Any]]) -> tuple[tuple[str, str, int], ...]:
    return tuple((column["name"], column["kind"], column["width"]) for column in columns)


def _put(found: Together, name: str, members: Sequence[Member]) -> None:
    try:
        if name == "sample":
            found.samples.append(_samples(members))
        else:
            found.copies.append(_copies(members))
    except ValueError:
        if len(members) == 1:
            found.poison.append(members[0][0])
            return
        for member in members:
            _put(found, name, [member])


def _samples(members: Sequence[Member]) -> ManySamples:
    places, sizes, many = _split(members)
    if (sizes < 1).any():
        raise ValueError("rows: a sample has at least 1")
    first = many[0]
    rows = Samples(
        Maker(**{name: first[name] for name in Maker.__slots__}),
        _deltas(many, "partitions", sizes),
        _deltas(many, "offsets", sizes),
        _deltas(many, "times", sizes),
        packed.unpack_keys_parts(many, sizes),
        _columns([record["outputs"] for record in many], sizes),
        _columns([record["segments"] for record in many], sizes),
    )
    return ManySamples(places, sizes, rows)


def _copies(members: Sequence[Member]) -> ManyCopies:
    places, sizes, many = _split(members)
    if (sizes < 0).any():
        raise ValueError("rows: there are none below 0")
    heads = [Head(*(record[name] for name in Head._fields)) for record in many]
    offsets = _deltas(many, "offsets", sizes)  # refuses rows that are not there
    return ManyCopies(
        many[0]["deployment"],
        places,
        sizes,
        heads,
        np.repeat(np.array([head.partition for head in heads], np.int64), sizes),
        offsets,
        _deltas(many, "times", sizes),
        packed.unpack_keys_parts(many, sizes),
        packed.unpack_parts([record["value"] for record in many], sizes),
        _columns([record["numbers"] for record in many], sizes),
    )


def _split(members: Sequence[Member]) -> tuple[Longs, Longs, list[dict[str, Any]]]:
    many = [record for _, record in members]
    places = np.array([at for at, _ in members], np.int64)
    return places, np.array([record["rows"] for record in many], np.int64), many


def _deltas(many: Sequence[Mapping[str, Any]], name: str, sizes: Longs) -> Longs:
    return varint.unpack_deltas_parts([record[name] for record in many], sizes)


def _columns(many: Sequence[Sequence[Mapping[str, Any]]], sizes: Longs) -> dict[str, pl.Series]:
    alike = zip(*many, strict=True)
    return {columns[0]["name"]: packed.unpack_parts(columns, sizes) for columns in alike}
