"""What a verification found: counts, examples and notes, and whether anything is wrong."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

MOST_EXAMPLES = 20
EXAMPLES_OF_A_KIND = 5

COUNTS = {
    "events": "events in the range",
    "inferences": "inferences of them",
    "dead_letters": "dead letters of them",
    "missing": "events with neither",
    "twice": "inferences and dead letters beyond the first of an event",
    "out_of_order": "inferences or dead letters behind those of later events of the same partition",
    "different": "records that are not what the event, the bundle and the declaration give",
    "wrong_arm": "inferences of another arm than the one that their event is due to",
    "wrong_version": "inferences of another version than control pins under their revision",
    "wrong_revision": "inferences of another revision than the workers told for their offset",
    "without_event": "inferences or dead letters of an event that the input topic does not hold",
    "unreadable": "records of the output or dead-letter topic that are neither",
    "unknown_revision": "inferences of a declaration that was not given",
    "unknown_version": "inferences of a model version that cannot be loaded",
    "gone": "inferences and dead letters whose event retention removed",
    "unjudged": "events that need no inference here, or whose inferences retention may have removed",
    "within_tolerance": "inferences that differ, and no more than their bundle's proof allows",
    "on_trust": "inferences of an arm that stepped in, where the reason cannot be seen again",
    "not_recomputed": "dead letters that were left alone, because scoring their event may hang or crash",
}
WRONG = (
    "missing",
    "twice",
    "out_of_order",
    "different",
    "wrong_arm",
    "wrong_version",
    "wrong_revision",
    "without_event",
    "unreadable",
    "unknown_revision",
    "unknown_version",
)


@dataclass(frozen=True, slots=True)
class Example:
    """One thing that is wrong. event, record: TOPIC/PARTITION@OFFSET of the source event and of the record found."""

    what: str
    event: str
    record: str
    detail: str


@dataclass(slots=True)
class Findings:
    """What `verify` found.

    counts: see COUNTS. ranges: per source partition the first offset and the one behind the last. letters: dead
    letters whose event does now what the text says, by reason. versions: inferences per `NAME@VERSION`; arms: per arm.
    repeats: the deployment delivers at least once, so that an event may have several records. beside: what was found of
    arms that score every event beside the others, by name.
    """

    source: str
    output: str
    dead_letters: str
    ranges: dict[int, tuple[int, int]]
    repeats: bool = False
    counts: Counter[str] = field(default_factory=Counter)
    letters: Counter[str] = field(default_factory=Counter)
    versions: Counter[str] = field(default_factory=Counter)
    arms: Counter[str] = field(default_factory=Counter)
    examples: list[Example] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    seconds: float = 0.0
    beside: dict[str, Findings] = field(default_factory=dict)
    _shown: Counter[str] = field(default_factory=Counter)

    @property
    def wrong(self) -> int:
        """How many things are wrong; 0: every event of the range is accounted for and every inference holds."""
        mine = sum(self.counts[name] for name in WRONG if name != "twice" or not self.repeats)
        return mine + sum(each.wrong for each in self.beside.values())

    def wants(self, what: str) -> bool:
        """Say whether another example of this kind would be kept."""
        return len(self.examples) < MOST_EXAMPLES and self._shown[what] < EXAMPLES_OF_A_KIND

    def found(self, what: str, *, event: str = "", record: str = "", detail: str = "", count: int = 1) -> None:
        """Count something wrong, and keep it as an example while there are few."""
        self.counts[what] += count
        if self.wants(what):
            self._shown[what] += 1
            self.examples.append(Example(what, event, record, detail))

    def note(self, text: str) -> None:
        """Keep a sentence for the reader, once."""
        if text not in self.notes:
            self.notes.append(text)

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON takes it."""
        return {
            "ok": not self.wrong,
            "source": self.source,
            "output": self.output,
            "dead_letter_topic": self.dead_letters,
            "ranges": {str(partition): list(ends) for partition, ends in sorted(self.ranges.items())},
            **{name: self.counts[name] for name in COUNTS},
            "letters": dict(self.letters),
            "versions": dict(self.versions),
            "arms": dict(self.arms),
            "notes": self.notes,
            "examples": [
                {"what": each.what, "event": each.event, "record": each.record, "detail": each.detail}
                for each in self.examples
            ],
            "seconds": round(self.seconds, 3),
            **({"beside": {arm: each.to_dict() for arm, each in self.beside.items()}} if self.beside else {}),
        }
