"""`penstock deadletters`: see what could not be scored and why, and feed it in again."""

from __future__ import annotations

import base64
import json
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click

from penstock.cli.common import Refusal, counted, json_lines_option, said_plainly, servers_option
from schemas.values import Reason

if TYPE_CHECKING:
    from penstock.client.deadletters import DeadLetter, Replay

PIPED_WIDTH = 240  # in a file or a pipe nothing is cut off: what one looks for there is the event's place
_REASONS = click.option(
    "--reason",
    "reasons",
    multiple=True,
    type=click.Choice(get_args(Reason)),
    metavar="REASON",
    help=f"Only letters of this reason; may be repeated. One of {', '.join(get_args(Reason))}.",
)


@click.group("deadletters")
def command() -> None:
    """Dead letters: events that could not be decoded or scored, byte for byte, with the reason.

    NAME is a dead-letter topic, a deployment's name, or a deployment's YAML file.
    """


@command.command("list")
@click.argument("name")
@_REASONS
@click.option("--limit", type=click.IntRange(min=1), help="Show the first N.")
@json_lines_option
@servers_option
def list_(name: str, reasons: tuple[str, ...], limit: int | None, as_json: bool, bootstrap_servers: str | None) -> None:
    """List the dead letters, and count them by reason."""
    from itertools import islice

    with _errors():
        from penstock.client.deadletters import read
        from penstock.config import kafka_settings

        letters = islice(read(kafka_settings(bootstrap_servers), _topic(name), reasons), limit)
        if as_json:
            for letter in letters:
                click.echo(json.dumps(_as_json(letter)))
        else:
            _table(letters)


@command.command("show")
@click.argument("name")
@click.argument("position", metavar="PARTITION:OFFSET")
@click.option("--save", type=click.Path(path_type=Path), help="Write the event's bytes to this file.")
@click.option("--json", "as_json", is_flag=True, help="As one JSON object, value and key in base64.")
@servers_option
def show(name: str, position: str, save: Path | None, as_json: bool, bootstrap_servers: str | None) -> None:
    """Show one dead letter with its headers and bytes."""
    with _errors():
        from penstock.client.deadletters import Range, find
        from penstock.config import kafka_settings

        at = Range.parse(position)
        letter = find(kafka_settings(bootstrap_servers), _topic(name), at.partition, at.first)
        if letter is None:
            raise Refusal(f"{_topic(name)} has no letter at {position}; see `penstock deadletters list`")
        if save is not None:
            save.write_bytes(letter.value or b"")
        click.echo(json.dumps(_as_json(letter), indent=2) if as_json else _page(letter))


@command.command("replay")
@click.argument("name")
@_REASONS
@click.option("--offsets", multiple=True, metavar="PARTITION:FIRST-LAST", help="Exactly these, replayed or not.")
@click.option("--to", help="Publish to this topic instead of the one each came from.")
@click.option("--limit", type=click.IntRange(min=1), help="Replay at most N.")
@click.option("--dry-run", is_flag=True, help="Only say what would be replayed.")
@servers_option
def replay(
    name: str,
    reasons: tuple[str, ...],
    offsets: tuple[str, ...],
    to: str | None,
    limit: int | None,
    dry_run: bool,
    bootstrap_servers: str | None,
) -> None:
    """Feed dead letters in again, byte for byte, with the header penstock.replayed-from.

    A letter is replayed once: the progress is kept per reason in the topic penstock.replays, in the same transaction
    as the letters. Only --offsets replays letters again, and leaves that progress as it is.
    """
    with _errors():
        from penstock.client.deadletters import Range, Replay
        from penstock.config import kafka_settings

        topic, ranges = _topic(name), [Range.parse(text) for text in offsets]
        run = Replay(kafka_settings(bootstrap_servers), topic, reasons=reasons, ranges=ranges, to=to, limit=limit)
        if dry_run:
            targets = Counter((letter.reason, to or letter.about.get("source.topic", "?")) for letter in run.pending())
            run.close()
            for (reason, target), count in sorted(targets.items()):
                click.echo(f"would replay {count:,} {reason} to {target}")
            click.echo(f"dry run: {counted(targets.total(), 'letter')} of {topic} would be replayed, nothing was sent")
            _notes(run)
            return
        count = run.run()
        kept = "the progress was left as it is" if ranges else "no later replay sends them again"
        told = f"replayed {counted(count, 'letter')} of {topic}; {kept}"
        click.echo(told if count else f"nothing to replay in {topic}")
        for letter in run.incomplete:
            click.echo(f"not replayed: the event at {letter.source}, whose letter lacks its {letter.about['left_out']}")
        _notes(run)


def _notes(run: Replay) -> None:
    for note in run.notes:
        click.echo(f"note: {note}")


@contextmanager
def _errors() -> Iterator[None]:
    """Errors that are meant for a person, without a traceback."""
    with said_plainly():
        try:
            yield
        except ValueError as error:
            raise Refusal(str(error)) from None


def _topic(name: str) -> str:
    if name.endswith((".yaml", ".yml")):
        from penstock.config import load_deployment

        return load_deployment(name).deployment.dead_letter_topic()
    return name if "dead-letters" in name else f"{name}.dead-letters"


def _as_json(letter: DeadLetter) -> dict[str, Any]:
    place = letter.position
    return {
        "topic": place.topic,
        "partition": place.partition,
        "offset": place.offset,
        **letter.about,
        "key": _base64(place.key),
        "value": _base64(letter.value),
        "headers": [[name, _base64(value)] for name, value in letter.headers],
    }


def _base64(value: bytes | None) -> str | None:
    return None if value is None else base64.b64encode(value).decode()


def _table(letters: Iterator[DeadLetter]) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table("position", "time", "reason", "detail", "event", "bytes", box=None, pad_edge=False)
    counts: Counter[str] = Counter()
    for letter in letters:
        place = letter.position
        counts[letter.reason] += 1
        table.add_row(
            f"{place.partition}:{place.offset}",
            letter.about.get("time", "")[:19],
            *(escape(text) for text in (letter.reason, letter.about.get("detail", ""), letter.source)),
            "tombstone" if letter.value is None else f"{len(letter.value):,}",
        )
    Console(width=None if sys.stdout.isatty() else PIPED_WIDTH).print(table)
    total = ", ".join(f"{count:,} {reason}" for reason, count in counts.most_common())
    click.echo(counted(counts.total(), "dead letter") + (f": {total}" if total else ""))


def _page(letter: DeadLetter) -> str:
    place = letter.position
    lines = [f"{place.topic}/{place.partition}/{place.offset}", ""]
    lines += [f"{name:<18} {_readable(name, value)}" for name, value in letter.about.items() if value]
    lines += [f"header {name:<11} {value!r}" for name, value in letter.headers]
    lines += [f"{'key':<18} {place.key!r}", ""]
    return "\n".join([*lines, *_hex(letter.value)])


def _readable(name: str, value: str) -> str:
    """A header's value; the time of the event, in milliseconds, as a time too."""
    if name != "source.timestamp" or not value.isdigit():
        return value
    return f"{datetime.fromtimestamp(int(value) / 1000, UTC).isoformat(timespec='milliseconds')} ({value})"


def _hex(value: bytes | None) -> Iterator[str]:
    """The bytes, 16 a line, in hexadecimal and as text; the first 4096 of them."""
    if value is None:
        yield "no value (tombstone)"
        return
    yield f"value, {len(value):,} bytes"
    for at in range(0, min(len(value), 4096), 16):
        part = value[at : at + 16]
        yield f"{at:06x}  {part.hex(' '):<47}  {''.join(chr(byte) if 32 <= byte < 127 else '.' for byte in part)}"
    if len(value) > 4096:
        yield f"... {len(value) - 4096:,} more bytes; --save FILE writes all of them"
