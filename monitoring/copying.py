"""The fold of a partition of labels: it copies them beside the samples of the same keys, in order and without a gap.

Nobody knows who wrote the labels, and Java's and librdkafka's partitioners differ: so they are placed anew by the hash
that places samples (models.sampling). Each copy tells the position of the one before it in its partition, so that a
reader can tell a lost copy from one that never was. What cannot be read becomes a dead letter.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from models import sampling
from models.samples import LabelCopies
from monitoring.errors import SnapshotInvalid
from monitoring.folds import Out, Record, check_format
from schemas.decode import Decoded

FORMAT = 1
BATCH = 1000  # labels that are decoded together
TELL_MS = 5000  # of record time, after which a partition of samples is told how far labels are though it got none
Decode = Callable[[Sequence[bytes | None]], Decoded]  # may raise where a schema cannot be fetched: the process ends


@dataclass(frozen=True, slots=True)
class Copying:
    """What is copied. letters: topic of dead letters. partitions: of the topic of samples. share: of keys."""

    deployment: str
    labels: str
    samples: str
    letters: str
    value: str
    numbers: tuple[str, ...]
    share: float
    partitions: int


@dataclass(slots=True)
class State:
    """The state of one partition of labels. sent, told: by partition of samples, position and watermark of copies."""

    partition: int
    sent: list[int]
    told: list[int]
    position: int = 0
    watermark: int = 0
    waiting: list[Record] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)

    def count(self, what: str, by: int = 1) -> None:
        if by:
            self.counts[what] = self.counts.get(what, 0) + by


class CopyFold:
    """Folds the topic of labels. decode: of whole batches."""

    def __init__(self, copying: Copying, decode: Decode) -> None:
        self._copying, self._decode = copying, decode

    def new(self, partition: int) -> State:
        """Return the state before the first record."""
        count = self._copying.partitions
        return State(partition, [-1] * count, [0] * count)

    def apply(self, state: State, record: Record) -> list[Out]:
        """Take a label; return copies when enough are together."""
        state.waiting.append(record)
        state.count("records")
        return self.flush(state) if len(state.waiting) >= BATCH else []

    def flush(self, state: State) -> list[Out]:
        """Return copies of the labels that wait, and progress."""
        return list(self._flush(state)) if state.waiting else []

    def idle(self, state: State, position: int, watermark: int) -> list[Out]:
        """Return progress records of a partition that was read to its end.

        position: its end. watermark: ms; labels that come are later than it.
        """
        outs = self.flush(state)
        state.position, state.watermark = max(state.position, position), max(state.watermark, watermark)
        return [*outs, *self._copies(state, None, np.zeros(0, np.int64), [])]

    def _flush(self, state: State) -> Iterator[Out]:
        waiting, state.waiting = state.waiting, []
        decoded = self._decode([record.value for record in waiting])
        rows = np.arange(len(waiting)) if decoded.rows is None else decoded.rows
        for rejection in decoded.rejected:
            yield self._letter(state, waiting[rejection.row], rejection.reason, rejection.detail)
        keyed = np.array([waiting[row].key is not None for row in rows.tolist()], bool)
        for row in rows[~keyed].tolist():
            yield self._letter(state, waiting[row], "missing_key", "a label without a key belongs to no event")
        labels = [waiting[row] for row in rows[keyed].tolist()]
        frame = decoded.frame.filter(pl.Series(keyed)) if not keyed.all() else decoded.frame
        hashes = sampling.hashes([record.key or b"" for record in labels])
        chosen = sampling.sampled(hashes, self._copying.share)
        state.count("outside_share", int((~chosen).sum()))
        state.position = waiting[-1].offset + 1
        state.watermark = max(state.watermark, *(record.time for record in waiting))
        places = np.where(chosen, sampling.places(hashes, self._copying.partitions), -1)
        yield from self._copies(state, frame, places, labels)

    def _copies(
        self, state: State, frame: pl.DataFrame | None, places: npt.NDArray[np.int64], labels: Sequence[Record]
    ) -> Iterator[Out]:
        for place in range(self._copying.partitions):
            rows = np.flatnonzero(places == place)
            if len(rows) or state.watermark >= state.told[place] + TELL_MS:
                yield Out(self._copying.samples, None, self._copy(state, place, frame, rows, labels), place)
                state.sent[place], state.told[place] = state.position, state.watermark
                state.count("labels", len(rows))

    def _copy(
        self,
        state: State,
        place: int,
        frame: pl.DataFrame | None,
        rows: npt.NDArray[np.int64],
        labels: Sequence[Record],
    ) -> bytes:
        copying, mine = self._copying, [labels[row] for row in rows.tolist()]
        found = pl.DataFrame() if frame is None else frame[rows]
        return LabelCopies(
            copying.deployment,
            copying.labels,
            state.partition,
            state.sent[place],
            state.position,
            state.watermark,
            np.array([record.offset for record in mine], np.int64),
            np.array([record.time for record in mine], np.int64),
            [record.key or b"" for record in mine],
            found[copying.value] if frame is not None else pl.Series(copying.value, [], pl.Float64),
            {name: found[name] for name in copying.numbers} if frame is not None else {},
        ).encode()

    def _letter(self, state: State, record: Record, reason: str, detail: str) -> Out:
        state.count("dead_letters")
        headers = {
            "reason": reason,
            "detail": detail[:2000],
            "deployment": self._copying.deployment,
            "source.topic": self._copying.labels,
            "source.partition": str(record.partition),
            "source.offset": str(record.offset),
            "source.timestamp": str(record.time),
        }
        told = tuple((f"penstock.{name}", text.encode(errors="replace")) for name, text in headers.items())
        return Out(self._copying.letters, record.key, record.value, None, told)

    def facts(self, state: State) -> dict[str, int]:
        """Return counters: records, labels, outside_share, dead_letters; and the watermark in ms."""
        return {**state.counts, "watermark": state.watermark}

    def dump(self, state: State) -> bytes:
        """Return JSON. What waits is flushed before, see `folds.Buffered`."""
        document = {
            "format": FORMAT,
            "topic": self._copying.labels,
            "partition": state.partition,
            "sent": state.sent,
            "told": state.told,
            "position": state.position,
            "watermark": state.watermark,
            "counts": state.counts,
        }
        return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()

    def load(self, data: bytes) -> State:
        """Return the dumped state. Raises SnapshotInvalid."""
        try:
            document: dict[str, Any] = json.loads(data)
            check_format(document, FORMAT)
            if len(document["sent"]) != self._copying.partitions:
                raise SnapshotInvalid(
                    f"labels were copied to {len(document['sent'])} partitions of {self._copying.samples} so far and "
                    f"would be to {self._copying.partitions} now: a topic of samples keeps its partitions; give the "
                    "deployment another name"
                )
            if document["topic"] != self._copying.labels:
                raise SnapshotInvalid(
                    f"labels were copied from {document['topic']} so far and would be from {self._copying.labels} now: "
                    "a deployment keeps its topic of labels; give the deployment another name"
                )
            names = ("partition", "sent", "told", "position", "watermark", "counts")
            return State(**{name: document[name] for name in names})
        except (ValueError, KeyError, TypeError) as error:
            raise SnapshotInvalid(f"a damaged snapshot: {type(error).__name__}: {error}") from error
