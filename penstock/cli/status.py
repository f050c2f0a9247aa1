"""`penstock status`: what each slot runs, beside what control asks of it."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from penstock.cli.common import said_plainly, servers_option

if TYPE_CHECKING:
    from schemas.control import State
    from streams.statuses import Row


@click.command()
@click.argument("name", required=False)
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of a page.")
@servers_option
def command(name: str | None, as_json: bool, bootstrap_servers: str | None) -> None:
    """Show what control asks for and what each slot runs, of all deployments or of NAME.

    Exit status: 0 every slot runs what it should, 1 one does not.
    """
    with said_plainly():
        from penstock.config import kafka_settings
        from penstock.errors import ConfigError
        from streams import control, statuses

        kafka = kafka_settings(bootstrap_servers)
        states = control.read(kafka).states
        if name is not None and name not in states:
            there = ", ".join(sorted(states)) or "none"
            raise ConfigError(f"control has no deployment {name}; it has {there}")
        wanted = {each: state for each, state in states.items() if name in (None, each)}
        found = statuses.rows(statuses.read(kafka), states, time.time())
        rows = [row for row in found if name in (None, row.status.deployment)]
    click.echo(_json(wanted, rows) if as_json else "\n".join(_page(wanted, rows)))
    raise SystemExit(0 if all(row.fine for row in rows) else 1)


def _json(states: dict[str, State], rows: list[Row]) -> str:
    return json.dumps(
        {
            "deployments": [json.loads(state.told()) for state in states.values()],
            "slots": [asdict(row.status) | {"verdict": row.verdict, "age": round(row.age, 1)} for row in rows],
        },
        indent=2,
    )


def _page(states: dict[str, State], rows: list[Row]) -> Iterator[str]:
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
            yield f"  slot {group}/{status.slot}  revision {running} ({said}): {row.verdict}"


def _told(state: State) -> str:
    return f"revision {state.revision}" + (", paused" if state.paused else "")
