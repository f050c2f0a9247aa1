"""Small values that cross package borders."""

from __future__ import annotations

from dataclasses import dataclass, fields


@dataclass(frozen=True, slots=True)
class Rejection:
    """One message or frame row that was not accepted.

    row: index of the message in the batch (decoder) or of the row in the frame (model), from 0.
    reason: a word of a closed vocabulary, such as `truncated`; detail: a sentence for a person.
    """

    row: int
    reason: str
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
    """What made an inference; the same for every row of a batch that one model version scored."""

    deployment: str
    revision: int
    arm: str
    model: str
    version: str
    event_schema: str
    source_topic: str


# The fields that every inference record has besides outputs and echo: first those of its lineage, then its event's.
LINEAGE = tuple(field.name for field in fields(Lineage))
POSITION = ("source_partition", "source_offset", "event_time")
