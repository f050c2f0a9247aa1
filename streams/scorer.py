"""Pure: a batch of messages in, inferences and rejections out. It knows no Kafka and commits nothing."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import polars as pl

from models.frames import taken
from schemas.decode import Decoded, EventDecoder
from schemas.inference import InferenceCodec, Lineage
from schemas.values import Rejection
from streams.arms import Arms, Made, Outcome, Places, Share
from streams.batch import Batch
from streams.runner import Ran, Runner, at, through
from streams.search import Rows


@dataclass(frozen=True, slots=True)
class Scored:
    """What a batch became. rows: the message index of each inference, None when every message became one.

    frame, outputs: the decoded columns and the models' outputs of the scored rows, for profiles.
    made: who made them; made_of: the index into it for each inference, None where one made all.
    beside: by name, what arms rejected that score every event beside the others: a message may have an inference, too.
    seconds: what each stage took.
    """

    inferences: list[bytes]
    rows: Rows | None
    rejected: list[Rejection]
    frame: pl.DataFrame
    outputs: pl.DataFrame
    made: tuple[Made, ...] = ()
    made_of: Rows | None = None
    beside: Mapping[str, list[Rejection]] = field(default_factory=dict)
    shares: Mapping[str, Share] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)


class Alone:
    """One model that scores every event, in the place of arms. made: what its inferences say."""

    def __init__(self, runner: Runner, made: Made) -> None:
        self._runner, self._made = runner, made

    @property
    def circuits(self) -> Mapping[str, bool]:
        """There is nobody else to turn to."""
        return {}

    def run(self, frame: pl.DataFrame, places: Callable[[], Places]) -> Outcome:
        """Score every row of the frame."""
        ran: Ran = self._runner.run(frame, ends=math.inf)  # nobody waits for it to read on
        return Outcome(ran.outputs, ran.rows, ran.refused, (self._made,))


class Scorer:
    """Decode, score and encode under one revision of a deployment.

    lineage: of what is the same for all of its inferences. inference_bytes: the largest record that the output topic
    takes; an event whose inference is larger is rejected.
    """

    def __init__(
        self,
        decoder: EventDecoder,
        arms: Arms | Alone,
        codec: InferenceCodec,
        lineage: Lineage,
        *,
        event_time: str | None = None,
        echo: Sequence[str] = (),
        inference_bytes: int = 1_000_000,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._decoder, self._arms, self._codec, self._lineage = decoder, arms, codec, lineage
        self._event_time, self._echo = event_time, list(echo)
        self._inference_bytes, self._clock = inference_bytes, clock
        self._prefixes: dict[tuple[str, Made], bytes] = {}

    def score(self, batch: Batch) -> Scored:
        """Return an inference or a rejection for every message; raises SourceUnavailable only."""
        began = self._clock()
        decoded = self._decoder.decode(batch.values)
        done_decoding = self._clock()
        ran = self._arms.run(decoded.frame, lambda: _places(batch, decoded.rows))
        done_scoring = self._clock()
        scored = self._scored(batch, decoded, ran)
        if scored.inferences and max(map(len, scored.inferences)) + _together(batch.keys) > self._inference_bytes:
            sizes = _sizes(batch, scored.inferences, scored.rows)
            if max(sizes) > self._inference_bytes:
                scored = self._without_oversize(scored, sizes)
        done = self._clock()
        scored.seconds.update(
            decode=done_decoding - began, score=done_scoring - done_decoding, encode=done - done_scoring
        )
        return scored

    @property
    def broken_checks(self) -> Mapping[str, int]:
        """How many events broke a declared check so far, by field, whatever the check does with them."""
        return self._decoder.broken_checks

    @property
    def circuits(self) -> Mapping[str, bool]:
        """Of each arm whose events another may score instead, whether its circuit is open."""
        return self._arms.circuits

    # ---- the record

    def _scored(self, batch: Batch, decoded: Decoded, ran: Outcome) -> Scored:
        frame = decoded.frame if ran.rows is None else taken(decoded.frame, ran.rows)
        rows = through(decoded.rows, ran.rows)
        rejected = decoded.rejected + [replace(each, row=at(decoded.rows, each.row)) for each in ran.refused]
        inferences: list[bytes] = []
        if len(ran.outputs):
            columns = {
                "source_partition": pl.Series(batch.partitions if rows is None else batch.partitions[rows]),
                "source_offset": pl.Series(batch.offsets if rows is None else batch.offsets[rows]),
                "event_time": self._event_times(frame, len(ran.outputs)),
                **{name: ran.outputs[name] for name in ran.outputs.columns},
                **{name: frame[name] for name in self._echo},
            }
            inferences = self._codec.encode(pl.DataFrame(columns), self._prefix_of(decoded, ran))
        beside = {
            name: [replace(each, row=at(decoded.rows, each.row)) for each in found]
            for name, found in ran.beside.items()
        }
        made, made_of, shares = ran.made, ran.made_of, ran.shares
        return Scored(inferences, rows, rejected, frame, ran.outputs, made, made_of, beside, shares)

    def _event_times(self, frame: pl.DataFrame, height: int) -> pl.Series:
        if self._event_time is None:
            return pl.Series([None], dtype=pl.Int64).new_from_index(0, height)
        column = frame[self._event_time]
        return column.dt.epoch("ms") if column.dtype.is_temporal() else column.cast(pl.Int64)

    def _prefix_of(self, decoded: Decoded, ran: Outcome) -> bytes | list[bytes]:
        """Return the constant head of the records: one for the batch, or one a row where rows differ in it."""
        if decoded.schema_of is None and ran.made_of is None:
            return self._prefix(decoded.schemas[0] if decoded.schemas else "", ran.made[0])
        prefixes = [self._prefix(schema, made) for made in ran.made for schema in decoded.schemas or ("",)]
        schema_of, made_of = decoded.schema_of, ran.made_of
        if schema_of is not None and ran.rows is not None:
            schema_of = schema_of[ran.rows]
        if made_of is None:
            assert schema_of is not None
            index = schema_of
        else:
            index = made_of * max(1, len(decoded.schemas)) + (0 if schema_of is None else schema_of)
        return [prefixes[each] for each in index.tolist()]

    def _prefix(self, schema: str, made: Made) -> bytes:
        prefix = self._prefixes.get((schema, made))
        if prefix is None:
            if len(self._prefixes) >= 1000:  # writers' schemas are few; a flood of them must not grow memory
                self._prefixes.clear()
            lineage = replace(
                self._lineage,
                arm=made.arm,
                model=made.model,
                version=made.version,
                event_schema=schema,
                assigned=made.assigned,
                propensity=made.propensity,
                fallback=made.fallback,
            )
            prefix = self._prefixes[schema, made] = self._codec.prefix(lineage)
        return prefix

    def _without_oversize(self, scored: Scored, sizes: list[int]) -> Scored:
        fits = np.array(sizes) <= self._inference_bytes
        indexes = np.arange(len(scored.inferences)) if scored.rows is None else scored.rows
        oversize = [self._oversize(int(indexes[i]), sizes[i]) for i in np.flatnonzero(~fits)]
        names = [
            scored.made[0 if scored.made_of is None else scored.made_of[i]].assigned for i in np.flatnonzero(~fits)
        ]
        beside = {
            name: found + [each for each, assigned in zip(oversize, names, strict=True) if assigned == name]
            for name, found in scored.beside.items()
        }
        return replace(
            scored,
            inferences=[value for value, ok in zip(scored.inferences, fits, strict=True) if ok],
            rows=indexes[fits],
            rejected=scored.rejected + [e for e, name in zip(oversize, names, strict=True) if name not in beside],
            frame=scored.frame.filter(fits),
            outputs=scored.outputs.filter(fits),
            made_of=None if scored.made_of is None else scored.made_of[fits],
            beside=beside,
        )

    def _oversize(self, row: int, size: int) -> Rejection:
        return Rejection(
            row,
            "oversize_inference",
            f"its inference and key have {size} bytes, the output topic takes {self._inference_bytes}: "
            "echo fewer fields or raise the topic's max.message.bytes",
        )


def _places(batch: Batch, rows: Rows | None) -> Places:
    """Return keys, partitions and offsets of the decoded events."""
    if rows is None:
        return batch.keys, batch.partitions, batch.offsets
    return [batch.keys[row] for row in rows.tolist()], batch.partitions[rows], batch.offsets[rows]


def _together(keys: Sequence[bytes | None]) -> int:
    """Return the bytes of all keys; joining takes a quarter of the time that the longest one takes to find."""
    try:
        return len(b"".join(keys))  # type: ignore[arg-type]
    except TypeError:  # some have none
        return len(b"".join(filter(None, keys)))


def _sizes(batch: Batch, inferences: Sequence[bytes], messages: Rows | None) -> list[int]:
    """Return the bytes of each inference with its key."""
    keys = batch.keys if messages is None else [batch.keys[row] for row in messages.tolist()]
    return [len(value) + len(key or b"") for value, key in zip(inferences, keys, strict=True)]
