"""Which scored events are sampled, and the records that tell of them: one a batch, arm and partition of the samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import polars as pl

from models import sampling
from models.reference import Reference
from models.samples import ASSIGNED, BESIDE, SHADOW, Encoder, Longs, Maker, Samples
from schemas.deployment import Deployment
from schemas.values import OutputField
from streams.arms import Made
from streams.batch import Batch
from streams.scorer import Scored
from streams.segments import Texts, segments_of

NO_KEY, TOO_LARGE = "no_key", "too_large"  # why an event is not sampled whatever the share
PLAIN = ("scalar", "label")  # kinds of outputs that are always sampled: one value an event


@dataclass(frozen=True, slots=True)
class Sampled:
    """What is published of a batch. partitions: one a record. rows: by the arm that scored. left_out: by the reason."""

    values: list[bytes] = field(default_factory=list)
    partitions: list[int] = field(default_factory=list)
    rows: dict[str, int] = field(default_factory=dict)
    left_out: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Sampler:
    """Samples what one state of a deployment scores.

    revision, topic: of the state, and of its events. share: of keys, above 0. partitions: of the topic of samples;
    limit: the largest record that it takes, in bytes. roles: of those arms that do not just score what is assigned.
    outputs: names of those that are sampled. segments: what makes text of each declared field.
    """

    deployment: str
    revision: int
    topic: str
    share: float
    partitions: int
    limit: int
    roles: Mapping[str, str]
    outputs: Sequence[str]
    segments: Mapping[str, Texts]

    def sample(self, batch: Batch, scored: Scored, times: Longs | None = None) -> Sampled:
        """Return the samples of a scored batch. times: of its messages (ms), None where they were not asked yet."""
        found = Sampled()
        keyed, hashes = _hashed(batch.keys)
        events = np.arange(len(batch)) if scored.rows is None else scored.rows  # of each inference
        if keyed is not None and (without := len(np.unique(events[~keyed[events]]))):
            found.left_out[NO_KEY] = without
        chosen = sampling.sampled(hashes, self.share)
        rows = np.flatnonzero((chosen if keyed is None else chosen & keyed)[events])  # of the inferences
        if len(rows):
            self._encode(found, batch, scored, events, hashes, rows, times)
        return found

    def _encode(
        self,
        found: Sampled,
        batch: Batch,
        scored: Scored,
        events: Longs,
        hashes: sampling.Hashes,
        rows: Longs,
        times: Longs | None,
    ) -> None:
        """Sort the chosen rows by partition of the samples, who scored, and source partition; cut between those."""
        places = sampling.places(hashes[events[rows]], self.partitions)
        groups = places * len(scored.made) + (0 if scored.made_of is None else scored.made_of[rows])
        sources = batch.partitions[events[rows]].astype(np.int64)
        order = _order(groups, sources)
        rows, groups = rows[order], groups[order]
        encoder = Encoder(self._columns(batch, scored, events, rows, sources[order], times))
        for start, end in pairwise([0, *(np.flatnonzero(np.diff(groups)) + 1).tolist(), len(rows)]):
            place, index = divmod(int(groups[start]), len(scored.made))
            self._take(found, encoder, place, self._maker(scored.made[index]), start, end)

    def _columns(
        self, batch: Batch, scored: Scored, events: Longs, rows: Longs, sources: Longs, times: Longs | None
    ) -> Samples:
        """Return the columns of all chosen rows."""
        at, index = events[rows], pl.Series(rows.astype(np.uint32))
        if times is None:
            found = np.array([batch.messages[row].timestamp()[1] for row in at.tolist()], np.int64)
        else:
            found = times[at]
        return Samples(
            self._maker(scored.made[0]),
            sources,
            batch.offsets[at],
            found,
            [batch.keys[row] or b"" for row in at.tolist()],
            {name: scored.outputs[name][index] for name in self.outputs},
            {name: texts(scored.frame[name][index]) for name, texts in self.segments.items()},
        )

    def _maker(self, made: Made) -> Maker:
        return Maker(
            self.deployment,
            self.revision,
            self.topic,
            made.arm,
            made.assigned,
            made.propensity,
            self.roles.get(made.arm, ASSIGNED),
            made.model,
            made.version,
        )

    def _take(self, found: Sampled, encoder: Encoder, place: int, maker: Maker, start: int, end: int) -> None:
        """Add the record of a part: those of its halves where it would be larger than its topic takes."""
        value, count = encoder.encode(maker, start, end), end - start
        if len(value) <= self.limit:
            found.values.append(value)
            found.partitions.append(place)
            found.rows[maker.arm] = found.rows.get(maker.arm, 0) + count
        elif count == 1:
            found.left_out[TOO_LARGE] = found.left_out.get(TOO_LARGE, 0) + 1
        else:
            middle = (start + end) // 2
            self._take(found, encoder, place, maker, start, middle)
            self._take(found, encoder, place, maker, middle, end)


def sampler_of(
    deployment: Deployment,
    arm: str,
    revision: int,
    outputs: Sequence[OutputField],
    columns: Mapping[str, pl.DataType],
    reference: Reference | None,
    limit: int,
) -> Sampler | None:
    """Return what samples for the workers of an arm, None where the deployment declares neither labels nor segments.

    outputs: of its models. columns: of its events. reference: of the arm's own model. limit: the largest record, in
    bytes. Raises LabelsUnusable and DeploymentInvalid for labels and segments that do not fit them.
    """
    if deployment.sampling is None:
        return None
    share, partitions = deployment.sampling
    judged = deployment.labels.output_of(outputs).name if deployment.labels is not None else None
    names = [each.name for each in outputs if each.kind in PLAIN or each.name == judged]
    roles = {**dict.fromkeys(deployment.everywhere, BESIDE), **({arm: SHADOW} if deployment.is_shadow(arm) else {})}
    segments = segments_of(deployment.segments, columns, reference)
    source = deployment.input.topic
    return Sampler(deployment.name, revision, source, share, partitions, limit, roles, names, segments)


def _hashed(keys: Sequence[bytes | None]) -> tuple[npt.NDArray[np.bool_] | None, sampling.Hashes]:
    """Return which messages have a key (None: all) and the hash of each key."""
    if None not in keys:
        return None, sampling.hashes(keys)  # type: ignore[arg-type]
    keyed = np.fromiter((key is not None for key in keys), np.bool_, len(keys))
    return keyed, sampling.hashes([key or b"" for key in keys])


def _order(groups: Longs, sources: Longs) -> Longs:
    """Return the order by group, then source partition; the offsets of one stay in order, for a batch has them so."""
    codes = groups * (int(sources.max()) + 1) + sources
    if int(codes.max()) < 1 << 16:
        codes = codes.astype(np.uint16)  # sorted by radix, ten times as fast
    return np.argsort(codes, kind="stable")
