"""`penstock history`: every change of deployments and tags, and every note, oldest first."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterable
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from penstock.cli import control
from penstock.cli.common import said_plainly, servers_option

if TYPE_CHECKING:
    from schemas.control import Entry

UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def moment(text: str, option: str = "--since") -> int:
    """Return what an option means in ms since 1970: an ISO 8601 time (UTC where it names no zone), or 30m, 12h, 7d."""
    if match := re.fullmatch(r"(\d{1,6})([smhd])", text):
        return round((time.time() - int(match[1]) * UNITS[match[2]]) * 1000)
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise click.BadParameter(
            f"{text!r} is no time: write 2026-05-01T12:00:00Z, or 12h or 7d for so long ago", param_hint=option
        ) from None
    return round((found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp() * 1000)


@click.command("history")
@click.argument("name", required=False)
@click.option("--since", metavar="TIME", help="Only what came later: 2026-05-01T12:00:00Z (UTC), or 12h, 7d.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line, with what was before and after.")
@servers_option
def command(name: str | None, since: str | None, as_json: bool, bootstrap_servers: str | None) -> None:
    """Every change, or those of the deployment or model NAME: when, who, what and why."""
    begin = moment(since) if since else 0
    with said_plainly():
        entries = [
            entry
            for entry in control.look(bootstrap_servers, whole=True).entries
            if entry.at_ms >= begin and name in (None, entry.subject)
        ]
    if as_json:
        for entry in entries:
            click.echo(json.dumps(content(entry)))
    elif entries:
        _print_table(entries)
    else:
        about = f" of {name}" if name else ""
        click.echo(f"no change{about} is known{' since ' + since if since else ''}")


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
