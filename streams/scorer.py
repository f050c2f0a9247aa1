"""Pure: a batch of messages in, inferences and rejections out. It knows no Kafka and commits nothing."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
import polars as pl

from models.runtimes.base import Model
from schemas.decode import Decoded, EventDecoder
from schemas.inference import InferenceCodec, Lineage
from schemas.values import Rejection
from streams.batch import Batch
from streams.search import Search

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Scored:
    """What a batch became. rows: the message index of each inference, None when every message became one.

    frame, outputs: the decoded columns and the model's outputs of the scored rows, for profiles.
    seconds: what each stage took.
    """

    inferences: list[bytes]
    rows: Rows | None
    rejected: list[Rejection]
    frame: pl.DataFrame
    outputs: pl.DataFrame
    seconds: dict[str, float] = field(default_factory=dict)


class Scorer:
    """Decode, score and encode with one model version under one revision of a deployment.

    inference_bytes: the largest record that the output topic takes; an event whose inference is larger is rejected.
    """

    def __init__(
        self,
        decoder: EventDecoder,
        model: Model,
        codec: InferenceCodec,
        lineage: Lineage,
        *,
        event_time: str | None = None,
        echo: Sequence[str] = (),
        model_seconds: float = 10.0,
        inference_bytes: int = 1_000_000,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._decoder, self._model, self._codec, self._lineage = decoder, model, codec, lineage
        self._event_time, self._echo = event_time, list(echo)
        self._inference_bytes, self._clock = inference_bytes, clock
        self._search = Search(model, model_seconds, clock)
        self._prefixes: dict[str, bytes] = {}

    def score(self, batch: Batch) -> Scored:
        """Return an inference or a rejection for every message; raises SourceUnavailable only."""
        began = self._clock()
        decoded = self._decoder.decode(batch.values)
        done_decoding = self._clock()
        frame, rows, outputs, refused = self._run(decoded.frame)
        done_scoring = self._clock()
        messages = _through(decoded.rows, rows)
        inferences = self._encode(batch, decoded, frame, rows, messages, outputs)
        rejected = decoded.rejected + [replace(r, row=_at(decoded.rows, r.row)) for r in refused]
        if inferences and max(map(len, inferences)) + _together(batch.keys) > self._inference_bytes:
            sizes = _sizes(batch, inferences, messages)
            if max(sizes) > self._inference_bytes:
                inferences, frame, outputs, messages, oversize = self._drop_oversize(
                    inferences, frame, outputs, messages, sizes
                )
                rejected = rejected + oversize
        done = self._clock()
        seconds = {
            "decode": done_decoding - began,
            "score": done_scoring - done_decoding,
            "encode": done - done_scoring,
        }
        return Scored(inferences, messages, rejected, frame, outputs, seconds)

    @property
    def broken_checks(self) -> Mapping[str, int]:
        """How many events broke a declared check so far, by field, whatever the check does with them."""
        return self._decoder.broken_checks

    # ---- the model

    def _run(self, frame: pl.DataFrame) -> tuple[pl.DataFrame, Rows | None, pl.DataFrame, list[Rejection]]:
        """Return the scored rows of the frame, which they are, their outputs, and the rows that were not scored."""
        prepared = self._model.prepare(frame)
        height = _height(prepared.inputs, prepared.rows, frame)
        outputs, scored, failed = self._search.score(prepared.inputs, height)
        rows = _through(prepared.rows, scored)
        refused = prepared.refused + [replace(r, row=_at(prepared.rows, r.row)) for r in failed]
        return (frame if rows is None else frame[rows], rows, outputs, refused)

    # ---- the record

    def _encode(
        self,
        batch: Batch,
        decoded: Decoded,
        frame: pl.DataFrame,
        rows: Rows | None,
        messages: Rows | None,
        outputs: pl.DataFrame,
    ) -> list[bytes]:
        if not len(outputs):
            return []
        partitions = batch.partitions if messages is None else batch.partitions[messages]
        offsets = batch.offsets if messages is None else batch.offsets[messages]
        columns = {
            "source_partition": pl.Series(partitions),
            "source_offset": pl.Series(offsets),
            "event_time": self._event_times(frame, len(outputs)),
            **{name: outputs[name] for name in outputs.columns},
            **{name: frame[name] for name in self._echo},
        }
        values: list[bytes] = self._codec.encode(pl.DataFrame(columns), self._prefix_of(decoded, rows))
        return values

    def _event_times(self, frame: pl.DataFrame, height: int) -> pl.Series:
        if self._event_time is None:
            return pl.Series([None], dtype=pl.Int64).new_from_index(0, height)
        column = frame[self._event_time]
        return column.dt.epoch("ms") if column.dtype.is_temporal() else column.cast(pl.Int64)

    def _prefix_of(self, decoded: Decoded, rows: Rows | None) -> bytes | list[bytes]:
        """Return the constant head of the records: one for the batch, or one a row where writers' schemas differ."""
        if decoded.schema_of is None:
            return self._prefix(decoded.schemas[0] if decoded.schemas else "")
        prefixes = [self._prefix(schema) for schema in decoded.schemas]
        return [prefixes[i] for i in (decoded.schema_of if rows is None else decoded.schema_of[rows])]

    def _prefix(self, schema: str) -> bytes:
        prefix = self._prefixes.get(schema)
        if prefix is None:
            if len(self._prefixes) >= 1000:  # writers' schemas are few; a flood of them must not grow memory
                self._prefixes.clear()
            prefix = self._prefixes[schema] = self._codec.prefix(replace(self._lineage, event_schema=schema))
        return prefix

    def _drop_oversize(
        self,
        inferences: list[bytes],
        frame: pl.DataFrame,
        outputs: pl.DataFrame,
        messages: Rows | None,
        sizes: list[int],
    ) -> tuple[list[bytes], pl.DataFrame, pl.DataFrame, Rows, list[Rejection]]:
        fits = np.array(sizes) <= self._inference_bytes
        indexes = np.arange(len(inferences)) if messages is None else messages
        oversize = [
            Rejection(
                int(indexes[i]),
                "oversize_inference",
                f"its inference and key have {sizes[i]} bytes, the output topic takes {self._inference_bytes}: "
                "echo fewer fields or raise the topic's max.message.bytes",
            )
            for i in np.flatnonzero(~fits)
        ]
        kept = [value for value, ok in zip(inferences, fits, strict=True) if ok]
        return kept, frame.filter(fits), outputs.filter(fits), indexes[fits], oversize


def _height(inputs: Mapping[str, npt.NDArray[np.generic]], rows: Rows | None, frame: pl.DataFrame) -> int:
    return len(frame) if rows is None else len(next(iter(inputs.values())))


def _together(keys: Sequence[bytes | None]) -> int:
    """Return the bytes of all keys; joining takes a quarter of the time that the longest one takes to find."""
    try:
        return len(b"".join(keys))  # type: ignore[arg-type]
    except TypeError:  # some have none
        return len(b"".join(filter(None, keys)))


def _sizes(batch: Batch, inferences: Sequence[bytes], messages: Rows | None) -> list[int]:
    """Return the bytes of each inference with its key."""
    keys = batch.keys if messages is None else [batch.keys[row] for row in messages]
    return [len(value) + len(key or b"") for value, key in zip(inferences, keys, strict=True)]


def _through(outer: Rows | None, inner: Rows | None) -> Rows | None:
    """Compose two selections, None being everything."""
    if inner is None:
        return outer
    return inner if outer is None else outer[inner]


def _at(rows: Rows | None, row: int) -> int:
    return row if rows is None else int(rows[row])
