"""What workers tell of sampled events, and the labels that the monitor copies beside it: columns <-> records.

Both kinds stand in the topic of samples, each key's in one partition (models.sampling), so that a pure fold of a
partition can join them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import polars as pl

from models import packed, varint
from schemas import records
from schemas.errors import RecordInvalid

Longs = npt.NDArray[np.int64]
LATEST = 253_402_300_799_999  # ms: the end of the year 9999; some clocks say anything
ASSIGNED, BESIDE, SHADOW = "assigned", "beside", "shadow"  # roles of who made samples


@dataclass(frozen=True, slots=True)
class Maker:
    """Who made samples: what is the same for all rows of a record.

    topic: the source topic. arm: who scored; assigned: the arm that the events are assigned to, which is another where
    arm stepped in. propensity: the share of events that is assigned to it. role: ASSIGNED, BESIDE or SHADOW.
    """

    deployment: str
    revision: int
    topic: str
    arm: str
    assigned: str
    propensity: float
    role: str
    model: str
    version: str


@dataclass(frozen=True, slots=True, eq=False)
class Samples:
    """Events that one arm and version scored in one batch; n >= 1 rows.

    partitions, offsets: where the events stand in the source topic, shape (n,), sorted. times: their record times in ms
    since 1970, -1 where absent, shape (n,). keys: n. outputs, segments: by name, n values each; segments are text.
    """

    maker: Maker
    partitions: Longs
    offsets: Longs
    times: Longs
    keys: Sequence[bytes]
    outputs: Mapping[str, pl.Series]
    segments: Mapping[str, pl.Series] = field(default_factory=dict)

    def encode(self) -> bytes:
        """Return the record. Raises ValueError for an output of a type that `models.packed.fits` does not have."""
        return Encoder(self).encode(self.maker, 0, len(self.keys))

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Return what a record holds. Raises RecordInvalid for other schemas and for bytes that do not add up."""
        record = records.decode("sample", data)
        try:
            if record["rows"] < 1:
                raise ValueError("rows: a sample has at least 1")
            return cls(
                Maker(**{name: record[name] for name in Maker.__slots__}),
                packed.unpack_longs(record, "partitions"),
                packed.unpack_longs(record, "offsets"),
                packed.unpack_longs(record, "times"),
                packed.unpack_keys(record),
                _unpacked(record["outputs"], record["rows"]),
                _unpacked(record["segments"], record["rows"]),
            )
        except ValueError as error:
            raise RecordInvalid(f"the record sample is damaged: {error}") from error


class Encoder:
    """Encodes parts of a batch's samples: what takes a look at all values of a column is done once.

    Raises ValueError for an output of a type that `models.packed.fits` does not have.
    """

    def __init__(self, samples: Samples) -> None:
        self._samples = samples
        self._outputs = [packed.packer(name, series) for name, series in samples.outputs.items()]
        self._segments = [packed.packer(name, series) for name, series in samples.segments.items()]

    def encode(self, maker: Maker, start: int, end: int) -> bytes:
        """Return the record of rows from `start` to before `end`, of this maker."""
        samples = self._samples
        record = {
            **{name: getattr(maker, name) for name in Maker.__slots__},
            "rows": end - start,
            "partitions": varint.pack_deltas(samples.partitions[start:end]),
            "offsets": varint.pack_deltas(samples.offsets[start:end]),
            "times": _packed_times(samples.times[start:end]),
            **packed.pack_keys(samples.keys[start:end]),
            "outputs": [pack(start, end) for pack in self._outputs],
            "segments": [pack(start, end) for pack in self._segments],
        }
        return records.encode("sample", record)


@dataclass(frozen=True, slots=True, eq=False)
class LabelCopies:
    """Labels of one source partition, n >= 0 rows; without rows it says how far that partition was copied.

    topic: of the labels. follows: the position of the copy before this one, -1 for the first: a reader that lacks that
    copy must leave this one, it comes again. position: the next offset that is not copied. watermark: the highest
    record time copied, ms since 1970. offsets, times: of each label, shape (n,). keys: n. value: the truth; numbers: by
    name; n values each.
    """

    deployment: str
    topic: str
    partition: int
    follows: int
    position: int
    watermark: int
    offsets: Longs
    times: Longs
    keys: Sequence[bytes]
    value: pl.Series
    numbers: Mapping[str, pl.Series] = field(default_factory=dict)

    def encode(self) -> bytes:
        """Return the record. Raises ValueError for values of a type that `models.packed.fits` does not have."""
        record = {
            "deployment": self.deployment,
            "topic": self.topic,
            "partition": self.partition,
            "follows": self.follows,
            "position": self.position,
            "watermark": self.watermark,
            "rows": len(self.keys),
            "offsets": varint.pack_deltas(self.offsets),
            "times": _packed_times(self.times),
            **packed.pack_keys(self.keys),
            "value": packed.pack(self.value.name, self.value),
            "numbers": [packed.pack(name, series) for name, series in self.numbers.items()],
        }
        return records.encode("labels", record)

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Return what a record holds. Raises RecordInvalid for other schemas and for bytes that do not add up."""
        record = records.decode("labels", data)
        try:
            return cls(
                record["deployment"],
                record["topic"],
                record["partition"],
                record["follows"],
                record["position"],
                record["watermark"],
                packed.unpack_longs(record, "offsets"),
                packed.unpack_longs(record, "times"),
                packed.unpack_keys(record),
                packed.unpack(record["value"], record["rows"]),
                _unpacked(record["numbers"], record["rows"]),
            )
        except ValueError as error:
            raise RecordInvalid(f"the record labels is damaged: {error}") from error


def _unpacked(columns: Sequence[Mapping[str, Any]], rows: int) -> dict[str, pl.Series]:
    return {column["name"]: packed.unpack(column, rows) for column in columns}


def _packed_times(times: Longs) -> bytes:
    return varint.pack_deltas(np.clip(times, -1, LATEST))
