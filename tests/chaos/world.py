"""What a monitor is fed: traffic that moves, samples and labels, the same however it is spread; and the truth of it."""

from __future__ import annotations

import random
import time
from collections import Counter
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from xxhash import xxh64_intdigest

from monitoring.judging import FIXED
from tests.monitoring.dict_judging import score_bin
from tests.monitoring.joins import ARMS, ALabel, AnEvent

STEPS = 800  # seconds of record time
STEP_MS = 1000
ROWS = 60  # events of a step that are profiled
WITHIN = 20_000  # ms, as tests.integration.monitor_process has it
KEYS = 3000
ORIGINS = ("", "A", "B", "C")
SHIFTS = ((300, 360, 1.0), (480, 540, 2.0), (660, 700, -1.0))  # steps from, to, and standard deviations of a feature
WRONG = (600, 680)  # steps in which half of the predictions are wrong


@dataclass(frozen=True, slots=True)
class Layout:
    """How the same input is spread. sources: partitions of the input. workers, monitors: processes."""

    name: str
    sources: int
    workers: int
    monitors: int = 1

    def partition(self, key: bytes) -> int:
        """Return the source partition of a key."""
        return xxh64_intdigest(key) % self.sources

    def worker(self, partition: int) -> int:
        """Return who scores a source partition."""
        return partition % self.workers


@dataclass
class World:
    """Events and labels of a seed, by step. No two of one kind have the same time, so there is one truth."""

    seed: int
    base: int = field(default_factory=lambda: time.time_ns() // 1_000_000 // STEP_MS * STEP_MS - 2 * 3_600_000)
    events: list[list[AnEvent]] = field(default_factory=lambda: [[] for _ in range(STEPS)])
    labels: list[list[ALabel]] = field(default_factory=lambda: [[] for _ in range(STEPS + 30)])

    def __post_init__(self) -> None:
        draw, number = random.Random(self.seed), 0
        taken: set[int] = set()
        for step in range(STEPS):
            for at in range(draw.randint(4, 14)):
                number += 1
                time = self.base + STEP_MS * step + 60 * at + draw.randrange(60)
                scores = (draw.random(), draw.random())
                event = AnEvent(b"key %d" % draw.randrange(KEYS), time, 0, number, scores, draw.choice("ABC"))
                self.events[step].append(event)
                for _ in range(draw.choice((0, 1, 1, 1, 1, 2))):
                    self._label(draw, step, event, taken)

    def _label(self, draw: random.Random, step: int, event: AnEvent, taken: set[int]) -> None:
        time = event.time + draw.randrange(0, WITHIN + 2000)
        while time in taken:
            time += 1
        taken.add(time)
        right = draw.random() < (0.5 if WRONG[0] <= step < WRONG[1] else 0.85)
        value, revenue = (event.scores[0] >= 0.5) == right, draw.choice((1.0, 2.5))
        self.labels[(time - self.base) // STEP_MS].append(ALabel(event.key, time, 0, 0, value, revenue))

    @staticmethod
    def shift(step: int) -> float:
        """Return by how much a feature is off in a step."""
        return next((by for first, last, by in SHIFTS if first <= step < last), 0.0)

    def placed(self, event: AnEvent, layout: Layout) -> AnEvent:
        """Return an event at its place in a layout."""
        return replace(event, partition=layout.partition(event.key))

    @cached_property
    def truth(self) -> dict[str, Any]:
        """What the join must count, from plain dicts, in the form of `monitored.joined`."""
        events = [event for step in self.events for event in step]
        labels = sorted((label for step in self.labels for label in step), key=lambda each: each.time)
        by_key: dict[bytes, list[AnEvent]] = {}
        for event in sorted(events, key=lambda each: each.time):
            by_key.setdefault(event.key, []).append(event)
        final: dict[AnEvent, ALabel] = {}
        unmatched = 0
        for label in labels:
            owner = next((each for each in reversed(by_key.get(label.key, [])) if each.time <= label.time), None)
            if owner is None or label.time - owner.time > WITHIN:
                unmatched += 1
            else:
                final[owner] = label
        return {
            "pairs": len(final),
            "missing": len(events) - len(final),
            "labels": len(labels),
            "unmatched": unmatched,
            "outcomes": {
                (arm, origin): Counter(
                    (score_bin(event.scores[place]), label.value)
                    for event, label in final.items()
                    if origin in ("", event.origin)
                )
                for place, arm in enumerate(ARMS)
                for origin in ORIGINS
            },
            "revenue": (len(final), round(sum(label.revenue for label in final.values()) * FIXED)),
        }
