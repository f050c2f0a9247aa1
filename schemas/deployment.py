"""A deployment's declaration: what one YAML file says, as values that every package reads."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from schemas.errors import ArmUnknown

Framing = Literal["auto", "confluent", "single_object", "json"]
Delivery = Literal["exactly_once", "at_least_once"]
Role = Literal["active", "canary", "challenger", "shadow", "fallback"]
Otherwise = Literal["dead_letter", "null", "pass"]
TOPIC = r"^[A-Za-z0-9._-]{1,249}$"
_UNITS = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "kB": 1_000, "MB": 1_000_000, "GB": 1_000_000_000}


def parse_size(text: object) -> object:
    """`1MiB` or a plain number of bytes, as a number of bytes; anything else is left for pydantic to refuse."""
    if isinstance(text, str) and (match := re.fullmatch(r"(\d+)\s*([A-Za-z]*)", text)) and (match[2] or "B") in _UNITS:
        return int(match[1]) * _UNITS[match[2] or "B"]
    return text


class Declared(BaseModel):
    """Strict base: an unknown key is an error, values do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class Check(Declared):
    """A declared range, set or pattern of one field, and what happens to an event that breaks it."""

    min: float | None = None
    max: float | None = None
    one_of: list[str | int | bool] | None = None
    pattern: str | None = None  # must match the whole string
    otherwise: Otherwise = "dead_letter"

    @model_validator(mode="after")
    def _says_something(self) -> Check:
        if self.min is None and self.max is None and self.one_of is None and self.pattern is None:
            raise ValueError("a check needs one of min, max, one_of, pattern")
        if self.pattern is not None:
            try:
                re.compile(self.pattern)
            except re.error as error:
                raise ValueError(f"pattern is not a regular expression: {error}") from error
        return self


class Input(Declared):
    topic: str = Field(pattern=TOPIC)
    schema_file: str = Field(alias="schema")
    framing: Framing = "auto"
    event_time: str | None = None
    start: Literal["earliest", "latest"] = "earliest"
    checks: dict[str, Check] = {}


class Output(Declared):
    topic: str = Field(pattern=TOPIC)
    echo: list[str] = []


class Arm(Declared):
    role: Role
    model: str = Field(pattern=r"^[A-Za-z0-9._-]+@[A-Za-z0-9._-]+$")  # NAME@TAG or NAME@UUID
    topic: str | None = Field(default=None, pattern=TOPIC)
    percent: float | None = Field(default=None, gt=0, le=100)

    @model_validator(mode="after")
    def _shadow_has_topic(self) -> Arm:
        if self.role == "shadow" and self.topic is None:
            raise ValueError("a shadow arm needs its own topic")
        return self


class Limits(Declared):
    dead_letters_per_minute: int = Field(default=1000, ge=0)  # 0: any number
    event_bytes: Annotated[int, BeforeValidator(parse_size)] = Field(default=1 << 20, ge=1)
    model_seconds: float = Field(default=10.0, gt=0, le=60)  # a run that takes longer is terminated
    model_memory: Annotated[int, BeforeValidator(parse_size)] = Field(default=1 << 30, ge=1)  # of a hierarchy's leaves


class Monitor(Declared):
    reference: Literal["bundle"] = "bundle"
    window_rows: int = Field(default=5000, ge=1)  # events that are compared with the reference at a time
    opens: float = Field(default=0.2, gt=0)  # PSI beyond chance from which a column deviates
    closes: float = Field(default=0.1, gt=0)  # PSI beyond chance below which it is calm again


class Deployment(Declared):
    """One scoring service: where events come from, which model versions score them, where inferences go."""

    name: str = Field(pattern=r"^[A-Za-z0-9._-]{1,100}$")
    input: Input
    output: Output
    delivery: Delivery = "exactly_once"
    latency_ms: int | None = Field(default=None, ge=1, le=60_000)  # p95 from record time to commit; None: soonest
    arms: list[Arm] = Field(min_length=1)
    missing: dict[str, float | int | str | bool] = {}
    monitor: Monitor | None = None
    limits: Limits = Limits()

    @model_validator(mode="after")
    def _one_active(self) -> Deployment:
        if [arm.role for arm in self.arms].count("active") != 1:
            raise ValueError("arms: exactly one arm must have the role active")
        return self

    def arm(self, role: str) -> Arm:
        """Return the arm of a role that has workers of its own. Raises ArmUnknown naming those there are."""
        found = [arm for arm in self.arms if arm.role == role]
        if not found:
            declared = ", ".join(arm.role for arm in self.arms)
            raise ArmUnknown(f"deployment {self.name} declares no arm {role!r}; its arms are {declared}")
        if role not in ("active", "shadow"):
            raise ArmUnknown(f"arm {role!r} has no worker of its own; run --arm active or --arm shadow")
        return found[0]

    def group(self, role: str) -> str:
        """Return the consumer group of an arm: a shadow reads the events on its own."""
        return f"penstock.{self.name}" + (f".{role}" if role == "shadow" else "")

    def output_topic(self, role: str) -> str:
        """Return where an arm's inferences go."""
        return (role == "shadow" and self.arm(role).topic) or self.output.topic

    def dead_letter_topic(self, role: str = "active") -> str:
        """Return where an arm's dead letters go: a shadow's go to a topic of its own, or each event would have two."""
        return f"{self.name}.dead-letters" + (f".{role}" if role == "shadow" else "")

    @property
    def profile_topic(self) -> str:
        return f"{self.name}.profiles"

    def revision(self, reader: Mapping[str, Any]) -> int:
        """Number of this state: 31 bits of the sha256 of it and its event schema, until the control topic counts.

        What changes no inference is left out, so that a limit on memory can be set without a new revision.
        """
        declaration = self.model_dump(mode="json", by_alias=True, exclude={"limits": {"model_memory"}})
        state = {"declaration": declaration, "schema": reader}
        canonical = json.dumps(state, sort_keys=True, separators=(",", ":"))
        return int.from_bytes(hashlib.sha256(canonical.encode()).digest()[:4], "big") >> 1

    def to_dict(self) -> dict[str, Any]:
        return self.model_dump(mode="json", by_alias=True, exclude_defaults=True)
