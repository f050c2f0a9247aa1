"""A deployment's declaration: what one YAML file says, as values that every package reads."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from schemas.declared import TOPIC, Declared, Framing, parse_duration, parse_size
from schemas.errors import ArmUnknown
from schemas.labels import LONGEST, PARTITIONS, Labels
from schemas.reserved import is_reserved, topics_of

Delivery = Literal["exactly_once", "at_least_once"]
Role = Literal["active", "canary", "challenger", "all", "shadow"]
Otherwise = Literal["dead_letter", "null", "pass"]
MODEL = r"^[A-Za-z0-9._-]+@[A-Za-z0-9._-]+$"  # NAME@TAG or NAME@UUID
NAME = r"^[A-Za-z0-9._-]{1,100}$"  # of a deployment
ARM = r"^[a-z0-9][a-z0-9_-]{0,49}$"  # its name
REFERENCE = r"^(bundle|rolling ([1-9]|1\d|2[0-8])d)$"  # what drift is compared with
ACTIVE, FALLBACK, CONSTANT = "active", "fallback", "constant"  # names of arms: the last two step in
ALONE = ("all", "shadow")  # roles of arms for which nobody steps in: each has an inference or a dead letter of an event


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
    checks: dict[str, Check] = Field(default={})


class Output(Declared):
    topic: str = Field(pattern=TOPIC)
    echo: list[str] = Field(default=[])


class Arm(Declared):
    role: Role
    model: str = Field(pattern=MODEL)
    name: str | None = Field(default=None, pattern=ARM)  # None: its role, with a number
    topic: str | None = Field(default=None, pattern=TOPIC)
    percent: float | None = Field(default=None, gt=0, lt=100)

    @model_validator(mode="after")
    def _has_what_its_role_needs(self) -> Arm:
        if self.role == "shadow" and self.topic is None:
            raise ValueError("a shadow arm needs its own topic")
        if self.role != "shadow" and self.topic is not None:
            raise ValueError(f"only a shadow has a topic of its own; inferences of {self.role} go to output.topic")
        if (self.role in ("canary", "challenger")) != (self.percent is not None):
            raise ValueError(
                "canary and challenger need percent, and no other arm has it: active has what they leave, all and "
                "shadow have every event"
            )
        if (self.role == ACTIVE) != (self.name == ACTIVE) and self.name is not None:
            raise ValueError("the active arm, and no other, is named active")
        return self


class Constant(Declared):
    """Outputs that stand at the end of a fallback chain."""

    constant: dict[str, float | int | str | bool | list[float]] = Field(min_length=1)


class Limits(Declared):
    dead_letters_per_minute: int = Field(default=1000, ge=0)  # 0: any number
    event_bytes: Annotated[int, BeforeValidator(parse_size)] = Field(default=1 << 20, ge=1)
    model_seconds: float = Field(default=10.0, gt=0, le=60)  # a run that takes longer is terminated
    model_memory: Annotated[int, BeforeValidator(parse_size)] = Field(default=1 << 30, ge=1)  # of a hierarchy's leaves


class Quotas(Declared):
    """What one slot may take of its machine; None: as much as there is."""

    events_per_second: int | None = Field(default=None, ge=1)
    cpu: float | None = Field(default=None, ge=0.05, le=16)  # cores: seconds of CPU time a second, all threads together
    memory: Annotated[int | None, BeforeValidator(parse_size)] = Field(default=None, ge=1)  # resident bytes


class Operations(Declared):
    """From when on workers are in trouble. Shares are of the events of the window."""

    no_traffic_seconds: int | None = Field(default=None, ge=30)  # without an event in a partition; None: as it may be
    silent_seconds: int = Field(default=60, ge=20)  # without a word of any slot of an arm
    stuck_seconds: int = Field(default=120, ge=20)  # of a partition where nothing is scored though events wait
    lag_seconds: int = Field(default=300, ge=1)  # for which the oldest event of a partition waits
    dead_letters: float = Field(default=0.01, ge=0, le=1)
    fallbacks: float = Field(default=0.01, ge=0, le=1)
    late: float = Field(default=0.05, ge=0, le=1)  # committed later than latency_ms
    window_seconds: int = Field(default=300, ge=60, le=3600)
    rows: int = Field(default=100, ge=1)  # events that a window must have for its shares to mean anything
    model_days: float | None = Field(default=None, gt=0)  # since a version that scores was made; None: any number
    training_days: float | None = Field(default=None, gt=0)  # since the last of the events that it was trained on
    cpu: float | None = Field(default=None, gt=0, le=1)  # share of a slot's quota or machine, for the whole window
    memory: float | None = Field(default=None, gt=0, le=1)
    disk_bytes: Annotated[int | None, BeforeValidator(parse_size)] = Field(default=None, ge=1)  # a second, of a slot
    network_bytes: Annotated[int | None, BeforeValidator(parse_size)] = Field(default=None, ge=1)  # of its machine
    gpu: float | None = Field(default=None, gt=0, le=1)
    gpu_memory: float | None = Field(default=None, gt=0, le=1)


class Quality(Declared):
    """From when on labelled predictions, or those of two arms, are worse than before."""

    errors: Literal["learned", "bundle"] | Annotated[float, Field(gt=0, lt=1)] = "learned"  # wrong predictions
    first: int = Field(default=2000, ge=100, le=10_000_000)  # labelled events from which is learned what is usual
    worse: float = Field(default=0.0, ge=0, le=0.2)  # by which any share may grow without an alarm
    labels_silent: Annotated[int | None, BeforeValidator(parse_duration)] = Field(default=None, ge=60, le=LONGEST)
    divergence: bool = True  # arms that differ more than before are told of
    scores: bool = False  # so are binary scores that are further from the truth


class Monitor(Declared):
    reference: str = Field(default="bundle", pattern=REFERENCE)
    season: Literal["none", "daily", "weekly"] = "none"  # by which a rolling reference is kept apart
    detector: Literal["windows", "e_detector", "adwin", "page_hinkley", "kswin"] = "e_detector"
    false_alarms: float = Field(default=1.0, gt=0, le=10_000)  # of the e-detector, on average a week
    budget: Literal["column", "deployment"] = "column"  # what false_alarms are counted for
    weights: dict[str, Annotated[float, Field(ge=0, le=1000)]] = Field(default={})  # of columns; 0: not tested
    zone: float = Field(default=0.0, ge=0, le=3)  # standard deviations by which any mean may be off
    zone_share: float = Field(default=0.0, ge=0, le=0.5)  # share of events that may lie anywhere
    design_effect: Literal["learned"] | Annotated[float, Field(ge=1, le=1e9)] = "learned"
    window_rows: int = Field(default=5000, ge=1)  # events that are compared with the reference at a time
    opens: float = Field(default=0.2, gt=0)  # PSI beyond chance from which a column deviates
    closes: float = Field(default=0.1, gt=0)  # PSI beyond chance below which it is calm again
    segments: list[str] = Field(default=[])  # event fields by whose values quality is told
    fairness: list[str] = Field(default=[])  # segments that are groups of people: how alike they fare is told
    operations: Operations | None = Operations()  # null: not watched
    quality: Quality = Quality()
    retrain_after: Annotated[int | None, BeforeValidator(parse_duration)] = Field(default=None, ge=60, le=LONGEST)

    @property
    def rolling_days(self) -> int | None:
        """Days of the past that are the reference; None: the bundle's."""
        return None if self.reference == "bundle" else int(self.reference.removeprefix("rolling ").removesuffix("d"))

    @model_validator(mode="after")
    def _settings_fit(self) -> Monitor:
        days = self.rolling_days
        own = ("window_rows", "opens", "closes")
        if self.detector != "windows" and (
            given := [name for name in own if getattr(self, name) != Monitor.model_fields[name].default]
        ):
            raise ValueError(
                f"{given[0]} is of the detector windows, not of {self.detector}: leave it out, or say detector: windows"
            )
        if days is not None and self.detector != "e_detector":
            raise ValueError(f"reference: {self.reference} is of the detector e_detector only, not of {self.detector}")
        least = {"none": 0, "daily": 2, "weekly": 7}[self.season]
        if (days or 0) < least:
            raise ValueError(
                f"season: {self.season} is learned from the past: say reference: rolling {least}d, or of more days"
            )
        return self


class Deployment(Declared):
    """One scoring service: where events come from, which model versions score them, where inferences go."""

    name: str = Field(pattern=NAME)
    input: Input
    output: Output
    delivery: Delivery = "exactly_once"
    latency_ms: int | None = Field(default=None, ge=1, le=60_000)  # p95 from record time to commit; None: soonest
    arms: list[Arm] = Field(min_length=1)
    salt: str | None = Field(default=None, min_length=1, max_length=100)  # of the assignment; None: the name
    fallback: list[Annotated[str, Field(pattern=MODEL)] | Constant] = Field(default=[])
    missing: dict[str, float | int | str | bool] = Field(default={})
    monitor: Monitor | None = None
    labels: Labels | None = None
    limits: Limits = Limits()
    quotas: Quotas = Quotas()

    @model_validator(mode="after")
    def _one_active(self) -> Deployment:
        if [arm.role for arm in self.arms].count("active") != 1:
            raise ValueError("arms: exactly one arm must have the role active")
        return self

    @model_validator(mode="after")
    def _names_and_topics_differ(self) -> Deployment:
        names, steps = list(self.named), [*self.steps]
        if len(names) < len(self.arms):
            raise ValueError("arms: two arms have the same name; give each a name of its own")
        if taken := sorted(set(names) & {CONSTANT, *steps}):
            raise ValueError(f"arms: {taken[0]} is the name of an arm of the fallback chain; choose another one")
        topics = [self.output.topic, *(arm.topic for arm in self.arms if arm.topic is not None)]
        if twice := sorted({topic for topic in topics if topics.count(topic) > 1}):
            raise ValueError(f"arms: two arms write to {twice[0]}; a shadow needs a topic of its own")
        if self.input.topic in topics:
            raise ValueError(
                f"{self.input.topic} is the input topic and one that inferences go to: each would come back as an "
                "event; give output.topic, or the shadow, another topic"
            )
        ours = {self.profile_topic, *(self.dead_letter_topic(name) for name in ("", *names))}
        ours |= {self.sample_topic, self.quality_topic, self.rewards_topic} if self.sampling else set()
        if taken := sorted(ours & {self.input.topic, *topics}):
            raise ValueError(
                f"{taken[0]} is where the dead letters, profiles or samples of {self.name} go: neither its events "
                "nor its inferences can be there; choose another topic"
            )
        return self

    @model_validator(mode="after")
    def _labels_have_a_topic_of_their_own(self) -> Deployment:
        named = self.named
        ours = {self.input.topic, self.profile_topic, self.sample_topic, *map(self.output_topic, named)}
        ours |= {self.quality_topic, self.rewards_topic, self.label_letters_topic}
        if self.labels is not None and self.labels.topic in ours | {*map(self.dead_letter_topic, named)}:
            raise ValueError(
                f"labels: {self.labels.topic} is a topic of this deployment's own events or records; labels need "
                "another one"
            )
        return self

    @model_validator(mode="after")
    def _topics_are_nobody_elses(self) -> Deployment:
        if taken := sorted({each for each in (*topics_of(self), self.profile_topic) if is_reserved(each)}):
            raise ValueError(
                f"{taken[0]} would be a topic of Penstock's or Kafka's own, whose readers cannot use a deployment's "
                "records: choose a topic, and a name of the deployment, that begins with neither penstock nor __"
            )
        return self

    @model_validator(mode="after")
    def _shares_and_chain(self) -> Deployment:
        if (total := sum(arm.percent or 0.0 for arm in self.arms)) >= 100:
            raise ValueError(
                f"arms: canary and challenger have {total:g} percent together; nothing is left for active; lower them"
            )
        if any(isinstance(step, Constant) for step in self.fallback[:-1]):
            raise ValueError("fallback: a constant can only be the last: nothing behind it would ever be asked")
        return self

    @property
    def named(self) -> dict[str, Arm]:
        """The declared arms by name: one without a name goes by its role, the second of a role by `canary-2`."""
        found: dict[str, Arm] = {}
        seen: dict[str, int] = {}
        for arm in self.arms:
            seen[arm.role] = seen.get(arm.role, 0) + 1
            numbered = arm.role if seen[arm.role] == 1 else f"{arm.role}-{seen[arm.role]}"
            found.setdefault(arm.name or numbered, arm)
        return found

    @property
    def steps(self) -> dict[str, str]:
        """The models of the fallback chain by the names of their arms: `fallback`, `fallback-2` and so on."""
        models = [step for step in self.fallback if isinstance(step, str)]
        return {FALLBACK if not at else f"{FALLBACK}-{at + 1}": model for at, model in enumerate(models)}

    @property
    def references(self) -> dict[str, str]:
        """The references to models of all arms and of the fallback chain, by the names of their arms."""
        return {**{name: arm.model for name, arm in self.named.items()}, **self.steps}

    @property
    def constant(self) -> dict[str, Any] | None:
        """The outputs at the end of the fallback chain."""
        return next((dict(step.constant) for step in self.fallback if isinstance(step, Constant)), None)

    @property
    def everywhere(self) -> list[str]:
        """The names of the arms that score every event beside the one that it is assigned to."""
        return [name for name, arm in self.named.items() if arm.role == "all"]

    def shares(self) -> dict[str, float]:
        """Return the percentage of events of each arm that events are assigned to, by name; active has the rest."""
        given = {name: arm.percent for name, arm in self.named.items() if arm.percent is not None}
        return {ACTIVE: 100.0 - sum(given.values()), **given}

    def models(self, name: str) -> dict[str, str]:
        """Return what the workers of an arm score with: references to models by the names of their arms.

        A shadow scores alone. The workers of the active arm score for all others and the fallback chain, too.
        """
        if self.arm(name).role == "shadow":
            return {name: self.named[name].model}
        return {**{each: self.named[each].model for each in (*self.shares(), *self.everywhere)}, **self.steps}

    def chain(self, assigned: str) -> list[str]:
        """Return who scores an event that is assigned to an arm: the arm, then who steps in, in order."""
        if self.named[assigned].role in ALONE:
            return [assigned]
        last = [CONSTANT] if self.constant is not None else []
        return [*dict.fromkeys([assigned, ACTIVE]), *self.steps, *last]

    def arm(self, name: str) -> Arm:
        """Return an arm that has workers of its own. Raises ArmUnknown naming those there are."""
        named = self.named
        runs = [each for each, arm in named.items() if arm.role in ("active", "shadow")]
        if name not in named:
            raise ArmUnknown(f"deployment {self.name} declares no arm {name!r}; its arms are {', '.join(named)}")
        if name not in runs:
            raise ArmUnknown(
                f"arm {name!r} has no worker of its own: the active arm's score for it, too; run --arm "
                f"{' or --arm '.join(runs)}"
            )
        return named[name]

    def is_shadow(self, name: str) -> bool:
        """Say whether a declared arm of this name scores beside the others, in workers of its own."""
        return name in self.named and self.named[name].role == "shadow"

    @property
    def groups(self) -> dict[str, str]:
        """The consumer groups of the arms that have workers of their own, by the arms' names."""
        return {name: self.group(name) for name, arm in self.named.items() if arm.role in (ACTIVE, "shadow")}

    def group(self, name: str) -> str:
        """Return the consumer group of an arm's workers: a shadow reads the events on its own."""
        return group_of(self.name, name if self.is_shadow(name) else ACTIVE)

    def output_topic(self, name: str) -> str:
        """Return where the inferences of an arm's workers go."""
        return (self.is_shadow(name) and self.named[name].topic) or self.output.topic

    def dead_letter_topic(self, name: str = "active") -> str:
        """Return where an arm's dead letters go: to a topic of its own where every event is scored beside the others,
        or each event would have several.
        """
        own = name in self.named and self.named[name].role in ALONE
        return f"{self.name}.dead-letters" + (f".{name}" if own else "")

    @property
    def profile_topic(self) -> str:
        return f"{self.name}.profiles"

    @property
    def sample_topic(self) -> str:
        return f"{self.name}.samples"

    @property
    def quality_topic(self) -> str:
        return f"{self.name}.quality"

    @property
    def rewards_topic(self) -> str:
        """Where outcomes of events go that several arms share."""
        return f"{self.name}.rewards"

    @property
    def label_letters_topic(self) -> str:
        """Where labels go that cannot be read."""
        return f"{self.name}.labels.dead-letters"

    @property
    def segments(self) -> list[str]:
        """The event fields by whose values quality is told: segments, and groups of people."""
        return list(dict.fromkeys(self.monitor.segments + self.monitor.fairness)) if self.monitor is not None else []

    @property
    def sampling(self) -> tuple[float, int] | None:
        """The share of keys whose events are sampled, and the partitions of the samples; None: none are."""
        if self.labels is not None:
            return self.labels.share, self.labels.partitions
        return (1.0, PARTITIONS) if self.segments else None

    def revision(self, reader: Mapping[str, Any]) -> int:
        """Number of this state: 31 bits of the sha256 of it and its event schema, until the control topic counts.

        What changes no inference is left out, so that quotas and a limit on memory can be set without a new revision;
        and defaults are, so that a release which knows more keys gives the same number.
        """
        declaration = self.to_dict()
        declaration.pop("quotas", None)
        declaration.get("limits", {}).pop("model_memory", None)
        if not declaration.get("limits", True):
            del declaration["limits"]
        state = {"declaration": declaration, "schema": reader}
        canonical = json.dumps(state, sort_keys=True, separators=(",", ":"))
        return int.from_bytes(hashlib.sha256(canonical.encode()).digest()[:4], "big") >> 1

    def to_dict(self) -> dict[str, Any]:
        return self.model_dump(mode="json", by_alias=True, exclude_defaults=True)


def group_of(deployment: str, arm: str) -> str:
    """Return the consumer group of the workers of an arm that has some."""
    return f"penstock.{deployment}" + ("" if arm == ACTIVE else f".{arm}")
