"""What a rescore published beside what the deployment had published of the same events: read, paired, compared.

Memory is bounded whatever the range: what one side is ahead of the other goes into a temporary folder.
"""

from __future__ import annotations

import logging
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl
from confluent_kafka import Message

from models.runtimes.base import Model
from schemas.sources import SchemaTopic, Writers
from schemas.values import as_bytes
from streams.comparison import Comparison
from streams.inferences import InferenceReader, output_of
from streams.reading import Ends, TopicReader
from streams.rescore import ROLE, Errand, Options
from streams.shelf import BYTES, Shelf
from streams.stretch import answers_to

log = logging.getLogger(__name__)

READ = 10_000
SAY_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Compared:
    """output: the deployment's topic. unreadable: records of either side that are no inferences.

    only_now, only_then: names of outputs that the other side lacks, or has in another form.
    """

    comparison: Comparison
    output: str
    unreadable: int
    only_now: tuple[str, ...]
    only_then: tuple[str, ...]
    seconds: float


def compare(
    errand: Errand,
    options: Options,
    schemas: SchemaTopic,
    *,
    tolerance: float = 0.0,
    worst: int = 10,
    held: int = BYTES,
) -> Compared:
    """Compare the inferences of a rescore that is done with those that the deployment's output topic holds.

    worst: how many of the events that differ most are told. held: bytes of rows that stay in memory.
    Raises Refused, SourceUnavailable.
    """
    began = time.monotonic()
    model: Model = errand.assembly.models[ROLE]
    outputs = [output_of(each) for each in model.outputs]
    deployment = errand.wanted.deployment
    writers = Writers(topic=schemas)
    mine, theirs = InferenceReader(writers, outputs), InferenceReader(writers, outputs)
    comparison = Comparison(outputs, tolerance, worst)
    reader = TopicReader(options.kafka, errand.group)
    try:
        with tempfile.TemporaryDirectory(prefix="penstock-rescore-") as folder:
            shelf = Shelf(Path(folder), held)
            sides = _Sides(reader, errand, shelf)
            sides.read(0, errand.output.name, reader.ends(errand.output.name), mine, keyed=True)
            there = reader.partitions(deployment.output.topic)
            if there:
                ends = answers_to(reader, deployment.output.topic, errand.stretch)
                sides.read(1, deployment.output.topic, ends, theirs, keyed=False)
            for now, then in shelf.blocks():
                comparison.add(now, then)
    finally:
        reader.close()
    names = {each.name: each for each in outputs}
    return Compared(
        comparison,
        deployment.output.topic,
        mine.unreadable + theirs.unreadable,
        tuple(name for name in names if comparison.beside and theirs.seen.get(name) != names[name]),
        tuple(name for name, each in theirs.seen.items() if names.get(name) != each),
        time.monotonic() - began,
    )


class _Sides:
    """Puts the inferences of the range onto the shelf."""

    def __init__(self, reader: TopicReader, errand: Errand, shelf: Shelf) -> None:
        self._reader, self._errand, self._shelf = reader, errand, shelf
        self._ranges = errand.stretch.ranges
        spans = [(partition, first, last) for partition, (first, last) in self._ranges.items()]
        schema = {"partition": pl.Int32(), "first": pl.Int64(), "last": pl.Int64()}
        self._spans = pl.DataFrame(spans, schema=schema, orient="row")
        self._sources = len(reader.partitions(errand.stretch.topic))

    def read(self, side: int, topic: str, ends: Ends, inferences: InferenceReader, *, keyed: bool) -> None:
        """Read a topic until its end, or until every partition of the range is passed where that can be told."""
        ordered = len(self._reader.partitions(topic)) == self._sources  # then each stands where its event does
        ends = {p: span for p, span in ends.items() if p in self._ranges or not ordered}
        wanted = {p for p, (first, last) in ends.items() if first < last}
        said, count = time.monotonic(), 0
        for messages in self._reader.read(topic, ends, READ):
            frame = self._ours(inferences.frame(*_columns(messages, keyed)), rescored=side == 0)
            inside = frame.join(self._spans, on="partition")
            self._shelf.put(
                side, inside.filter(pl.col("offset").is_between("first", "last", closed="left")).drop("first", "last")
            )
            if ordered:
                wanted -= set(inside.filter(pl.col("offset") >= pl.col("last"))["partition"].to_list())
                if not wanted:
                    return
            count += len(messages)
            if time.monotonic() - said > SAY_SECONDS:
                said = time.monotonic()
                log.info("read %d records of %s to compare", count, topic)

    def _ours(self, frame: pl.DataFrame, *, rescored: bool) -> pl.DataFrame:
        """Return the inferences of the deployment's events; of the rescore's topic, those of its version."""
        deployment, manifest = self._errand.wanted.deployment, self._errand.bundle.manifest
        ours = (pl.col("deployment") == deployment.name) & (pl.col("source_topic") == deployment.input.topic)
        if rescored:
            ours &= (pl.col("arm") == ROLE) & (pl.col("version") == manifest.version)
        return frame.filter(ours).drop("deployment", "source_topic")


def _columns(messages: Sequence[Message], keyed: bool) -> tuple[list[bytes | None], list[bytes | None]]:
    values = [as_bytes(message.value()) for message in messages]
    return values, [as_bytes(message.key()) for message in messages] if keyed else [None] * len(values)
