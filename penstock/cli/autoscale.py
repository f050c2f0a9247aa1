"""`penstock autoscale`: run as many slots of a deployment as its load takes, or say how many that would be."""

from __future__ import annotations

import json
import signal
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from penstock.cli.common import refusals
from penstock.cli.worker import Call, slot_options, supervise_slots

if TYPE_CHECKING:
    from schemas.vitals import Vitals
    from streams.scaling import Decision, Load, Targets

LOOK_SECONDS = 1.0  # between two looks at files
ASK_SECONDS = 10.0  # between two looks at status records: slots publish them as often


@click.command()
@click.argument("deployment", metavar="NAME|FILE")
@click.option("--min", "least", default=1, show_default=True, type=click.IntRange(1, 1_000), help="Fewest slots.")
@click.option("--max", "most", required=True, type=click.IntRange(1, 1_000), help="Most slots on this machine.")
@click.option(
    "--target-lag-seconds",
    default=30.0,
    show_default=True,
    type=click.FloatRange(1),
    help="In how many seconds what waits is to be drained.",
)
@click.option(
    "--target-utilization",
    default=0.7,
    show_default=True,
    type=click.FloatRange(0.05, 1.0),
    help="Share of what a slot can score that it is to score.",
)
@click.option(
    "--max-slowdown",
    type=click.FloatRange(1),
    help="Add no slot while model runs take so many times as long as by themselves.  [default: never mind]",
)
@click.option(
    "--down-after",
    default=120.0,
    show_default=True,
    type=click.FloatRange(1),
    help="Seconds in which fewer slots must have been enough before one is stopped.",
)
@click.option("--first-slot", default=0, type=click.IntRange(0), help="Number of the first slot.  [default: 0]")
@click.option(
    "--dry-run", is_flag=True, help="Start and stop nothing: say what would be done about the slots that run."
)
@click.option("--json", "as_json", is_flag=True, help="With --dry-run: each decision as one line of JSON.")
@slot_options
def command(
    call: Call,
    least: int,
    most: int,
    target_lag_seconds: float,
    target_utilization: float,
    max_slowdown: float | None,
    down_after: float,
    first_slot: int,
    dry_run: bool,
    as_json: bool,
    no_standby: bool,
) -> None:
    """Run as many slots of a deployment on this machine as its load takes, as `penstock worker --slots` runs them.

    A slot is added within seconds when utilization or lag need it, and stopped after its batch when --down-after
    seconds did without it. There are never more slots than partitions, and nothing is changed while a rebalance or a
    change of revision is under way. Each decision is logged with its reasons.

    With --dry-run it looks at slots that others run: of a FILE at those that were started in this folder, of a NAME
    under control at the status records of all.

    Exit status: that of `penstock worker --slots`.
    """
    if most < least:
        raise click.UsageError(f"--max {most} is less than --min {least}")
    if as_json and not dry_run:
        raise click.UsageError("--json needs --dry-run: else decisions are in the log, as JSON with --log-format json")
    from streams.scaling import Targets

    targets = Targets(least, most, target_lag_seconds, target_utilization, max_slowdown, down_after)
    with refusals():
        if dry_run:
            _watch(call, targets, as_json)
            return
        raise SystemExit(_run(call, targets, first_slot, standby=not no_standby))


def _run(call: Call, targets: Targets, first: int, *, standby: bool) -> int:
    from penstock.autoscaling import Autoscaler, files
    from penstock.config import STATE_FOLDER

    names = [str(first + i) for i in range(targets.most)]
    steer = Autoscaler(targets, files(STATE_FOLDER / "slots", call.names()[1]))
    return supervise_slots(call, names, standby=standby, first=targets.least, steer=steer)


def _watch(call: Call, targets: Targets, as_json: bool) -> None:
    """Print decisions about slots that others run until SIGTERM or SIGINT."""
    from penstock.autoscaling import Watch

    look, every = _look_of(call)
    over = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: over.set())
    watch = Watch(targets)
    while not over.is_set():
        load = look()
        decision = watch.look(load, load.slots if load is not None else 0, time.monotonic())
        click.echo(_line(decision, load) if as_json else _text(decision))
        over.wait(every)


def _look_of(call: Call) -> tuple[Callable[[], Load | None], float]:
    """Return what looks at the slots that there are, and seconds between two looks."""
    from penstock.autoscaling import slots_in
    from penstock.config import STATE_FOLDER, kafka_settings
    from streams.scaling import FRESH_SECONDS, load_of

    name, group = call.names()
    if call.loaded() is not None:
        return lambda: load_of(slots_in(STATE_FOLDER / "slots", group), time.time() * 1000), LOOK_SECONDS
    from streams import control, statuses

    kafka = kafka_settings(call.bootstrap_servers)
    control.state_of(control.read(kafka).states, name).content()[0].arm(call.arm)
    fresh = statuses.SILENT_SECONDS + FRESH_SECONDS

    def ask() -> list[Vitals]:
        found = [each for each in statuses.read(kafka) if (each.deployment, each.group) == (name, group)]
        return [each.vitals for each in found if each.vitals is not None and each.state != "stopped"]

    return lambda: load_of(ask(), time.time() * 1000, fresh), ASK_SECONDS


def _text(decision: Decision) -> str:
    change = "" if decision.wanted == decision.slots else f" -> {decision.wanted}"
    return f"{datetime.now(UTC):%H:%M:%S} slots: {decision.slots}{change}: {decision.why}"


def _line(decision: Decision, load: Load | None) -> str:
    told = load.told() if load is not None else None
    return json.dumps({"slots": decision.slots, "wanted": decision.wanted, "why": decision.why, "signals": told})
