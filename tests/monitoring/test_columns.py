"""The join by column against the join event by event with dicts: the same parts, whatever comes."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
import pytest

from models import sampling
from models.samples import LabelCopies, Maker, Samples
from monitoring import meeting, pending, rows
from monitoring.folds import Folding, Record
from monitoring.formulas import Formula
from monitoring.join_state import Joining, State
from monitoring.joining import JoinFold
from schemas import records
from schemas.expressions import Expression
from tests.monitoring.dict_joining import DictFold
from tests.monitoring.joins import moments

WITHIN = 50  # s
GAIN = Expression("(10 * late if score > 0.5 else -1) + revenue * 0")
SPREAD = Expression("abs(score - fee) / fee")
KEPT = Expression("min(revenue, 2) - label.fee")
FORMULAS = (
    Formula("gain", GAIN, "late", ("revenue", "fee"), ("score",), -5.0, 5.0),
    Formula("spread", SPREAD, "late", ("revenue", "fee"), ("score",)),
    Formula("kept", KEPT, "late", ("revenue", "fee"), ("score",)),
)
SAID: dict[str, tuple[Any, Callable[[random.Random], Any]]] = {
    "binary": (pl.Float64, lambda draw: draw.choice((0.0, 1.0, 0.5, draw.random(), None, 1.5))),
    "regression": (pl.Float64, lambda draw: draw.choice((0.0, -0.0, 1e9, 3e15, draw.gauss(0, 50), None))),
    "text": (pl.String, lambda draw: draw.choice(("a", "b", "c", "2", None))),
    "long": (pl.Int64, lambda draw: draw.choice((0, 1, 2, 2**60 + 1, -(2**63), 2**53))),
    "vector": (pl.List(pl.Float64), lambda draw: _shares(draw, 3)),
    "pair": (pl.List(pl.Float64), lambda draw: _shares(draw, 2)),
}
TRUE: dict[str, tuple[Any, Callable[[random.Random], Any]]] = {
    "boolean": (pl.Boolean, lambda draw: draw.random() < 0.5),
    "double": (pl.Float64, lambda draw: draw.choice((0.0, -0.0, 1.0, 7.0, draw.gauss(0, 50), None))),
    "long": (pl.Int64, lambda draw: draw.choice((0, 1, 2, 2**60 + 1, 2**60))),
    "text": (pl.String, lambda draw: draw.choice(("a", "b", "1", "2"))),
}
TASKS = [
    ("auto", "boolean", "binary"),
    ("auto", "boolean", "pair"),
    ("binary", "double", "binary"),
    ("auto", "double", "regression"),
    ("auto", "long", "vector"),
    ("multiclass", "long", "long"),
    ("auto", "text", "text"),
    ("multiclass", "text", "vector"),
    ("multiclass", "double", "regression"),
]
ARMS = [("active", "assigned"), ("fallback", "assigned"), ("beside", "beside"), ("next", "shadow")]


def _shares(draw: random.Random, width: int) -> list[float]:
    found = [draw.choice((0.0, draw.random())) for _ in range(width)]
    total = sum(found) or 1.0
    return [draw.choice((1.0, 1.0, 1.0, -1.0)) * each / total for each in found]


@dataclass
class Log:
    """Records of predictions and labels in a random order: keys with few and with many rows, times that repeat."""

    seed: int
    truth: str
    said: str
    records: int = 40

    def __post_init__(self) -> None:
        self.draw = random.Random(f"{self.seed} {self.truth} {self.said}")
        self.keys = [b"", b"hot", b"hot", b"hot", *(b"key %d" % at for at in range(self.draw.choice((2, 20, 200))))]
        self.scored: list[tuple[bytes, int, int, int]] = []
        self.sent = {0: 0, 1: 0}  # position of labels by partition
        self.copies: list[bytes] = []

    def values(self) -> Iterator[bytes]:
        now = 400_000
        for _ in range(self.records):
            now += self.draw.choice((0, 10, 1000, 20_000))
            yield self._labels(now) if self.draw.random() < 0.4 else self._samples(now)
        yield from (self._labels(now + 300_000, at % 2) for at in range(4))
        yield self._samples(now + 300_000)

    def _samples(self, now: int) -> bytes:
        draw, rows = self.draw, self.draw.choice((1, 3, 30))
        if self.scored and draw.random() < 0.5:
            mine = draw.sample(self.scored, min(rows, len(self.scored)))  # another arm's turn, or the same again
        else:
            times = [draw.choice((now, now, now - 1, now - 500, now - 40_000, -1)) for _ in range(rows)]
            mine = [(draw.choice(self.keys), time, draw.randrange(2), draw.randrange(10**6)) for time in times]
            self.scored += mine
        arm, role = draw.choice(ARMS)
        mine.sort(key=lambda each: each[2:])
        return Samples(
            Maker("flights", 1, "events", arm, arm, 1.0, role, "late", draw.choice(("v1", "v2"))),
            np.array([each[2] for each in mine], np.int64),
            np.array([each[3] for each in mine], np.int64),
            np.array([each[1] for each in mine], np.int64),
            [each[0] for each in mine],
            {
                "late": _series(draw, SAID[self.said], len(mine)),
                "score": pl.Series("score", [draw.choice((0.25, 0.75, None)) for _ in mine], pl.Float64),
            },
            {name: _text(draw, name, len(mine)) for name in draw.choice((["origin"], ["origin", "carrier"]))},
        ).encode()

    def _labels(self, now: int, partition: int | None = None) -> bytes:
        draw = self.draw
        if partition is None and self.copies and draw.random() < 0.2:
            return draw.choice(self.copies)  # one that starts over sends it again
        partition, count = draw.randrange(2) if partition is None else partition, draw.choice((0, 1, 5, 30))
        lost = draw.random() < 0.1  # what is before this copy never came
        first = self.sent[partition] + lost * 10**6
        offsets = np.unique(first + np.cumsum([draw.choice((0, 1, 1)) for _ in range(count)], dtype=np.int64))
        position = int(offsets[-1]) + 1 if len(offsets) else first
        keys = [draw.choice(self.scored)[0] if self.scored else b"none" for _ in offsets]
        times = [now - draw.choice((0, 0, 1, 3000, 30_000, 60_000)) for _ in offsets]
        made = LabelCopies(
            "flights", "labels", partition, first or -1, position, now,
            offsets, np.array(times, np.int64), keys, _series(draw, TRUE[self.truth], len(keys)),
            {
                "revenue": pl.Series("revenue", [draw.choice((1.0, 2.5, None)) for _ in keys], pl.Float64),
                "fee": pl.Series("fee", [draw.choice((0, 1, 3)) for _ in keys], pl.Int64),
            },
        ).encode()  # fmt: skip
        if not lost:
            self.sent[partition] = position
            self.copies.append(made)
        return made


def _series(draw: random.Random, kind: tuple[Any, Callable[[random.Random], Any]], count: int) -> pl.Series:
    return pl.Series("late", [kind[1](draw) for _ in range(count)], kind[0])


def _text(draw: random.Random, name: str, count: int) -> pl.Series:
    return pl.Series(name, [draw.choice(("A", "B", "x" * 120, None)) for _ in range(count)], pl.String)


def joining_of(task: str, truth: str) -> Joining:
    return Joining(
        "flights", "quality", WITHIN, "late", task, "double" if truth == "long" else truth, ("revenue",), 2, 10.0,
        tick_ms=10_000, tick_grace_ms=5000, fields=("fee",), outputs=("score",), formulas=FORMULAS,
    )  # fmt: skip


def parts(
    fold: Any, log: Sequence[bytes], deaths: random.Random | None = None, times: Sequence[int] | None = None
) -> list[dict[str, Any]]:
    """Return what a fold says of a log; with deaths it starts over from any snapshot. `moved` counts other things.

    times: of the records; None where they have none, so that each is taken alone.
    """
    folding, found = Folding(fold, 0, 0), dict[bytes, bytes]()
    snapshots: list[tuple[int, bytes | None, int]] = [(0, None, 0)]
    while folding.position < len(log):
        at = folding.position
        outs = folding.apply(Record(0, at, None, log[at], -1 if times is None else times[at]))
        found |= {out.key or b"": out.value or b"" for out in outs}
        if deaths is not None and not folding.rewinding:
            if deaths.random() < 0.3:
                snapshots.append((folding.next, folding.dump(), folding.low()))
            if deaths.random() < 0.05:
                position, state, low = deaths.choice(snapshots)
                folding = Folding(fold, 0, position, state, low)
    told = [records.decode("quality", value) for value in found.values()]
    for part in told:
        part["counts"].pop("moved", None)
    return told


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize(("task", "truth", "said"), TASKS)
def test_columns_count_what_dicts_count(task: str, truth: str, said: str, seed: int) -> None:
    log, joining = list(Log(seed, truth, said).values()), joining_of(task, truth)
    for times in (None, moments(len(log), seed)):
        expected = parts(DictFold(joining), log, times=times)
        assert parts(JoinFold(joining), log, times=times) == expected
        assert parts(JoinFold(joining), log, random.Random(seed), times) == expected


def _together(seed: int) -> bool:
    log, joining = list(Log(seed, "boolean", "binary").values()), joining_of("auto", "boolean")
    return parts(JoinFold(joining), log, times=moments(len(log), seed)) != parts(JoinFold(joining), log)


def test_it_shows_that_records_of_a_moment_are_taken_as_one() -> None:
    assert any(_together(seed) for seed in range(12))


def counts(told: Sequence[dict[str, Any]]) -> Counter[str]:
    return sum((Counter(part["counts"]) for part in told), Counter[str]())


def test_the_logs_have_everything_that_can_happen() -> None:
    found = Counter[str]()
    for seed in range(12):
        found += counts(parts(JoinFold(joining_of("auto", "boolean")), list(Log(seed, "boolean", "binary").values())))
    expected = {
        "events", "labels", "pairs", "missing", "late_labels", "unmatched", "duplicates", "corrections", "out_of_order",
        "repeated_predictions", "repeated_labels", "gaps", "late_events", "untimed_events",
    }  # fmt: skip
    assert not expected - found.keys()


@pytest.mark.parametrize("seed", range(10))
def test_keys_whose_hashes_are_one_are_told_apart(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    log, joining = list(Log(seed, "boolean", "binary").values()), joining_of("auto", "boolean")
    times = moments(len(log), seed) if seed % 2 else None
    expected = parts(DictFold(joining), log, times=times)
    monkeypatch.setattr(sampling, "hashes", lambda keys: np.array([len(key) % 2 for key in keys], np.uint64))
    assert parts(JoinFold(joining), log, times=times) == expected
    assert parts(JoinFold(joining), log, random.Random(seed), times) == expected


def _blind(log: Sequence[bytes], joining: Joining) -> bool:
    return parts(JoinFold(joining), log) != parts(DictFold(joining), log)


def test_a_join_that_trusts_hashes_fails_the_same_comparison(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampling, "hashes", lambda keys: np.array([len(key) % 2 for key in keys], np.uint64))
    monkeypatch.setattr(pending.Pending, "_wrong", lambda *_: np.zeros(0, np.int64))
    assert any(
        _blind(list(Log(seed, "boolean", "binary").values()), joining_of("auto", "boolean")) for seed in range(3)
    )


@pytest.mark.parametrize("broken", ["near", "due", "labelled"])
def test_a_join_with_a_fault_fails_the_same_comparison(broken: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if broken == "near":  # the event before is not looked at where a key has many rows
        monkeypatch.setattr(rows.Runs, "_times", lambda self, spans, wanted, far: (wanted.times, wanted.times))
    elif broken == "due":  # what is due is not gone
        monkeypatch.setattr(pending.Due, "take", lambda self, keep: 0)
    else:  # no event has a label
        monkeypatch.setattr(meeting, "_owning", lambda found: np.zeros(len(found.owners), bool))
    assert any(
        _blind(list(Log(seed, "boolean", "binary").values()), joining_of("auto", "boolean")) for seed in range(6)
    )


def test_small_runs_and_much_to_forget_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "MOST", 64)
    monkeypatch.setattr(rows, "FEW", 1)
    for seed in range(6):
        log, joining = list(Log(seed, "boolean", "binary", 120).values()), joining_of("auto", "boolean")
        assert parts(JoinFold(joining), log) == parts(DictFold(joining), log)


def test_of_a_key_with_many_rows_few_are_looked_at() -> None:
    fold = JoinFold(joining_of("auto", "boolean"))
    folding = Folding(fold, 0, 0)
    for at in range(200):
        folding.apply(Record(0, at, None, _busy(1000 + at * 100, at * 20)))
    state = folding.state
    new = state.pending.meet(_one(state, 15_050))
    assert len(state.pending) == 4000
    assert len(new.rows.ids) < 200


def _busy(time: int, offset: int) -> bytes:
    """Twenty events of one key, 5 ms apart."""
    return Samples(
        Maker("flights", 1, "events", "active", "active", 1.0, "assigned", "late", "v1"),
        np.zeros(20, np.int64),
        offset + np.arange(20),
        time + 5 * np.arange(20),
        [b"hot"] * 20,
        {"late": pl.Series("late", [0.5] * 20)},
    ).encode()


def _one(state: State, time: int) -> rows.Rows:
    ids, keys, sizes = state.pending.put([b"hot"], time)
    return rows.Rows(
        ids, np.array([time]), np.array([rows.LABEL], np.int32), np.array([0]), np.array([1], np.uint8),
        np.array([0]), np.array([-1], np.int16), np.zeros((1, 2)), np.zeros((1, 0), np.uint8), keys, sizes,
    )  # fmt: skip
