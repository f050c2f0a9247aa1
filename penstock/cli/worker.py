"""`penstock worker`: run one slot of a deployment, or several under a supervisor."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from penstock.cli.common import (
    arm_option,
    log_format_option,
    metrics_host_option,
    refusals,
    registry_option,
    repository_option,
    schemas_option,
    servers_option,
)
from streams.budget import BATCH_EVENTS
from streams.orders import FROM_STDIN, REMOVED

if TYPE_CHECKING:
    from penstock.config import Loaded
    from penstock.supervisor import Steer
    from streams.orders import Order


@dataclass(frozen=True, slots=True)
class Call:
    """The options that hold for every slot."""

    deployment: str
    arm: str
    bootstrap_servers: str | None
    repository: str | None
    registry: str | None
    schema_folder: Path | None
    metrics_port: int | None
    metrics_host: str
    batch_events: int
    log_format: str

    def arguments(self) -> list[str]:
        """Return the command line of a worker that is told its slot and its metrics port."""
        given = {
            "--arm": self.arm,
            "--bootstrap-servers": self.bootstrap_servers,
            "--repository": self.repository,
            "--registry": self.registry,
            "--schemas": self.schema_folder,
            "--metrics-host": self.metrics_host,
            "--batch-events": self.batch_events,
            "--log-format": self.log_format,
            "--slot": FROM_STDIN,
        }
        options = [text for name, value in given.items() if value is not None for text in (name, str(value))]
        return ["worker", self.deployment, *options]

    def loaded(self) -> Loaded | None:
        """Return what the file declares; None where a name was given."""
        from penstock.config import load_deployment, names_file

        return load_deployment(self.deployment) if names_file(self.deployment) else None

    def names(self) -> tuple[str, str]:
        """Return the names of the deployment and of its arm's group."""
        from schemas.deployment import group_of

        loaded = self.loaded()
        if loaded is None:
            return self.deployment, group_of(self.deployment, self.arm)
        return loaded.deployment.name, loaded.deployment.group(self.arm)


OPTIONS = (
    click.option("--no-standby", is_flag=True, help="Keep no process ready to take over the slot of one that died."),
    arm_option,
    servers_option,
    repository_option,
    registry_option,
    schemas_option,
    click.option(
        "--metrics-port",
        type=int,
        help="Serve /metrics, /live and /ready on this port (0: a free one); slots after the first on those after it.",
    ),
    metrics_host_option,
    click.option(
        "--batch-events",
        default=BATCH_EVENTS,
        show_default=True,
        type=click.IntRange(1, 100_000),
        help="Largest batch.",
    ),
    log_format_option,
)


def slot_options(function: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options that hold for every slot, with the deployment's name as one Call; and no_standby."""

    @wraps(function)
    def command(deployment: str, **given: Any) -> None:
        shared = {each.name: given.pop(each.name) for each in fields(Call) if each.name != "deployment"}
        function(Call(deployment, **shared), **given)

    for option in reversed(OPTIONS):
        command = option(command)
    return command


@click.command()
@click.argument("deployment", metavar="NAME|FILE")
@click.option("--slot", default="0", show_default=True, help="Stable identity of this worker among those of the arm.")
@click.option("--slots", type=click.IntRange(1, 1_000), help="Run this many slots here; implies --supervise.")
@click.option("--first-slot", default=0, type=click.IntRange(0), help="Number of the first of them.  [default: 0]")
@click.option(
    "--supervise", is_flag=True, help="Run each slot in a process of its own, and start again those that die."
)
@slot_options
def command(
    call: Call,
    slot: str,
    slots: int | None,
    first_slot: int,
    supervise: bool,
    no_standby: bool,
) -> None:
    """Score the events of a deployment until told to stop.

    NAME is that of a deployment under control (`penstock apply`): the worker follows every change of its state.
    FILE is a YAML file, which holds as it is until the worker ends.

    Exit status: 0 stopped by SIGTERM or SIGINT, or the deployment was removed from control, 2 refused (the message
    says what to change), 3 another worker has the slot, 4 with --supervise: no slot is left that could be started,
    5 did not stop in time, 7 the slot has more memory than its quota: start it again. SIGUSR1 goes on after the limit
    on dead letters was reached, and tries again what was given up.
    """
    names = [slot] if slots is None else [str(first_slot + i) for i in range(slots)]
    given = click.get_current_context().get_parameter_source
    if slots is not None and given("slot") == click.core.ParameterSource.COMMANDLINE:
        raise click.UsageError("give --slot or --slots, not both; --first-slot says where --slots begins")
    if slots is None and given("first_slot") == click.core.ParameterSource.COMMANDLINE:
        raise click.UsageError("--first-slot needs --slots: how many slots to run from there on")
    if FROM_STDIN in names and supervise:
        raise click.UsageError("--supervise needs the name of a slot")
    with refusals():
        if supervise or slots is not None:
            raise SystemExit(supervise_slots(call, names, standby=not no_standby))
        _work(call, slot)


def supervise_slots(
    call: Call, names: Sequence[str], *, standby: bool, first: int | None = None, steer: Steer | None = None
) -> int:
    """Run the slots, at first so many of them (None: all), and from then on as many as `steer` says."""
    import shlex
    import sys

    from penstock.config import STATE_FOLDER
    from penstock.logs import set_up
    from penstock.supervisor import Plan, Supervisor

    name, group = call.names()
    set_up(call.log_format, {"deployment": name, "arm": call.arm, "slot": "supervisor"})
    advice = ["penstock", "quarantine", call.deployment, "--arm", call.arm]
    if call.bootstrap_servers:
        advice += ["--bootstrap-servers", call.bootstrap_servers]
    plan = Plan(
        slots=names,
        command=[sys.executable, "-m", "penstock.cli", *call.arguments()],
        markers=STATE_FOLDER / "slots",
        group=group,
        advice=shlex.join(advice),
        metrics_port=call.metrics_port,
        batch_events=call.batch_events,
        warm=standby,
        first=first,
        steer=steer,
    )
    return Supervisor(plan).run()


def _work(call: Call, slot: str) -> None:
    os.environ.setdefault("POLARS_MAX_THREADS", "1")  # a batch is small: threads cost more than they bring
    from models.waiting import prepare

    prepare()  # the model's first run waits for a process whose imports take as long as ours
    from penstock.config import STATE_FOLDER, kafka_settings, member_settings, repository_url
    from penstock.logs import set_up
    from streams.options import Options
    from streams.service import obey, serve

    loaded = call.loaded()
    deployment = loaded.deployment.name if loaded else call.deployment

    def log_as(name: str) -> None:
        set_up(call.log_format, {"deployment": deployment, "arm": call.arm, "slot": name})

    log_as("standby" if slot == FROM_STDIN else slot)
    options = Options(
        kafka=kafka_settings(call.bootstrap_servers),
        member=member_settings(),
        repository=repository_url(call.repository),
        slot=slot,
        arm=call.arm,
        registry=call.registry,
        schema_folder=call.schema_folder,
        metrics_host=call.metrics_host,
        metrics_port=call.metrics_port,
        state_folder=STATE_FOLDER,
        batch_events=call.batch_events,
    )
    orders = _orders(loaded, log_as) if slot == FROM_STDIN else None
    if loaded is None:
        removed = obey(deployment, options, orders)
        if removed and orders is not None:  # a supervisor would start it again
            raise SystemExit(REMOVED)
    else:
        serve(loaded.deployment, loaded.reader, options, orders)


def _orders(
    loaded: Loaded | None, log_as: Callable[[str], None]
) -> Callable[[Callable[[], bool], Callable[[], bool]], Order | None]:
    """Return what waits for a slot on standard input, and from then on ends this process when the input ends."""
    import signal
    import threading

    from penstock.config import load_deployment
    from schemas.errors import SchemaError
    from streams.orders import await_end, await_order

    def changed() -> bool:
        try:
            return loaded is not None and load_deployment(loaded.path) != loaded
        except SchemaError:  # somebody is writing it
            return False

    def end_with_the_pipe() -> None:
        await_end(0)
        os.kill(os.getpid(), signal.SIGTERM)

    def orders(stopping: Callable[[], bool], stale: Callable[[], bool]) -> Order | None:
        order = await_order(0, stopping, lambda: changed() or stale())
        if order is not None:
            log_as(order.slot)
            threading.Thread(target=end_with_the_pipe, name="supervisor", daemon=True).start()
        return order

    return orders
