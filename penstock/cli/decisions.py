"""`penstock decisions`, `approve`, `veto`: what the controller decided, why, and what people say of it."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from penstock.cli import control
from penstock.cli.common import json_lines_option, json_option, said_plainly, servers_option

if TYPE_CHECKING:
    from penstock.controller.decisions import Known

EVERY = 1.0  # seconds between two looks of `watch`
number_argument = click.argument("number", type=click.IntRange(1), metavar="N")


@click.group("decisions")
def command() -> None:
    """What the controller decided: list, watch, explain. `penstock approve N` and `veto N` answer."""


@command.command("list")
@click.argument("name", required=False)
@json_lines_option
@servers_option
def list_decisions(name: str | None, as_json: bool, bootstrap_servers: str | None) -> None:
    """All decisions, or those about the deployment NAME, oldest first."""
    with said_plainly():
        found = [known for known in _known(bootstrap_servers) if name in (None, known.deployment)]
    if not found and not as_json:
        click.echo("nothing was decided" + (f" about {name}" if name else "") + ": does `penstock controller` run?")
    _show(found, as_json)


@command.command()
@click.argument("name", required=False)
@json_lines_option
@servers_option
def watch(name: str | None, as_json: bool, bootstrap_servers: str | None) -> None:
    """The same, and each decision as it is made or answered, until Ctrl-C."""
    told: dict[str, str] = {}
    with said_plainly():
        while True:
            found = [known for known in _known(bootstrap_servers) if name in (None, known.deployment)]
            _show([known for known in found if told.get(known.id) != known.became], as_json)
            told = {known.id: known.became for known in found}
            time.sleep(EVERY)


@command.command()
@number_argument
@json_option
@servers_option
def explain(number: int, as_json: bool, bootstrap_servers: str | None) -> None:
    """The evidence of decision N, in words and numbers."""
    from penstock.controller.decisions import explained

    with said_plainly():
        known = _numbered(number, bootstrap_servers)
    if as_json:
        click.echo(json.dumps(asdict(known), indent=2))
        return
    for line in explained(known):
        click.echo(line)


@click.command("approve")
@number_argument
@control.change_options
def approve(number: int, why: str, by: str | None, bootstrap_servers: str | None) -> None:
    """Let the controller do what it proposed as decision N."""
    _answer("approve", number, why, by, bootstrap_servers)


@click.command("veto")
@number_argument
@control.change_options
def veto(number: int, why: str, by: str | None, bootstrap_servers: str | None) -> None:
    """Forbid what the controller proposed as decision N: the same is not proposed again."""
    _answer("veto", number, why, by, bootstrap_servers)


def _answer(action: str, number: int, why: str, by: str | None, servers: str | None) -> None:
    from penstock.controller.answering import answered

    with said_plainly():
        written = control.write(servers, lambda world: answered(world, action, number), by, why, whole=True)
        verb = "approved" if action == "approve" else "vetoed"
        if written is None:
            click.echo(f"decision {number} is {verb} already; nothing was changed")
        else:
            more = "; the controller does it now, if it runs" if action == "approve" else ""
            click.echo(f"decision {number} is {verb} (entry {written.entries[0].sequence} of the audit){more}")


def _known(servers: str | None) -> list[Known]:
    from penstock.controller.decisions import decisions_of

    return decisions_of(control.look(servers, whole=True).entries)


def _numbered(number: int, servers: str | None) -> Known:
    from penstock.controller.answering import numbered

    return numbered(_known(servers), number)


def _show(found: list[Known], as_json: bool) -> None:
    from penstock.changes import printable, when

    for known in found:
        if as_json:
            click.echo(json.dumps(asdict(known)))
            continue
        line = f"{known.number:>6}  {when(known.at_ms)}  {known.became:<8}  {known.deployment}: {known.summary}; "
        click.echo(printable(line + known.told["why"]))
