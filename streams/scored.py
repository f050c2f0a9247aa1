"""What an arm scored of a range of past events, and what it said of them: the rows of a reference made from a topic.

The inferences come first: they tell which of the events were scored, and each event counts once however often it was.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple, cast

import numpy as np
import numpy.typing as npt
import polars as pl

from models.manifest import Manifest
from schemas.decode import EventDecoder
from schemas.deployment import Deployment
from schemas.sources import Writers
from streams.batch import Message as BatchMessage
from streams.batch import batch_of
from streams.errors import Refused
from streams.inferences import InferenceReader, output_of
from streams.reading import Ends, TopicReader
from streams.stretch import Stretch, answers_to

READ = 10_000
Offsets = npt.NDArray[np.int64]


class Placed(NamedTuple):
    """Rows of events. places: of each the source `partition` and `offset`."""

    places: pl.DataFrame
    rows: pl.DataFrame


class Seen:
    """Which offsets of a range were met: a bit each."""

    def __init__(self, ranges: Ends) -> None:
        self._ranges = ranges
        self._bits = {p: np.zeros((last - first + 7) // 8, np.uint8) for p, (first, last) in ranges.items()}

    def take(self, partition: int, offsets: Offsets) -> npt.NDArray[np.bool_]:
        """Note offsets of a partition; return of each whether it lies in the range and was not met before."""
        fresh = np.zeros(len(offsets), np.bool_)
        if partition not in self._ranges:
            return fresh
        first, last = self._ranges[partition]
        inside = np.flatnonzero((offsets >= first) & (offsets < last))
        inside = inside[np.unique(offsets[inside], return_index=True)[1]]
        fresh[inside[~self.met(partition, offsets[inside])]] = True
        places = offsets[fresh] - first
        np.bitwise_or.at(self._bits[partition], places >> 3, (1 << (places & 7)).astype(np.uint8))
        return fresh

    def met(self, partition: int, offsets: Offsets) -> npt.NDArray[np.bool_]:
        """Return of each offset of the range whether it was met."""
        places = offsets - self._ranges[partition][0]
        return np.asarray((self._bits[partition][places >> 3] >> (places & 7)) & 1, np.bool_)


class PastScores:
    """The rows that one version scored in one arm of a deployment, in a range of its events.

    others: inferences of the arm by other versions, which are left out.
    """

    def __init__(
        self, reader: TopicReader, deployment: Deployment, stretch: Stretch, arm: str, manifest: Manifest
    ) -> None:
        self._reader, self._deployment, self._stretch = reader, deployment, stretch
        self._arm, self._manifest = arm, manifest
        self._seen = Seen(stretch.ranges)
        self.rows, self.others = 0, Counter[str]()

    def outputs(self, writers: Writers) -> Iterator[Placed]:
        """Yield the outputs as the model gave them, a row for each event that was scored.

        Raises Refused where there are none.
        """
        outputs = [output_of(field) for field in self._manifest.fields]
        names = {each.column: each.name for each in outputs}
        inferences = InferenceReader(writers, outputs)
        topic = self._deployment.output_topic(self._arm)
        ends = answers_to(self._reader, topic, self._stretch)
        waiting = set(self._stretch.ranges)
        ordered = len(ends) == len(self._reader.partitions(self._stretch.topic))  # then each stands where its event is
        if ordered:
            ends = {partition: span for partition, span in ends.items() if partition in waiting}
        for messages in self._reader.read(topic, ends, READ):
            batch = batch_of(cast(list[BatchMessage], messages))
            frame = self._of_the_arm(inferences.frame(batch.values, [None] * len(batch)))
            fresh = self._fresh(frame)
            if fresh.any():
                found = frame.filter(pl.Series(fresh))
                yield Placed(found.select("partition", "offset"), found.select(list(names)).rename(names))
            waiting -= self._passed(frame)
            if ordered and not waiting:
                break
        if not self.rows:
            raise Refused(self._nothing(topic))

    def features(self, decoder: EventDecoder) -> Iterator[Placed]:
        """Yield the events that `outputs` had outputs of, as the deployment decodes them: the model's fields."""
        for messages in self._reader.read(self._stretch.topic, self._stretch.ranges, READ):
            batch = batch_of(cast(list[BatchMessage], messages))
            scored = np.zeros(len(batch), np.bool_)
            for partition in batch.positions:
                mine = batch.partitions == partition
                scored[mine] = self._seen.met(partition, batch.offsets[mine])
            if scored.any():
                values = [value for value, kept in zip(batch.values, scored.tolist(), strict=True) if kept]
                decoded = decoder.decode(values)
                kept = np.flatnonzero(scored)
                kept = kept if decoded.rows is None else kept[decoded.rows]
                places = pl.DataFrame({"partition": batch.partitions[kept], "offset": batch.offsets[kept]})
                yield Placed(places, decoded.frame.select(self._manifest.features))

    def _of_the_arm(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Return the arm's inferences of this deployment's events."""
        deployment = self._deployment
        return frame.filter(
            (pl.col("deployment") == deployment.name)
            & (pl.col("source_topic") == deployment.input.topic)
            & (pl.col("arm") == self._arm)
        )

    def _fresh(self, frame: pl.DataFrame) -> npt.NDArray[np.bool_]:
        """Return of each inference whether it is the first of its event that the version made."""
        own = (frame["version"] == self._manifest.version).to_numpy()
        partitions, offsets = frame["partition"].to_numpy(), frame["offset"].to_numpy()
        fresh = np.zeros(len(frame), np.bool_)
        for partition in np.unique(partitions).tolist():
            mine = np.flatnonzero(own & (partitions == partition))
            fresh[mine] = self._seen.take(partition, offsets[mine])
            within = self._stretch.ranges.get(partition, (0, 0))
            inside = (partitions == partition) & (offsets >= within[0]) & (offsets < within[1])
            self.others.update(frame["version"].filter(pl.Series(inside & ~own)).to_list())
        self.rows += int(fresh.sum())
        return fresh

    def _passed(self, frame: pl.DataFrame) -> set[int]:
        """Return the partitions of which an event behind the range was scored."""
        furthest = dict(frame.group_by("partition").agg(pl.col("offset").max()).iter_rows())
        return {p for p, (_, last) in self._stretch.ranges.items() if furthest.get(p, -1) >= last}

    def _nothing(self, topic: str) -> str:
        there = ", ".join(f"{count:,} of {version}" for version, count in self.others.most_common(5))
        return (
            f"{topic} holds no inference of the arm {self._arm} by {self._manifest.ref} of these events; it has "
            f"{there or 'none by any version'}: name another range with --from and --to, or the version with --model"
        )
