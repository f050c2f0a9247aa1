"""The last page of the demo: the account, what the models were worth, how fast it was, and what to type next."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from examples.flights.account import ArmAccount
from examples.flights.watch import Numbers

MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
OK, NOT_BALANCED, NOT_STARTED, SHADOW_FAILED, ALERTS_FAILED = 0, 1, 2, 3, 4  # exit codes


@dataclass(frozen=True, slots=True)
class Speed:
    """Of the active arm: predictions/s from the first to the last one visible, and ms from append to visibility.

    held: seconds that the replay waited because this machine did not score as fast as it was to send.
    """

    per_second: float
    latencies: Numbers
    held: float = 0.0

    @property
    def sentence(self) -> str:
        """For a person."""
        if not len(self.latencies):
            return "no inference was seen"
        p50, p95 = np.percentile(self.latencies, [50, 95])
        waited = f"; the replay waited {self.held:.0f} s for this machine" if self.held >= 1 else ""
        return (
            f"{self.per_second:,.0f} predictions/s; from the event's append to the committed inference in a reader's"
            f" hands p50 {p50:.0f} ms, p95 {p95:.0f} ms{waited}"
        )


@dataclass(slots=True)
class Outcome:
    """What the demo ends with. Problems are sentences; the exit code says in which part the first ones are."""

    arms: dict[str, ArmAccount] = field(default_factory=dict)
    aucs: dict[str, Mapping[int, float]] = field(default_factory=dict)
    speed: Speed | None = None
    alerts: str = ""
    active_problems: list[str] = field(default_factory=list)
    shadow_problems: list[str] = field(default_factory=list)
    alert_problems: list[str] = field(default_factory=list)

    @property
    def problems(self) -> list[str]:
        """All of them, the gravest first."""
        return [*self.active_problems, *self.shadow_problems, *self.alert_problems]

    @property
    def code(self) -> int:
        """0 when everything balances, else the part that failed: 1 the account, 3 the shadow, 4 the alerts."""
        if self.active_problems:
            return NOT_BALANCED
        if self.shadow_problems:
            return SHADOW_FAILED
        return ALERTS_FAILED if self.alert_problems else OK


def show(console: Console, outcome: Outcome) -> None:
    """Print everything but what to type next."""
    console.print()
    console.print(_account(outcome.arms))
    if any(outcome.aucs.values()):
        console.print(_auc(outcome.aucs))
    for arm in outcome.arms.values():
        if arm.reasons:
            reasons = ", ".join(f"{reason} {count:,}" for reason, count in arm.reasons.items())
            console.print(Text(f"Dead letters ({arm.arm}): {reasons}"), soft_wrap=True)
    if outcome.speed:
        console.print(Text(f"Speed: {outcome.speed.sentence}"), soft_wrap=True)
    if outcome.alerts:
        console.print(Text(f"Alerts: {outcome.alerts}"), soft_wrap=True)
    for problem in outcome.problems:
        console.print(Text(f"WRONG: {problem}", style="bold red"), soft_wrap=True)
    if not outcome.problems:
        console.print(Text("The account balances: every event has exactly one result in each arm.", style="bold green"))


def _account(arms: Mapping[str, ArmAccount]) -> Table:
    table = Table(title="The account", title_justify="left", box=None, padding=(0, 2))
    table.add_column("")
    for name in ("events in", "inferences", "dead letters", "duplicates", "lost"):
        table.add_column(name, justify="right")
    for name, arm in arms.items():
        numbers = (arm.events, arm.inferences, arm.letters, arm.duplicates, arm.lost)
        table.add_row(name, *(f"{number:,}" for number in numbers))
    return table


def _auc(aucs: Mapping[str, Mapping[int, float]]) -> Table:
    months = sorted({month for by_month in aucs.values() for month in by_month})
    title = "AUC by month against what really happened (trained on January to March)"
    table = Table(title=title, title_justify="left", box=None, padding=(0, 1))
    table.add_column("", no_wrap=True)
    for month in months:
        table.add_column(MONTHS[month - 1], justify="right", no_wrap=True)
    for name, by_month in aucs.items():
        table.add_row(name, *(f"{by_month[month]:.3f}" if month in by_month else "" for month in months))
    return table


def next_steps(folder: Path, deployment: Path, servers: str, metrics: str, kept: bool) -> Sequence[str]:
    """What to type next. kept: the broker and the workers still run."""
    if not kept:
        return (
            "Next:",
            "  scripts/demo --keep                 the same, and it stays up for you to look around",
            "  scripts/demo --corrupt 1            with one event in a hundred damaged",
            "  scripts/demo --rate 0               as fast as this machine can",
            f"  less {folder}/worker.log",
            "  examples/flights/README.md          how to do this with your own model",
        )
    return (
        "Everything still runs. Next, in another terminal:",
        "  . .venv/bin/activate",
        f"  export PENSTOCK_BOOTSTRAP_SERVERS={servers} PENSTOCK_REPOSITORY={folder}/models",
        f"  penstock watch {deployment} --from beginning --count 20",
        "  penstock watch --alerts --from beginning",
        f"  penstock deadletters list {deployment}",
        "  penstock model list",
        f"  curl {metrics}",
        "Ctrl-C here stops it all.",
    )
