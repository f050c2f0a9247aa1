"""What a worker does about events that may kill it: notes what it scores, keeps quarantined events from decoder and
model, reads what its predecessor died on in small batches, and stops short of an event on which they died repeatedly.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from confluent_kafka import KafkaException

from schemas.errors import SourceUnavailable
from streams import inflight
from streams.batch import Batch, batch_of, firsts_of, positions_of
from streams.errors import Rewind
from streams.inflight import Marker, marker_path
from streams.offsets import OffsetRange, ranges_of
from streams.orders import Caution
from streams.protocols import Source
from streams.quarantine import Quarantine, QuarantineTopic, score_around
from streams.scorer import Scored, Scorer

log = logging.getLogger(__name__)

LOOK_SECONDS = 10.0  # how often a worker that holds events looks whether they are in quarantine now


class Safeguard:
    """Stands between the worker's loop and its scorer.

    marker: where what is being scored is noted. look: reads the quarantine anew, None when that is not possible now.
    caution: what the supervisor knows of this slot's crashes.
    """

    def __init__(
        self,
        topic: str,
        *,
        marker: Marker | None = None,
        quarantine: Quarantine | None = None,
        look: Callable[[], Quarantine | None] = lambda: None,
        caution: Caution | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        caution = caution or Caution()
        self._topic, self._marker, self._look, self._clock = topic, marker, look, clock
        self._quarantine = quarantine or Quarantine()
        self._suspects, self._small = dict(caution.suspects), caution.batch_events
        self._held = {
            partition: span for partition, span in caution.held.items() if not self._quarantine.covers(partition, *span)
        }
        self._looked = clock()
        self.parked: set[int] = set()  # partitions that are not read on because of a held event

    @property
    def holds(self) -> Sequence[OffsetRange]:
        """The events that are neither scored nor in quarantine, and that stop their partitions."""
        return ranges_of(self._topic, self._held)

    def limit(self, most: int, source: Source) -> int:
        """Return the largest batch to read now: a small one as long as suspected events are ahead."""
        if not self._suspects:
            return most
        positions = source.positions()
        ahead = [p for p, (_, past) in self._suspects.items() if p in positions and positions[p] < past]
        return min(most, self._small) if ahead else most

    def too_large(self, batch: Batch) -> bool:
        """Say whether the batch has suspected events among too many: their partition came while it was read."""
        if len(batch) <= self._small or not self._suspects:
            return False
        firsts = batch.firsts()
        return any(p in firsts and firsts[p] < past for p, (_, past) in self._suspects.items())

    def admit(self, source: Source, batch: Batch) -> Batch | None:
        """Return the batch without the events from a held one on, whose partitions are read no further for now."""
        if not self._held:
            return batch
        keep = np.ones(len(batch), bool)
        for partition, (first, past) in self._held.items():
            if batch.positions.get(partition, 0) <= first:
                continue
            mine = batch.partitions == partition
            if batch.offsets[mine][0] >= past:  # somebody decided about the held events meanwhile
                continue
            keep &= ~(mine & (batch.offsets >= first))
            source.park(partition, first)
            if partition not in self.parked:
                self.parked.add(partition)
                log.error(
                    "%s is not scored and stops its partition: processes of this slot died on it again and again. "
                    "Put it in quarantine with `penstock quarantine`, or send SIGUSR1 to try it once more",
                    self._names([partition]),
                )
        if keep.all():
            return batch
        return batch_of([batch.messages[row] for row in np.flatnonzero(keep).tolist()]) if keep.any() else None

    def score(self, scorer: Scorer, batch: Batch) -> Scored:
        """Score the batch, noted while that lasts; quarantined events are rejected. Raises SourceUnavailable."""
        quarantined = self._quarantine.rows(batch) if self._quarantine else None
        if self._marker is None:
            return _score(scorer, batch, quarantined)
        self._marker.scoring(*_reaching(batch, quarantined))
        try:
            scored = _score(scorer, batch, quarantined)
        except (SourceUnavailable, Rewind):  # it waits, or is given up: a death now has other causes
            self._marker.scored()
            raise
        self._marker.scored()
        return scored

    def joined(self) -> None:
        """Note that the worker is a member of its group."""
        if self._marker is not None:
            self._marker.joined()

    def tick(self, source: Source, resumed: bool) -> bool:
        """Look now and then whether held events may go on; `resumed`: somebody said so. True when some were let go."""
        if not self._held:
            return False
        if resumed:
            log.warning("scoring what was held back: %s", self._names())
            self._release(source, list(self._held))
            return True
        if self._clock() - self._looked < LOOK_SECONDS:
            return False
        self._looked = self._clock()
        quarantine = self._look()
        if quarantine is None or quarantine.ranges == self._quarantine.ranges:
            return False
        self._quarantine = quarantine
        covered = [p for p, span in self._held.items() if quarantine.covers(p, *span)]
        if covered:
            log.info("%s: now in quarantine; going on", self._names(covered))
            self._release(source, covered)
        return bool(covered)

    def forget(self) -> None:
        """Every partition is read anew: what stops one is met again."""
        self.parked.clear()

    def close(self) -> None:
        """Let the marker's file go."""
        if self._marker is not None:
            self._marker.close()

    def _release(self, source: Source, partitions: Sequence[int]) -> None:
        for partition in partitions:
            del self._held[partition]
        source.unpark()
        self.parked.clear()  # what is still held is met and parked again

    def _names(self, partitions: Sequence[int] | None = None) -> str:
        return ", ".join(str(each) for each in self.holds if partitions is None or each.partition in partitions)


def safeguard(
    kafka: Mapping[str, str],
    folder: Path,
    group: str,
    slot_id: str,
    topic: str,
    caution: Caution,
    stopping: Callable[[], bool],
) -> Safeguard:
    """Return the safeguard of a slot that reads `topic`; waits for Kafka to tell the quarantine. Raises Refused.

    folder: where the slots' markers are.
    """
    ranges = QuarantineTopic(kafka)

    def read() -> Quarantine | None:
        try:
            found = [each.range for each in ranges.read(group) if each.range.topic == topic]
        except KafkaException as error:
            log.error("the quarantine cannot be read (%s); trying again, nothing is lost", error.args[0].str())
            return None
        return Quarantine(found)

    while (quarantine := read()) is None and not stopping():
        time.sleep(0.5)
    if quarantine:
        log.info("in quarantine: %s", ", ".join(map(str, quarantine.ranges)))
    path = marker_path(folder, slot_id)
    if left := inflight.read(path).ranges:
        log.warning("the last process of this slot died while it scored %s", ", ".join(map(str, left)))
    return Safeguard(topic, marker=Marker(path, topic), quarantine=quarantine, look=read, caution=caution)


def _reaching(batch: Batch, quarantined: npt.NDArray[np.bool_] | None) -> tuple[Mapping[int, int], Mapping[int, int]]:
    """Return the first offset and the one behind the last, per partition, of the events that reach the scorer."""
    if quarantined is None:
        return batch.firsts(), batch.positions
    partitions, offsets = batch.partitions[~quarantined], batch.offsets[~quarantined]
    return firsts_of(partitions, offsets), positions_of(partitions, offsets)


def _score(scorer: Scorer, batch: Batch, quarantined: npt.NDArray[np.bool_] | None) -> Scored:
    return scorer.score(batch) if quarantined is None else score_around(scorer, batch, quarantined)
