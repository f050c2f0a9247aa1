"""Small values that cross package borders."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal

# Why an event became a dead letter; docs/operations.md says of each what to do.
Reason = Literal[
    "tombstone",
    "oversize",
    "bad_header",
    "unknown_schema",
    "refused_schema",
    "unresolvable",
    "truncated",
    "trailing_bytes",
    "malformed",
    "not_json",
    "missing_field",
    "wrong_type",
    "check_failed",
    "missing_value",
    "missing_partition",
    "wrong_shape",
    "not_finite",
    "model_failed",
    "model_timed_out",
    "oversize_inference",
    "quarantined",
]


@dataclass(frozen=True, slots=True)
class Rejection:
    """One message or frame row that was not accepted.

    row: index of the message in the batch (decoder) or of the row in the frame (model), from 0.
    detail: a sentence for a person. exception: the class of the error behind it, where there was one.
    """

    row: int
    reason: Reason
    detail: str
    exception: str = ""


@dataclass(frozen=True, slots=True)
class OutputField:
    """One named output of a model, as the inference record carries it.

    kind: `scalar` (one value a row), `label` (one value a row, a class), `vector` (a list of doubles of fixed length;
    `classes` names its places where the model knows them) or `map` (a double for each of `classes`).
    avro: for scalar and label one of double, float, long, int, boolean, string.
    """

    name: str
    kind: str
    avro: str
    classes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Lineage:
    """What made an inference; the same for every row of a batch that one model version scored.

    assigned: the arm that the event belongs to by its key, which scored it unless `fallback` says why another one did.
    propensity: the share of events that is assigned to that arm, from 0 to 1.
    """

    deployment: str
    revision: int
    arm: str
    model: str
    version: str
    event_schema: str
    source_topic: str
    assigned: str = ""
    propensity: float = 1.0
    fallback: str = ""


# The fields that every inference record has besides outputs and echo: first those of its lineage, then its event's.
LINEAGE = tuple(field.name for field in fields(Lineage))
POSITION = ("source_partition", "source_offset", "event_time")


def as_bytes(value: str | bytes | None) -> bytes | None:
    """Return a key, value or header, for which confluent-kafka's types allow text, as bytes."""
    return value.encode() if isinstance(value, str) else value
