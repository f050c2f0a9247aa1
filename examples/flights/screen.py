"""What a person sees of the demo: a live picture on a terminal, plain lines anywhere else."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

PLAIN_SECONDS = 2.0  # between two plain lines


@dataclass(frozen=True, slots=True)
class Status:
    """One moment of the replay. at: the scheduled departure that it has come to; p50, p95: ms, of the last batches."""

    sent: int
    total: int
    at: datetime
    rate: float
    inferences: int
    shadow: int
    letters: int
    alerts: int
    p50: float
    p95: float


class Screen:
    """Plain lines: one for each step and alert, one for the state now and then."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._shown, self._inferences = float("-inf"), -1  # when a line was shown last, and with how many inferences

    def __enter__(self) -> Screen:
        return self

    def __exit__(self, *_: object) -> None:
        self.done()

    def done(self) -> None:
        """The replay is over: what comes now are lines that stay."""

    def say(self, text: str, style: str = "") -> None:
        """A line that stays."""
        self.console.print(Text(text, style=style), soft_wrap=True)

    def show(self, status: Status, inferences: Sequence[Mapping[str, Any]]) -> None:
        """The state now, and some of the latest inferences."""
        if time.monotonic() - self._shown < PLAIN_SECONDS or status.inferences == self._inferences:
            return
        self._shown, self._inferences = time.monotonic(), status.inferences
        self.say(
            f"{status.at:%d %b}  {status.sent:>9,} of {status.total:,} events  {status.rate:>7,.0f}/s"
            f"  inferences {status.inferences:,}  shadow {status.shadow:,}  dead letters {status.letters:,}"
            f"  p50 {status.p50:.0f} ms  p95 {status.p95:.0f} ms  alerts {status.alerts}"
        )
        if inferences:
            self.say("        " + inference_line(inferences[-1]), "dim")


class LiveScreen(Screen):
    """The same on a terminal: a picture that is redrawn, with steps and alerts scrolling by above it."""

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(None),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=console,
        )
        self._task = self._progress.add_task("", total=None)
        self._live = Live(console=console, refresh_per_second=8, transient=True)

    def done(self) -> None:
        self._live.stop()

    def show(self, status: Status, inferences: Sequence[Mapping[str, Any]]) -> None:
        if not self._live.is_started:
            self._live.start()
        self._progress.update(
            self._task,
            description=f"{status.at:%d %B %Y}",
            completed=min(status.sent, status.total),
            total=status.total,
        )
        self._live.update(Group(self._progress, _numbers(status), *(_dim(line) for line in inferences)))


def screen_for(console: Console) -> Screen:
    """A live picture where the console is a terminal, else plain lines."""
    return LiveScreen(console) if console.is_terminal else Screen(console)


def inference_line(inference: Mapping[str, Any]) -> str:
    """An inference in a person's words."""
    at = inference["event_time"]
    number = str(inference["flight_id"]).split("-")[0]
    return (
        f"{number:<7} {inference['origin']} to {inference['dest']}, {at:%d %b %H:%M} UTC:"
        f" late with probability {inference['late_probability']:.2f}"
    )


def alert_line(alert: Mapping[str, Any]) -> str:
    """An alert in a person's words."""
    return f"alert {alert['state']}: {alert['summary'] or alert['name']} ({alert['arm']}, {alert['detector']})"


def _dim(inference: Mapping[str, Any]) -> RenderableType:
    return Text("  " + inference_line(inference), style="dim")


def _numbers(status: Status) -> RenderableType:
    table = Table.grid(padding=(0, 3))
    table.add_row(
        f"[bold]{status.rate:,.0f}[/]/s",
        f"inferences [bold]{status.inferences:,}[/]",
        f"shadow [bold]{status.shadow:,}[/]",
        f"dead letters [bold]{status.letters:,}[/]",
        f"p50 [bold]{status.p50:.0f}[/] ms, p95 [bold]{status.p95:.0f}[/] ms",
        f"alerts [bold]{status.alerts}[/]",
    )
    return table
