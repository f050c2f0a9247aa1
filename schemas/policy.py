"""A policy: under which evidence a candidate gets more of the events, is promoted, or is taken back. One YAML file."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator

from schemas.declared import Declared, parse_duration
from schemas.deployment import ARM, NAME

Seconds = Annotated[int, BeforeValidator(parse_duration)]
Act = Literal["act", "propose"]
Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
CLOCK = r"^([01]\d|2[0-3]):[0-5]\d$"
HOUR, DAY = 3600, 86_400


class Outcome(Declared):
    """What is compared: accuracy, error, or a metric of one's own that has bounds; see `labels` of the deployment.

    range: of the metric, so that differences can be told in its units. design_effect: events that tell as much as an
    independent one.
    """

    metric: str = Field(default="accuracy", min_length=1)
    range: tuple[float, float] = (0.0, 1.0)
    better: Literal["higher", "lower"] = "higher"
    design_effect: float = Field(default=1.0, ge=1)

    @model_validator(mode="after")
    def _has_a_range(self) -> Outcome:
        if not self.range[0] < self.range[1]:
            raise ValueError(f"range: {list(self.range)} is empty; give the least and the greatest value")
        return self

    @property
    def width(self) -> float:
        return self.range[1] - self.range[0]


class Promotion(Declared):
    """When a candidate gets more. labels, seconds: least exposure at each step, labels of the candidate's events."""

    when: Literal["better", "not_worse"] = "better"
    margin: float = Field(default=0.0, ge=0)  # in units of the outcome: by so much worse is not worse
    level: float = Field(default=0.05, gt=0, lt=1)  # chance of a promotion that should not be
    labels: int = Field(default=500, ge=0)
    seconds: Seconds = Field(default=HOUR, ge=0)
    give_up: Seconds | None = Field(default=None, ge=1)  # after so long the candidate is withdrawn
    act: Act = "propose"

    @model_validator(mode="after")
    def _has_a_margin_where_it_needs_one(self) -> Promotion:
        if (self.when == "not_worse") != (self.margin > 0):
            raise ValueError("not_worse needs a margin above 0, and better has none")
        return self


class Budgets(Declared):
    """What a candidate may not exceed, labels or none; None: any."""

    failed: float | None = Field(default=0.01, gt=0, lt=1)  # share of its events that its model refused or failed
    run_ms: float | None = Field(default=None, gt=0)  # of its model's runs, 95th percentile


class Rollback(Declared):
    """When a candidate is taken back. worse_by: in units of the outcome; what is less than that is borne.

    watch: for so long after a promotion the version before is gone back to.
    """

    worse_by: float = Field(default=0.0, ge=0)
    level: float = Field(default=0.05, gt=0, lt=1)  # chance of taking back one that is not worse
    alerts: list[Literal["warning", "critical"]] = Field(default=["critical"])
    budgets: Budgets = Field(default=Budgets())
    watch: Seconds = Field(default=DAY, ge=0)
    act: Act = "act"


class Freeze(Declared):
    """Nothing is given more on these days (all, where none is named), from one time to another, both UTC."""

    days: list[Day] = Field(default=[])
    begin: str = Field(default="00:00", pattern=CLOCK)
    end: str = Field(default="00:00", pattern=CLOCK)  # the same as begin: for a whole day


class Bandit(Declared):
    """Shares of all arms by the chance to be the best, instead of steps. floor: percent that each arm keeps."""

    floor: float = Field(default=5.0, ge=1, le=50)
    every: Seconds = Field(default=900, ge=1)  # at most
    labels: int = Field(default=200, ge=1)  # that must have come since the last change
    change: float = Field(default=2.0, ge=1, le=50)  # percent by which a share must differ
    act: Act = "act"


class Retraining(Declared):
    """What is done about a request for a new version, and with the version that comes back under a tag.

    command: gets the request as JSON on its standard input. webhook: is posted it. shadow, events: that the version is
    a shadow for, at least, before it is a candidate.
    """

    command: list[str] | None = Field(default=None, min_length=1)
    webhook: str | None = Field(default=None, pattern=r"^https?://")
    seconds: Seconds = Field(default=6 * HOUR, ge=1)  # that the command may take
    tag: str = Field(default="candidate", pattern=r"^[A-Za-z0-9._-]+$")
    arm: str = Field(default="trained", pattern=ARM)  # the name of the shadow arm
    shadow: Seconds = Field(default=HOUR, ge=0)
    events: int = Field(default=1000, ge=0)
    cool_down: Seconds = Field(default=DAY, ge=0)  # between two trainings
    act: Act = "propose"

    @model_validator(mode="after")
    def _says_what_to_start(self) -> Retraining:
        if (self.command is None) == (self.webhook is None):
            raise ValueError("retraining needs either a command or a webhook")
        return self


class Policy(Declared):
    """One deployment's. arm, steps, promotion: of a candidate; bandit: for all arms that share the events instead."""

    deployment: str = Field(pattern=NAME)
    arm: str = Field(default="canary", pattern=ARM)
    steps: list[float] = Field(default=[1.0, 5.0, 25.0, 100.0], min_length=1)
    outcome: Outcome = Field(default=Outcome())
    promotion: Promotion = Field(default=Promotion())
    bandit: Bandit | None = None
    retraining: Retraining | None = None
    rollback: Rollback = Field(default=Rollback())
    cool_down: Seconds = Field(default=HOUR, ge=0)  # after anything was taken back nothing is given more
    changes_per_day: int = Field(default=10, ge=1)  # that give more
    freeze: list[Freeze] = Field(default=[])

    @model_validator(mode="after")
    def _steps_rise_to_all(self) -> Policy:
        if self.steps != sorted(set(self.steps)) or self.steps[0] <= 0 or self.steps[-1] != 100:
            raise ValueError(f"steps: {self.steps} must rise from above 0 to 100 percent, such as [1, 5, 25, 100]")
        return self
