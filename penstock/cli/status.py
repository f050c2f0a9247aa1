"""`penstock status`: what each slot runs, beside what control asks of it."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import click

from penstock.cli.common import json_option, said_plainly, servers_option

if TYPE_CHECKING:
    from schemas.control import State
    from schemas.vitals import Vitals
    from streams.fleet import Group
    from streams.statuses import Row


@click.command()
@click.argument("name", required=False)
@json_option
@servers_option
def command(name: str | None, as_json: bool, bootstrap_servers: str | None) -> None:
    """Show what control asks for and what each slot runs, of all deployments or of NAME.

    Exit status: 0 every slot runs what it should, 1 one does not, or nobody runs an arm of a deployment that is not
    paused; 2 refused.
    """
    with said_plainly():
        from penstock.changes import printable
        from penstock.config import kafka_settings
        from streams import control, fleet, statuses

        kafka = kafka_settings(bootstrap_servers)
        states = control.read(kafka).states
        wanted = {each: state for each, state in states.items() if name in (None, each)}
        found = statuses.rows(statuses.read(kafka), states, time.time())
        rows = [row for row in found if name in (None, row.status.deployment)]
        if name is not None and not wanted and not rows:
            control.state_of(states, name)
        groups = fleet.groups(kafka, wanted, [row.status for row in rows], time.time())
        unmanned = statuses.unmanned(wanted, rows)
    told = Found(wanted, rows, groups, unmanned)
    click.echo(_json(told) if as_json else "\n".join(map(printable, _page(told))))
    missed = any(not state.paused for state, _ in unmanned)
    raise SystemExit(1 if missed or not all(row.fine for row in rows) else 0)


@dataclass(frozen=True, slots=True)
class Found:
    """What is told. unmanned: arms without a slot, each with its deployment's state."""

    states: dict[str, State]
    rows: list[Row]
    groups: list[Group]
    unmanned: list[tuple[State, str]]


def _json(found: Found) -> str:
    states, rows, groups = found.states, found.rows, found.groups
    return json.dumps(
        {
            "unmanned": [{"deployment": state.deployment, "arm": arm} for state, arm in found.unmanned],
            "deployments": [json.loads(state.told()) for state in states.values()],
            "slots": [asdict(row.status) | {"verdict": row.verdict, "age": round(row.age, 1)} for row in rows],
            "signals": [group.told() for group in groups],
        },
        indent=2,
    )


def _page(found: Found) -> Iterator[str]:
    states, rows = found.states, found.rows
    if not states and not rows:
        yield "nothing is under control yet: `penstock apply FILE` begins"
    for name in sorted({*states, *(row.status.deployment for row in rows)}):
        state = states.get(name)
        yield f"{name}: {_told(state)}" if state else f"{name}: not in control"
        for arm in state.arms if state else ():
            share = "" if arm.weight is None else f" {arm.weight:g} %"
            share = " every event" if arm.role == "all" else share
            yield f"  {arm.name:<12} {arm.pinned}{share}  ({arm.ref})"
        for row in (each for each in rows if each.status.deployment == name):
            status = row.status
            running = "-" if status.revision is None else str(status.revision)
            group = status.group.removeprefix(f"penstock.{name}").removeprefix(".") or "active"
            said = f"{status.state}, {status.host}:{status.pid}, {row.age:.0f} s ago"
            yield f"  slot {group}/{status.slot}  revision {running} ({said}): {row.verdict}{_load(status.vitals)}"
        for missing in (missing for each, missing in found.unmanned if each is state):
            yield f"  slot {missing}: nobody runs it; `penstock worker {name}{_option(missing)}` does"
        for each in (each for each in found.groups if each.deployment == name):
            yield f"  load {each.arm:<7} {each}"


def _option(arm: str) -> str:
    return "" if arm == "active" else f" --arm {arm}"


def _load(vitals: Vitals | None) -> str:
    """Return what a slot says of itself beyond what its group says."""
    if vitals is None:
        return ""
    told = {
        "reads": f"{vitals.partitions} of {vitals.topic_partitions} partitions",
        "a row took": None if vitals.row_seconds is None else f"{vitals.row_seconds * 1e6:,.2f} us at the warm-up",
        "uses": None if vitals.cpu is None else f"{vitals.cpu:.2f} cores",
        "has": None if vitals.memory is None else f"{vitals.memory >> 20:,} MiB",
    }
    return "; " + ", ".join(f"{name} {text}" for name, text in told.items() if text is not None)


def _told(state: State) -> str:
    return f"revision {state.revision}" + (", paused" if state.paused else "")
