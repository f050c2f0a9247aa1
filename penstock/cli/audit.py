"""`penstock audit`: whether the record of all changes is whole, and one of them in full."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from penstock.cli import control
from penstock.cli.common import Refusal, counted, said_plainly, servers_option
from penstock.cli.history import content

if TYPE_CHECKING:
    from schemas.chain import Finding
    from schemas.control import Entry, Head
    from streams.control import ControlLog


@click.group("audit")
def command() -> None:
    """The record of all changes of deployments and tags: verify, show."""


@command.command()
@click.option(
    "--contains",
    metavar="ENTRY:HASH",
    help="An entry that must be in it, as an earlier verification printed it: an audit written anew lacks it.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of lines.")
@servers_option
def verify(contains: str | None, as_json: bool, bootstrap_servers: str | None) -> None:
    """Find out whether any entry was edited, removed or added beside the chain, and whether states match it.

    Exit status: 0 it is whole, 1 it is not (each finding says what and where), 2 it cannot be read.
    """
    from penstock.config import kafka_settings
    from schemas import chain
    from streams.control import read

    known = _known(contains) if contains else None
    with said_plainly():
        log = read(kafka_settings(bootstrap_servers), whole=True)
    found = log.findings() + (chain.contains(log.entries, known) if known else [])
    if as_json:
        click.echo(json.dumps(_report(log, found), indent=2))
    else:
        _print(log, found)
    if found:
        raise SystemExit(1)


def _known(text: str) -> Head:
    from schemas.control import Head

    match = re.fullmatch(r"(\d{1,18}):([0-9a-f]{64})", text)
    if not match:
        raise click.BadParameter(
            f"{text!r} is no entry: write its number and its hash, 12:5f3c...", param_hint="--contains"
        )
    return Head(int(match[1]), match[2])


def _report(log: ControlLog, found: list[Finding]) -> dict[str, object]:
    return {
        "whole": not found,
        "entries": len(log.entries),
        "deployments": len(log.states),
        "head": asdict(log.head),
        "findings": [asdict(finding) for finding in found],
    }


def _print(log: ControlLog, found: list[Finding]) -> None:
    from penstock.changes import printable

    for finding in found:
        click.echo(f"! {printable(finding.text)}")
    if found:
        what = counted(len(found), "finding")
        click.echo(f"the audit is not whole: {what} in {log.head.sequence or len(log.entries)} entries", err=True)
    elif not log.entries:
        click.echo("there is no audit yet: `penstock apply` begins one")
    else:
        entries = "1 entry" if len(log.entries) == 1 else f"{len(log.entries):,} entries"
        click.echo(f"the audit is whole: {entries}, and {counted(len(log.states), 'deployment')} as it tells")
        click.echo(f"its last entry is {log.head.sequence}:{log.head.hash}")


@command.command()
@click.argument("sequence", type=click.IntRange(1))
@click.option("--json", "as_json", is_flag=True, help="The whole entry as JSON.")
@servers_option
def show(sequence: int, as_json: bool, bootstrap_servers: str | None) -> None:
    """Everything about the entry SEQUENCE."""
    from penstock import changes

    with said_plainly():
        entries = [e for e in control.look(bootstrap_servers, whole=True).entries if e.sequence == sequence]
    if not entries:
        raise Refusal(f"the audit has no entry {sequence}; `penstock history` lists those that it has")
    for entry in entries:
        if as_json:
            click.echo(json.dumps(content(entry), indent=2))
            continue
        for name, value in _page(entry):
            click.echo(f"{name:<10} {changes.printable(value)}")
        for line in changes.lines(entry.before, entry.after):
            click.echo(f"  {changes.printable(line)}")


def _page(entry: Entry) -> Iterator[tuple[str, str]]:
    from penstock import changes
    from schemas.chain import hash_of

    yield "entry", f"{entry.sequence} ({entry.id})"
    yield "when", changes.when(entry.at_ms)
    yield "who", f"{entry.who} on {entry.host}"
    yield "action", f"{entry.action} {entry.subject_kind} {entry.subject}"
    yield "why", entry.why or "not said"
    if entry.changes_state:
        yield "revision", f"{entry.revision_before or 'none'} -> {entry.revision_after or 'none'}"
    yield "previous", entry.previous or "none"
    yield "hash", entry.hash + ("" if hash_of(entry) == entry.hash else "  (not that of its content: it was edited)")
    yield "signed", f"by {entry.signer}" if entry.signature else "no"
