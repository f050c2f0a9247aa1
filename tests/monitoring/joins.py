"""Made-up samples and labels, in any order and with repeats, and the truth about them from plain sets and dicts."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import pairwise

import numpy as np
import polars as pl

from models.samples import LabelCopies, Maker, Samples
from monitoring.cells import Group, Tables, merge, unpack
from monitoring.folds import Folding, Out, Record
from monitoring.join_state import Joining
from monitoring.joining import JoinFold
from schemas import records
from tests.monitoring.dict_judging import score_bin

DEPLOYMENT = "flights"
WITHIN = 50  # s
JOINING = Joining(
    DEPLOYMENT, "quality", WITHIN, "late", "auto", "boolean", ("revenue",), labels=2, tick_ms=10_000, tick_grace_ms=5000
)
ARMS = {"active": "assigned", "next": "shadow"}
FAR = 100_000_000
REWARDS = "rewards"


@dataclass(frozen=True)
class AnEvent:
    key: bytes
    time: int
    partition: int
    offset: int
    scores: tuple[float, ...]  # of the arms
    origin: str


@dataclass(frozen=True)
class ALabel:
    key: bytes
    time: int
    partition: int
    offset: int
    value: bool
    revenue: float


def sample(arm: str, events: list[AnEvent], deployment: str = DEPLOYMENT, share: float = 1.0) -> bytes:
    """A record of samples of one arm. share: of the events, that are assigned to it."""
    at = list(ARMS).index(arm)
    events = sorted(events, key=lambda each: (each.partition, each.offset))
    return Samples(
        Maker(deployment, 1, "events", arm, arm, share, ARMS[arm], "late", f"{arm}-1"),
        np.array([each.partition for each in events], np.int64),
        np.array([each.offset for each in events], np.int64),
        np.array([each.time for each in events], np.int64),
        [each.key for each in events],
        {"late": pl.Series("late", [each.scores[at] for each in events], pl.Float64)},
        {"origin": pl.Series("origin", [each.origin for each in events], pl.String)},
    ).encode()


def copies(follows: int, position: int, watermark: int, labels: list[ALabel], partition: int = 0) -> bytes:
    """A record of copied labels."""
    return LabelCopies(
        DEPLOYMENT,
        "labels",
        partition,
        follows,
        position,
        watermark,
        np.array([each.offset for each in labels], np.int64),
        np.array([each.time for each in labels], np.int64),
        [each.key for each in labels],
        pl.Series("value", [each.value for each in labels], pl.Boolean),
        {"revenue": pl.Series("revenue", [each.revenue for each in labels], pl.Float64)},
    ).encode()


@dataclass
class World:
    """Events and labels of a seed, and a log of them in a random order."""

    seed: int
    share: float = 1.0
    events: list[AnEvent] = field(default_factory=list)
    labels: list[ALabel] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        self._draw_events(self.random.randint(5, 60))
        self._draw_labels()

    def _draw_events(self, count: int) -> None:
        draw, offsets = self.random, Counter[int]()
        times = [0, 0, *sorted(draw.randrange(0, 300_000) for _ in range(count))]
        for at, time in enumerate(times):
            partition = at if at < 2 else draw.randrange(2)
            key = b"%d" % draw.randrange(12) if at > 1 else b"first"
            jitter = draw.choice((0, 0, 0, 1000, 20_000))
            scores = tuple(draw.choice((0.0, 0.25, 0.5, 0.625, 1.0, draw.random())) for _ in ARMS)
            event = AnEvent(key, max(time - jitter, 0), partition, offsets[partition], scores, draw.choice("ABC"))
            offsets[partition] += 1
            self.events.append(event)

    def _draw_labels(self) -> None:
        draw, drawn = self.random, []
        for event in self.events:
            for _ in range(draw.choice((0, 1, 1, 1, 2, 3))):
                delay = draw.choice((0, 1, draw.randrange(0, 60_000), WITHIN * 1000, WITHIN * 1000 + 1))
                drawn.append((event.time + delay, event.key))
        drawn += [(draw.randrange(0, 300_000), b"nobody") for _ in range(3)]
        drawn.sort(key=lambda each: each[0] + draw.choice((0, 0, 15_000)))
        offsets = Counter[int]()
        for time, key in drawn:
            partition = draw.randrange(2)
            self.labels.append(
                ALabel(key, time, partition, offsets[partition], draw.random() < 0.5, draw.choice((1.0, 2.5)))
            )
            offsets[partition] += draw.choice((1, 1, 2))  # transactions leave holes in offsets

    def log(self) -> list[bytes]:
        """Every record once or more, sources in order, then what lets all of it end."""
        streams = {(arm, partition): list(self._samples(arm, partition)) for arm in ARMS for partition in range(2)}
        first = [stream.pop(0)[1] for stream in streams.values()]  # each source partition is known before clocks move
        for partition in range(2):
            streams["labels", partition] = [(0, value) for value in self._copies(partition)]
        merged = []
        while left := [name for name, stream in streams.items() if stream]:
            name = self.random.choice(left)
            shadow = streams["next", name[1]]
            if name[0] == "active" and shadow and shadow[0][0] < streams[name][0][0] - 50_000:
                name = ("next", name[1])  # it is as late as its events may be
            merged.append(streams[name].pop(0)[1])
        return [*first, *merged, *self._end()]

    def _samples(self, arm: str, partition: int) -> Iterator[tuple[int, bytes]]:
        mine = [each for each in self.events if each.partition == partition]
        yield 0, sample(arm, mine[:1], share=self.share)
        at = 1
        while at < len(mine):
            size = self.random.randint(1, 6)
            some = mine[at : at + size]
            yield max(each.time for each in some), sample(arm, some, share=self.share)
            if self.random.random() < 0.15:
                yield 0, sample(arm, some, share=self.share)  # scored once more: offsets were set back
            at += size

    def _copies(self, partition: int) -> Iterator[bytes]:
        """What copiers write that die now and then, lose what was on its way, and start over somewhere before."""
        mine = [each for each in self.labels if each.partition == partition]
        acked, at, follows, watermark = (0, -1, 0), 0, -1, 0
        lost = False
        while at < len(mine):
            size = self.random.randint(1, 4)
            some = mine[at : at + size]
            watermark = max([watermark, *(each.time for each in some)])
            position = some[-1].offset + 1
            if self.random.random() < 0.1:
                lost = True
            else:
                yield copies(follows, position, watermark, some, partition)
                if self.random.random() < 0.1:
                    yield copies(position, position, watermark, [], partition)
            at, follows = at + len(some), position
            if not lost and self.random.random() < 0.5:
                acked = (at, follows, watermark)
            if (lost and self.random.random() < 0.5) or self.random.random() < 0.2:
                (at, follows, watermark), lost = acked, False
        if lost:
            yield from self._again(acked, mine, partition)

    def _again(self, acked: tuple[int, int, int], mine: list[ALabel], partition: int) -> Iterator[bytes]:
        at, follows, watermark = acked
        for label in mine[at:]:
            watermark = max(watermark, label.time)
            yield copies(follows, label.offset + 1, watermark, [label], partition)
            follows = label.offset + 1

    def _end(self) -> Iterator[bytes]:
        for partition in range(2):
            last = max((each.offset for each in self.labels if each.partition == partition), default=-1) + 1
            yield copies(last if last else -1, max(last, 1), FAR, [], partition)
        for partition in range(2):
            yield sample("active", [AnEvent(b"last", FAR, partition, 10_000, (0.5, 0.5), "A")])
        for partition in range(2):
            yield copies(0, max(1, *(each.offset + 1 for each in self.labels)), FAR, [], partition)

    def truth(self) -> Truth:
        """What the records say, from plain sets and dicts."""
        owned: dict[AnEvent, list[ALabel]] = {event: [] for event in self.events}
        unmatched = 0
        for label in sorted(self.labels, key=lambda each: (each.time, each.partition, each.offset)):
            before = [e for e in self.events if e.key == label.key and e.time <= label.time]
            last = max(before, key=lambda e: (e.time, e.partition, e.offset), default=None)
            if last is None or label.time - last.time > WITHIN * 1000:
                unmatched += 1
            else:
                owned[last].append(label)
        return Truth(owned, unmatched)


@dataclass
class Truth:
    owned: dict[AnEvent, list[ALabel]]
    unmatched: int

    def counts(self) -> dict[str, int]:
        chains = [chain for chain in self.owned.values() if chain]
        told = [[(each.value, each.revenue) for each in chain] for chain in chains]
        corrections = sum(sum(a != b for a, b in pairwise(chain)) for chain in told)
        return {
            "pairs": len(chains),
            "missing": len(self.owned) - len(chains),
            "unmatched": self.unmatched,
            "corrections": corrections,
            "duplicates": sum(map(len, chains)) - len(chains) - corrections,
            "events": len(self.owned),
            "labels": sum(map(len, chains)) + self.unmatched,
        }

    def outcomes(self, arm: str, origin: str | None) -> Counter[tuple[int, bool]]:
        """Of each labelled event the bin of an arm's score and what was true in the end."""
        at = list(ARMS).index(arm)
        return Counter(
            (score_bin(event.scores[at]), chain[-1].value)
            for event, chain in self.owned.items()
            if chain and origin in (None, event.origin)
        )

    def revenue(self) -> tuple[int, float]:
        found = [chain[-1].revenue for chain in self.owned.values() if chain]
        return len(found), sum(found)


@dataclass
class Reader:
    """Folds a log, dying and starting over from any earlier snapshot; parts are kept by their numbers."""

    log: list[bytes]
    fold: JoinFold
    times: list[int] | None = None  # of the records; None where they have none
    parts: dict[bytes, bytes] = field(default_factory=dict)
    rewards: dict[bytes, bytes] = field(default_factory=dict)

    def run(self, deaths: random.Random | None = None) -> Reader:
        folding, snapshots = Folding(self.fold, 0, 0), [(0, None, None)]
        for _ in range(100_000):
            at = folding.position
            if at >= len(self.log):
                break
            time = -1 if self.times is None else self.times[at]
            self.take(folding.apply(Record(0, at, None, self.log[at], time)))
            if folding.rewinding or deaths is None:
                continue
            if deaths.random() < 0.2:
                snapshots.append((folding.next, folding.dump(), folding.low()))
            if deaths.random() < 0.05:
                position, state, low = deaths.choice(snapshots)
                folding = Folding(self.fold, 0, position, state, low)
        self.folding = folding
        return self

    def take(self, outs: list[Out]) -> None:
        for out in outs:
            assert out.key is not None
            assert out.value is not None
            kept = self.rewards if out.topic == REWARDS else self.parts
            assert kept.setdefault(out.key, out.value) == out.value

    def total(self) -> tuple[Tables, Counter[str]]:
        tables: Tables = {}
        counts = Counter[str]()
        for value in self.parts.values():
            part = records.decode("quality", value)
            counts.update(part["counts"])
            merge(tables, {_group(group): unpack(group["cells"]) for group in part["groups"]})
        return tables, counts


def moments(count: int, seed: int) -> list[int]:
    """Times (ms) of the records of a log: some moments have many, a few records none; the last ends what is held."""
    draw, now, found = random.Random(seed), 2 * FAR, []
    for _ in range(count - 1):
        now += draw.choice((0, 0, 0, 5, 50, 150, 1000, -40))
        found.append(-1 if draw.random() < 0.03 else now)
    return [*found, -1]


def _group(record: dict[str, object]) -> Group:
    return Group(*(str(record[name]) for name in Group._fields))


def joining(**changes: object) -> JoinFold:
    return JoinFold(replace(JOINING, **changes))  # type: ignore[arg-type]
