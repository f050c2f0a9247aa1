"""The judge: what was acknowledged against what a reader got. Pure, so that tests can feed it made-up accounts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from tests.chaos.events import Events
from tests.chaos.load import UNKNOWN
from tests.chaos.reader import INFERENCE, LETTER, Results, letter_digest

EXAMPLES = 5  # of each kind of breakage that the account names
BREAKAGES = (
    "lost",  # an acknowledged event without a result
    "duplicated",  # results of an event beyond the first, of whatever kind
    "out_of_order",  # results of a source partition that stand behind a later one in the same output partition
    "unknown",  # results of offsets that the log does not have
    "misplaced",  # results in another output partition than their source partition's, where both topics have as many
    "different",  # inferences whose score or echoed id is not what the event and the model version give
    "misjudged",  # dead letters of good events, inferences of bad ones
    "altered",  # dead letters that are not their event byte for byte
)
Column = npt.NDArray[Any]


@dataclass(slots=True)
class Findings:
    """Counts of each breakage, and examples in words. gone: events that retention took before they were scored.

    unowned: results of offsets inside the log at which the producer knows of no event; seen once, after a leader was
    frozen, probably of events that librdkafka appended twice. Each record is owed a result, and `penstock verify`, the
    second judge, says whether a result has a record.
    """

    events: int = 0
    inferences: int = 0
    letters: int = 0
    gone: int = 0
    unowned: int = 0
    breakages: dict[str, int] = field(default_factory=lambda: dict.fromkeys(BREAKAGES, 0))
    examples: list[str] = field(default_factory=list)

    @property
    def clean(self) -> bool:
        return not any(self.breakages.values())

    def found(self, kind: str, count: int, places: Sequence[str] = ()) -> None:
        """Count a breakage and keep some of its places."""
        self.breakages[kind] += count
        self.examples += [f"{kind}: {place}" for place in places[:EXAMPLES]]


def judge(
    acknowledged: Mapping[int, Sequence[int]],
    results: Results,
    events: Events,
    *,
    scales: Mapping[str, float] | None = None,
    low: Mapping[int, int] | None = None,
    past: Mapping[int, int] | None = None,
    same_partitions: bool = False,
) -> Findings:
    """Compare what was acknowledged with what came out.

    acknowledged: per source partition the sequence number at each offset, UNKNOWN where none was acknowledged.
    scales: by model version, what it multiplies the sum with; None: every version is the sum.
    low: per source partition the first offset that retention left. past: per source partition the offset from which on
    no result is owed yet; None: every event is owed one. same_partitions: a result stands in its event's partition.
    """
    findings = Findings()
    rows = _Rows(results)
    findings.inferences, findings.letters = int(np.sum(rows.kind == INFERENCE)), int(np.sum(rows.kind == LETTER))
    for partition in sorted(set(acknowledged) | set(np.unique(rows.partition).tolist())):
        sequences = np.array(acknowledged.get(partition, []), np.int64)
        owed_until = len(sequences) if past is None else past.get(partition, 0)
        _judge_places(findings, partition, sequences, rows, (low or {}).get(partition, 0), owed_until)
        _judge_content(findings, partition, sequences, rows, events, scales)
    _judge_order(findings, rows)
    if same_partitions:
        away = np.flatnonzero(rows.target != rows.partition)
        places = [f"{rows.partition[i]}@{rows.offset[i]} in {rows.target[i]}" for i in away[:EXAMPLES]]
        findings.found("misplaced", len(away), places)
    return findings


class _Rows:
    """The columns of the results as arrays."""

    def __init__(self, results: Results) -> None:
        self.kind, self.target = results.column("kind"), results.column("target")
        self.partition, self.offset = results.column("partition"), results.column("offset")
        self.sequence, self.score = results.column("sequence"), results.column("score")
        self.digest, self.version = results.column("digest"), results.column("version")
        self.versions = results.versions


def _judge_places(
    findings: Findings, partition: int, sequences: Column, rows: _Rows, low: int, owed_until: int
) -> None:
    """Each acknowledged offset has one result; no other offset has any."""
    offsets = rows.offset[rows.partition == partition]
    inside = (offsets >= 0) & (offsets < len(sequences))
    counts = np.bincount(offsets[inside], minlength=len(sequences))
    owed = sequences != UNKNOWN
    findings.events += int(owed.sum())
    missing = np.flatnonzero(owed & (counts == 0))
    missing = missing[missing < owed_until]
    findings.gone += int(np.sum(missing < low))
    lost = missing[missing >= low]
    findings.found("lost", len(lost), [f"{partition}@{offset}" for offset in lost[:EXAMPLES]])
    twice = np.flatnonzero(counts > 1)
    findings.found(
        "duplicated",
        int(np.sum(counts[twice] - 1)),
        [f"{partition}@{offset} has {counts[offset]} results" for offset in twice[:EXAMPLES]],
    )
    findings.unowned += int(np.sum(~owed & (counts > 0)))
    strange = offsets[~inside]
    findings.found("unknown", len(strange), [f"{partition}@{offset}" for offset in strange[:EXAMPLES]])


def _judge_content(
    findings: Findings,
    partition: int,
    sequences: Column,
    rows: _Rows,
    events: Events,
    scales: Mapping[str, float] | None,
) -> None:
    """Each result is what its event and model version give."""
    mine = np.flatnonzero((rows.partition == partition) & (rows.offset >= 0) & (rows.offset < len(sequences)))
    mine = mine[sequences[rows.offset[mine]] != UNKNOWN]
    expected = sequences[rows.offset[mine]]
    good, scores = events.due(expected)
    is_inference = rows.kind[mine] == INFERENCE
    wrong = np.flatnonzero(good != is_inference)
    findings.found(
        "misjudged",
        len(wrong),
        [f"{partition}@{rows.offset[mine[i]]} ({events.kind(int(expected[i]))})" for i in wrong[:EXAMPLES]],
    )
    if scales is not None:
        factors = np.array([scales.get(version, np.nan) for version in rows.versions] + [np.nan])
        scores = scores * factors[rows.version[mine]]
    equal = (rows.score[mine] == scores) & (rows.sequence[mine] == expected)
    differing = np.flatnonzero(is_inference & good & ~equal)
    findings.found(
        "different",
        len(differing),
        [
            f"{partition}@{rows.offset[mine[i]]} gives {rows.score[mine[i]]} for event {rows.sequence[mine[i]]}, "
            f"not {scores[i]} for event {expected[i]}"
            for i in differing[:EXAMPLES]
        ],
    )
    for i in np.flatnonzero(~is_inference):
        sequence = int(expected[i])
        if rows.digest[mine[i]] != letter_digest(events.value(sequence), events.key(sequence)):
            findings.found("altered", 1, [f"{partition}@{rows.offset[mine[i]]}"])


def _judge_order(findings: Findings, rows: _Rows) -> None:
    """Within an output partition, results of one kind and source partition stand in the order of their offsets."""
    order = np.lexsort((np.arange(len(rows.kind)), rows.partition, rows.target, rows.kind))
    group = np.stack([rows.kind[order], rows.target[order], rows.partition[order]])
    offsets = rows.offset[order]
    starts = np.flatnonzero(np.any(group[:, 1:] != group[:, :-1], axis=0)) + 1
    for part in np.split(np.arange(len(offsets)), starts):
        if not len(part):
            continue
        highest = np.maximum.accumulate(offsets[part])
        behind = part[1:][offsets[part][1:] < highest[:-1]]
        source = int(group[2, part[0]])
        findings.found("out_of_order", len(behind), [f"{source}@{offsets[i]}" for i in behind[:EXAMPLES]])


def same(first: Results, second: Results) -> bool:
    """Say whether two readers got the same results in the same order in each partition they read."""

    def ordered(results: Results) -> Column:
        rows = _Rows(results)
        order = np.lexsort((np.arange(len(rows.kind)), rows.target, rows.kind))
        return np.stack([rows.kind[order], rows.target[order], rows.partition[order], rows.offset[order]])

    return np.array_equal(ordered(first), ordered(second))
