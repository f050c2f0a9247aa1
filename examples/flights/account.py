"""The account: every event ended as exactly one inference or one dead letter, or here is what did not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import polars as pl

from examples.flights.score import auc_by_month

PLACE = ["source_partition", "source_offset"]  # what lineage says about an event's place in its topic
SCORED_SCHEMA = {
    "source_partition": pl.Int32,
    "source_offset": pl.Int64,
    "flight_id": pl.String,
    "late_probability": pl.Float64,
}
LETTER_SCHEMA = {"source_partition": pl.Int32, "source_offset": pl.Int64, "reason": pl.String, "unaltered": pl.Boolean}


@dataclass(frozen=True, slots=True)
class Sent:
    """What the producer knows: flights, corrupt events besides, and the events in the topic, per partition."""

    flights: int
    corrupt: int
    in_topic: Mapping[int, int]


@dataclass(frozen=True, slots=True)
class ArmAccount:
    """What became of the events in one arm. events, inferences, letters, duplicates, lost, altered: numbers of events.

    duplicates: further results of an event that already has one; lost: events without a result; altered: dead letters
    that are not their event byte for byte; reasons: dead letters by reason.
    """

    arm: str
    sent: Sent
    events: int
    inferences: int
    letters: int
    duplicates: int
    lost: int
    altered: int
    reasons: Mapping[str, int]

    @property
    def problems(self) -> list[str]:
        """What does not balance, a sentence each."""
        found = {
            f"{self.sent.flights + self.sent.corrupt:,} events were sent, {self.events:,} are in the topic": (
                self.sent.flights + self.sent.corrupt != self.events
            ),
            f"{self.events:,} events in, but {self.inferences:,} inferences + {self.letters:,} dead letters": (
                self.events != self.inferences + self.letters
            ),
            f"{self.duplicates:,} duplicates": self.duplicates != 0,
            f"{self.lost:,} events without a result": self.lost != 0,
            f"{self.altered:,} dead letters differ from their event": self.altered != 0,
            f"{self.sent.corrupt:,} corrupt events, but {self.letters:,} dead letters": (
                self.sent.corrupt != self.letters
            ),
        }
        return [f"{self.arm}: {sentence}" for sentence, wrong in found.items() if wrong]


def balance(arm: str, sent: Sent, scored: pl.DataFrame, letters: pl.DataFrame) -> ArmAccount:
    """Hold results against events.

    scored: one row per inference (SCORED_SCHEMA); letters: one row per dead letter (LETTER_SCHEMA).
    """
    results = pl.concat([scored.select(PLACE), letters.select(PLACE)])
    limits = pl.DataFrame(
        {"source_partition": list(sent.in_topic), "events": list(sent.in_topic.values())},
        schema={"source_partition": pl.Int32, "events": pl.Int64},
    )
    known = results.unique().join(limits, on="source_partition")
    found = known.filter(pl.col("source_offset").is_between(0, pl.col("events") - 1)).height
    events = sum(sent.in_topic.values())
    reasons = dict(letters.group_by("reason").len().sort("len", "reason", descending=[True, False]).iter_rows())
    return ArmAccount(
        arm=arm,
        sent=sent,
        events=events,
        inferences=scored.height,
        letters=letters.height,
        duplicates=results.height - results.unique().height,
        lost=events - found,
        altered=int((~letters["unaltered"]).sum()),
        reasons=reasons,
    )


def auc_after_training(scored: pl.DataFrame, outcomes: pl.DataFrame) -> dict[int, float]:
    """AUC by month from April, against what really happened.

    scored: SCORED_SCHEMA; outcomes: flight_id, month, late.
    """
    later = outcomes.filter(pl.col("month") > 3)
    joined = later.join(scored.select("flight_id", "late_probability"), on="flight_id")
    return auc_by_month(joined) if joined.height else {}
