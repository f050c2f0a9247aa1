"""One inference as an application sees it: what was predicted, from which event, by which model version."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from schemas.values import LINEAGE, POSITION

ROLE = "penstock.role"  # a field property of the inference schema: "output" or "echo"
_ALWAYS = (*LINEAGE, *POSITION)


@dataclass(frozen=True, slots=True)
class Position:
    """Where a record stands: topic, partition, offset; its key, and the time of publishing (UTC)."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    timestamp: datetime.datetime


@dataclass(frozen=True, slots=True)
class Inference:
    """The scored event.

    `inference["late_probability"]` is an output or an echoed field of the event. `outputs` holds what the model said,
    `echo` the fields that the deployment repeats from the event. event_time is None where the event names none.
    assigned: the arm that the event belongs to by its key, and propensity the share of events that do; where another
    arm scored, fallback says why.
    """

    deployment: str
    revision: int
    arm: str
    model: str
    version: str
    event_schema: str
    source_topic: str
    assigned: str
    propensity: float
    fallback: str
    source_partition: int
    source_offset: int
    event_time: datetime.datetime | None
    outputs: Mapping[str, Any]
    echo: Mapping[str, Any]
    position: Position

    def __getitem__(self, name: str) -> Any:
        return self.outputs[name] if name in self.outputs else self.echo[name]

    @property
    def key(self) -> bytes | None:
        """The message's key, which is the event's."""
        return self.position.key

    @classmethod
    def of(cls, record: Mapping[str, Any], schema: Mapping[str, Any], position: Position) -> Inference:
        """From a decoded record and its schema; KeyError names what an inference must have and this record lacks."""
        roles = {field["name"]: field.get(ROLE, "output") for field in schema["fields"]}
        values = {name: value for name, value in record.items() if name not in _ALWAYS}
        return cls(
            **{name: record[name] for name in _ALWAYS},
            outputs={name: value for name, value in values.items() if roles[name] == "output"},
            echo={name: value for name, value in values.items() if roles[name] != "output"},
            position=position,
        )
