"""What is joined, and the state that the join of a partition of samples has between its records."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

from monitoring.clocks import Clocks
from monitoring.counting import Source
from monitoring.formulas import Formula
from monitoring.holding import Held
from monitoring.pending import Pending
from monitoring.rewards import Rewards
from monitoring.rows import Rows, Window
from monitoring.tally import View
from monitoring.ticks import Ticks

VALUES = 200  # of a segment, and classes, that are told apart; further ones are `other`
OTHER = "other"


@dataclass(frozen=True)
class Joining:
    """What is joined. output: None where the models have one only. within: s. labels: partitions; 0 without labels.

    numbers: of labels that are told; fields: further ones that formulas need, and outputs likewise.
    """

    deployment: str
    topic: str  # of quality
    within: int = 3 * 86_400
    output: str | None = None
    task: str = "auto"
    truth: str = ""  # kind of the label's field: boolean, text or double
    numbers: tuple[str, ...] = ()
    labels: int = 0
    error_range: float | None = None
    grace_ms: int = 60_000
    tick_ms: int = 60_000
    tick_grace_ms: int = 30_000
    fields: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    formulas: tuple[Formula, ...] = ()
    rewards: str = ""  # topic; empty where no labels are declared

    @property
    def window(self) -> Window:
        return Window(self.within * 1000, self.grace_ms)

    @cached_property
    def extras(self) -> int:
        """The number of columns that rows have beside their values."""
        return max(len(self.numbers) + len(self.fields), len(self.outputs))


@dataclass(slots=True)
class State:
    """The state of one partition of samples. taken: the next offset by partition of labels. known: values told apart.

    sources: who predicted. segments: names of event fields. held: what comes next, not taken yet. back: what is read
    again; again: its rows that are not kept yet.
    """

    partition: int
    clocks: Clocks
    pending: Pending
    ticks: Ticks
    taken: dict[int, int] = field(default_factory=dict)
    rewards: Rewards = field(default_factory=Rewards)
    known: dict[str, list[str]] = field(default_factory=dict)
    sources: list[Source] = field(default_factory=list)
    segments: list[str] = field(default_factory=list)
    held: Held = field(default_factory=Held)
    back: Held = field(default_factory=Held)
    again: list[Rows] = field(default_factory=list)
    _codes: dict[str, dict[str, int]] = field(default_factory=dict)

    def code(self, kind: str, value: str) -> int:
        """Return the number of a value of a kind, from 1 on; VALUES + 1 where there are too many; the first stay."""
        known = self.known.setdefault(kind, [])
        codes = self._codes.setdefault(kind, {each: at for at, each in enumerate(known, 1)})
        if value not in codes and len(known) < VALUES:
            known.append(value)
            codes[value] = len(known)
        return codes.get(value, VALUES + 1)

    def told_apart(self, kind: str, value: str) -> str:
        """Return the value, or OTHER where there are too many of its kind."""
        return value if self.code(kind, value) <= VALUES else OTHER

    def source(self, source: Source) -> int:
        """Return the number of who predicts."""
        if source not in self.sources:
            self.sources.append(source)
        return self.sources.index(source)

    def view(self, segment: int, code: int) -> View:
        """Return a segment's name and the value of a number."""
        name = self.segments[segment]
        return name, self.known[f"segment {name}"][code - 1] if code <= VALUES else OTHER
