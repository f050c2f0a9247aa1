"""`penstock history`: every change of deployments and tags, and every note, oldest first."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from penstock.cli import control
from penstock.cli.common import said_plainly, servers_option
from schemas.moments import TIME_FORMS, moment_of

if TYPE_CHECKING:
    from schemas.control import Entry

SINCE = "2026-05-01T12:00:00Z (UTC), 2026-05-01, yesterday, or 12h, 7d ago."


def moment(text: str, option: str = "--since") -> int:
    """Return what an option means in ms since 1970; see `schemas.moments`."""
    found = moment_of(text, time.time())
    if found is None:
        raise click.BadParameter(f"{text!r} is no time: {TIME_FORMS}", param_hint=option)
    return found


@click.command("history")
@click.argument("name", required=False)
@click.option("--since", metavar="TIME", help=f"Only what came later: {SINCE}")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line, with what was before and after.")
@servers_option
def command(name: str | None, since: str | None, as_json: bool, bootstrap_servers: str | None) -> None:
    """Every change, or those of the deployment or model NAME: when, who, what and why."""
    begin = moment(since) if since else 0
    with said_plainly():
        told = control.look(bootstrap_servers, whole=True).entries
        if name is not None:
            _refuse_unknown(name, told)
        entries = [entry for entry in told if entry.at_ms >= begin and name in (None, entry.subject)]
    if as_json:
        for entry in entries:
            click.echo(json.dumps(content(entry)))
    elif entries:
        _print_table(entries)
    else:
        about = f" of {name}" if name else ""
        click.echo(f"no change{about} is known{' since ' + since if since else ''}")


def _refuse_unknown(name: str, entries: Iterable[Entry]) -> None:
    """Raise ConfigError for a name that no entry is about, with those that there are."""
    from penstock.errors import ConfigError

    known: dict[str, set[str]] = {}
    for entry in entries:
        known.setdefault(entry.subject_kind, set()).add(entry.subject)
    if any(name in subjects for subjects in known.values()):
        return
    told = "; ".join(f"{kind}s: {', '.join(sorted(subjects)[:20])}" for kind, subjects in sorted(known.items()))
    raise ConfigError(
        f"the audit tells nothing of {name}: no deployment, model or run of that name was ever changed; it tells of "
        f"{told or 'nothing yet: `penstock apply FILE` begins'}"
    )


def content(entry: Entry) -> dict[str, Any]:
    """Return an entry as JSON values, what was before and after taken apart."""
    told = {"before": _parsed(entry.before), "after": _parsed(entry.after)}
    signature = {"signature": entry.signature.hex() if entry.signature else None}
    return {**asdict(entry), **told, **signature}


def _parsed(text: str | None) -> Any:
    try:
        return json.loads(text) if text else None
    except ValueError:  # nothing that a writer of ours tells
        return text


def _print_table(entries: Iterable[Entry]) -> None:
    from penstock import changes

    rows = [("ENTRY", "WHEN", "WHO", "ACTION", "SUBJECT", "REVISION", "CHANGE", "WHY")]
    for entry in entries:
        revision = "" if entry.revision_after is None else str(entry.revision_after)
        subject = entry.subject if entry.subject_kind == "deployment" else f"{entry.subject_kind} {entry.subject}"
        cells = (str(entry.sequence), changes.when(entry.at_ms), entry.who, entry.action, subject, revision)
        told = (changes.printable(text) for text in (*cells, changes.summary(entry), entry.why))
        rows.append(tuple(told))  # type: ignore[arg-type]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
