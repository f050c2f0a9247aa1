"""`penstock watch`: inferences, alerts or events of the audit as they come."""

from __future__ import annotations

import contextlib
import json
import sys
from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from penstock.cli.common import json_lines_option, said_plainly, servers_option

if TYPE_CHECKING:
    from rich.table import Table

    from penstock.client.errors import RecordUnreadable
    from penstock.client.inference import Position

ALERTS = "penstock.alerts"
_LINEAGE = (
    *("deployment", "revision", "event_schema", "source_topic", "source_partition", "source_offset"),
    *("assigned", "propensity", "fallback"),
)
_ALERT = ("at", "deployment", "state", "severity", "name", "detector", "value", "summary")


@click.command("watch")
@click.argument("topic", required=False, metavar="TOPIC|NAME|FILE")
@click.option("--alerts", is_flag=True, help=f"Show alerts (the topic {ALERTS}) instead of inferences.")
@click.option("--from", "start", type=click.Choice(["beginning", "end"]), default="end", show_default=True)
@click.option("--count", type=click.IntRange(min=1), help="Stop after N records.")
@json_lines_option
@servers_option
def command(
    topic: str | None, alerts: bool, start: str, count: int | None, as_json: bool, bootstrap_servers: str | None
) -> None:
    """Show the inferences of a topic, or of a deployment's output topic, live. Nothing is committed.

    A deployment is a YAML file, or the name of one under control where there is no topic of that name. Other topics
    are shown, too: `penstock watch penstock.events` tells what `penstock events` publishes.
    """
    from penstock.client.follow import follow
    from penstock.config import kafka_settings
    from schemas import records

    with said_plainly(), contextlib.suppress(KeyboardInterrupt):
        kafka, known = kafka_settings(bootstrap_servers), records.written("alert") if alerts else []
        name = _topic(topic, alerts, kafka)
        source = follow(kafka, name, "earliest" if start == "beginning" else "latest", known)
        try:
            if as_json:
                _lines(source, count)
            elif sys.stdout.isatty():
                _live(source, name, count, alerts)
            else:
                click.echo(f"records of {name} from its {start} on; Ctrl-C ends it", err=True)
                _rows(source, count, alerts)
        finally:
            source.close()  # type: ignore[attr-defined]


Records = Iterator["tuple[Position, dict[str, Any] | RecordUnreadable] | None"]


def _topic(topic: str | None, alerts: bool, kafka: dict[str, str]) -> str:
    if alerts:
        return topic or ALERTS
    if topic is None:
        raise click.UsageError("say what to watch: a topic, a deployment's YAML file, or --alerts")
    if topic.endswith((".yaml", ".yml")):
        from penstock.config import load_deployment

        return load_deployment(topic).deployment.output.topic
    return _named(topic, kafka)


def _named(name: str, kafka: dict[str, str]) -> str:
    """Return the topic of this name, else the output of the deployment. Raises ConfigError for a name of neither."""
    from penstock.client.cluster import partitions_of
    from penstock.client.errors import NoSuchTopic
    from penstock.errors import ConfigError
    from streams.control import read

    with contextlib.suppress(NoSuchTopic):
        partitions_of(kafka, name, patience=0.0)
        return name
    states = read(kafka).states
    if name in states:
        return states[name].content()[0].output.topic
    try:
        partitions_of(kafka, name)  # one that was just made
    except NoSuchTopic as error:
        there = ", ".join(sorted(states)) or "none"
        raise ConfigError(
            f"{name} is neither a topic on {kafka['bootstrap.servers']} nor a deployment under control, which has "
            f"{there}; check the name, or give the deployment's YAML file"
        ) from error
    return name


def _numbered(source: Records, count: int | None) -> Iterator[tuple[Position, dict[str, Any]] | None]:
    """The readable records up to `count`; an unreadable one is said on standard error."""
    left = count
    for item in source:
        if item is None:
            yield None
            continue
        position, record = item
        if isinstance(record, dict):
            yield position, record
            left = None if left is None else left - 1
        else:
            click.echo(str(record), err=True)
        if left == 0:
            return


def _lines(source: Records, count: int | None) -> None:
    from penstock.client.follow import plain

    for item in _numbered(source, count):
        if item is None:
            continue
        position, record = item
        message = {
            "topic": position.topic,
            "partition": position.partition,
            "offset": position.offset,
            "key": None if position.key is None else position.key.decode(errors="backslashreplace"),
            "timestamp": position.timestamp.isoformat(),
        }
        click.echo(json.dumps({**plain(record), "_message": message}))
        sys.stdout.flush()


def _rows(source: Records, count: int | None, alerts: bool) -> None:
    """One line a record, for a pipe or a file; once a minute the share of fallbacks on standard error."""
    import time

    from penstock.minute import SECONDS, Minute

    minute, said = Minute(), time.monotonic()
    for item in _numbered(source, count):
        now = time.monotonic()
        if item is not None:
            minute.saw(now, bool(item[1].get("fallback")))
            shown = _shown(*item, alerts)
            click.echo("  ".join(f"{name}={value}" for name, value in shown.items()))
        if now - said >= SECONDS:
            said = now
            if told := minute.told(now):
                click.echo(told, err=True)


def _live(source: Records, topic: str, count: int | None, alerts: bool) -> None:
    import time

    from rich.console import Console
    from rich.live import Live

    from penstock.minute import Minute

    console = Console()
    recent: deque[dict[str, str]] = deque(maxlen=max(5, console.height - 6))
    seen, rate, since = 0, 0.0, time.monotonic()
    before, minute = 0, Minute()
    with Live(console=console, auto_refresh=False) as live:
        for item in _numbered(source, count):
            if item is not None:
                recent.append(_shown(*item, alerts))
                minute.saw(time.monotonic(), bool(item[1].get("fallback")))
                seen += 1
            if (elapsed := time.monotonic() - since) > 0.25:
                rate, before, since = (seen - before) / elapsed, seen, time.monotonic()
                told = ", ".join(filter(None, (f"{seen:,} seen", f"{rate:,.0f}/s", minute.told(since))))
                live.update(_table(recent, f"{topic}: {told}"), refresh=True)
        live.update(_table(recent, f"{topic}: {seen:,} seen"), refresh=True)


def _table(recent: deque[dict[str, str]], title: str) -> Table:
    from rich.markup import escape
    from rich.table import Table

    names = list(dict.fromkeys(name for row in recent for name in row))
    table = Table(*map(escape, names), title=escape(title), title_justify="left", box=None, pad_edge=False)
    for row in recent:
        table.add_row(*(escape(row.get(name, "")) for name in names))
    return table


def _shown(position: Position, record: dict[str, Any], alerts: bool) -> dict[str, str]:
    """The columns that a person wants to see, as text."""
    if alerts:
        told = {"id": record["id"][:8]} if "id" in record else {}
        return told | {name: _text(record[name]) for name in _ALERT if name in record}
    if "specversion" in record:
        return _event(record)
    row = {"time": f"{position.timestamp:%H:%M:%S}"}
    if "model" in record and "version" in record:
        row |= {"arm": _text(record.get("arm")), "model": f"{record['model']}@{str(record['version'])[:8]}"}
        row["event"] = f"{record.get('source_partition')}:{record.get('source_offset')}"
        if record.get("fallback"):
            row["fallback"] = f"{record['fallback']} (for {record.get('assigned')})"
    hidden = {*_LINEAGE, "arm", "model", "version"} if "model" in row else set()
    return row | {name: _text(value) for name, value in record.items() if name not in hidden}


def _event(record: dict[str, Any]) -> dict[str, str]:
    data = record.get("data")
    told = data if isinstance(data, dict) else {}
    row = {name: record.get(name) for name in ("time", "type", "subject")}
    row |= {name: told.get(name) for name in ("who", "revision_after", "why")}
    return {name: _text(value) for name, value in row.items() if value not in (None, "")}


def _text(value: Any) -> str:
    import datetime

    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, datetime.datetime):
        return f"{value:%Y-%m-%d %H:%M:%S}"
    if isinstance(value, list):
        return ", ".join(_text(each) for each in value)
    return "" if value is None else str(value)
