"""`penstock produce`: feed files of events into a topic, fast, at a rate, or as their event times say."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from penstock.cli.common import said_plainly, servers_option

if TYPE_CHECKING:
    from penstock.client.feeding import Feed
    from penstock.client.files import EventFile
    from penstock.client.pacing import Pace


@click.command("produce")
@click.argument("files", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--deployment", type=click.Path(path_type=Path), help="Take topic, schema, event time from this YAML.")
@click.option("--topic", help="Publish to this topic.")
@click.option("--schema", type=click.Path(path_type=Path), help="The events' Avro schema, an .avsc file.")
@click.option("--key", help="The field whose value becomes the message key.")
@click.option("--rate", type=click.FloatRange(min=0, min_open=True), help="Events per second.")
@click.option("--event-time", help="Replay as far apart as this timestamp field says. The record timestamp stays now.")
@click.option("--speed", type=click.FloatRange(min=0, min_open=True), help="Times real time, with --event-time.")
@click.option(
    "--repeat",
    type=click.IntRange(min=0),
    default=1,
    show_default=True,
    help="Times the files are sent; 0: until stopped.",
)
@click.option("--limit", type=click.IntRange(min=1), help="Stop after N events.")
@click.option("--quiet", is_flag=True, help="No progress bar; errors and the last line stay.")
@servers_option
def command(files: tuple[Path, ...], bootstrap_servers: str | None, **options: Any) -> None:
    """Publish the events of CSV, JSON lines (.jsonl, .ndjson) and Parquet FILES.

    Values are checked against the schema; the first that does not fit stops with file, line and field. SIGTERM and
    Ctrl-C end it in order: what was sent is waited for and counted.

    Exit status: 0 all was sent, or it was stopped by a signal; 1 it ended before the end, and the message says how many
    were sent; 2 refused before anything was sent.
    """
    with said_plainly():
        feed = _feed(files, bootstrap_servers, options)
        started = time.monotonic()
        with _until_signalled(feed):
            _sent(feed, quiet=options["quiet"])
        if feed.stopped:
            click.echo("stopped", err=True)
        _account(feed, time.monotonic() - started)


def _sent(feed: Feed, *, quiet: bool) -> None:
    """Send everything; what fails on the way ends with 1, for a part was sent."""
    from penstock.client.errors import ClientError, EventInvalid, FileInvalid

    try:
        with feed.producer:
            try:
                _run(feed, quiet=quiet)
            except (EventInvalid, FileInvalid) as error:
                raise click.ClickException(f"{error}; {feed.sent:,} events before it were published") from None
    except ClientError as error:
        raise click.ClickException(f"{error} ({feed.sent:,} events were sent before)") from None


@contextlib.contextmanager
def _until_signalled(feed: Feed) -> Iterator[None]:
    """Let SIGTERM and SIGINT end the feed in order; the second one ends the process at once."""
    import signal

    def stop(number: int, _: object) -> None:
        feed.stop()
        signal.signal(number, signal.SIG_DFL)

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _feed(files: tuple[Path, ...], bootstrap_servers: str | None, options: dict[str, Any]) -> Feed:
    from penstock.client.feeding import Feed
    from penstock.client.files import open_file
    from penstock.client.producer import Producer
    from penstock.config import kafka_settings

    topic, schema, event_time = _target(options)
    pace = _pace(options, event_time)
    settings = kafka_settings(bootstrap_servers)
    producer = Producer(settings.pop("bootstrap.servers"), topic, schema, options["key"], **settings)
    opened = [open_file(path, producer.encoder) for path in files]
    return Feed(
        producer,
        opened,
        pace,
        key=options["key"],
        event_time=event_time if options["speed"] or options["event_time"] else None,
        repeat=options["repeat"],
        limit=options["limit"],
    )


def _target(options: dict[str, Any]) -> tuple[str, Any, str | None]:
    """Topic, schema and event-time field, from a deployment or from options, which win."""
    topic, schema, event_time = options["topic"], options["schema"], options["event_time"]
    if options["deployment"]:
        from penstock.config import load_deployment

        loaded = load_deployment(options["deployment"])
        topic = topic or loaded.deployment.input.topic
        schema = schema or loaded.reader
        event_time = event_time or loaded.deployment.input.event_time
    if not topic or not schema:
        raise click.UsageError("say where to: --deployment FILE, or --topic TOPIC and --schema FILE")
    return topic, schema, event_time


def _pace(options: dict[str, Any], event_time: str | None) -> Any:
    """A factory of paces: every repetition starts anew."""
    from penstock.client.pacing import EventTime, FixedRate, Unlimited

    by_time = options["speed"] or options["event_time"]
    if by_time and options["rate"]:
        raise click.UsageError("--rate and --event-time/--speed exclude each other")
    if by_time and not event_time:
        raise click.UsageError("--speed needs --event-time FIELD, or a deployment that declares input.event_time")

    def pace() -> Pace:
        if by_time:
            return EventTime(options["speed"] or 1.0)
        return FixedRate(options["rate"]) if options["rate"] else Unlimited()

    return pace


def _run(feed: Feed, *, quiet: bool) -> None:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        Progress,
        TaskProgressColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    console = Console(stderr=True)
    if quiet or not console.is_terminal:
        feed.run()
        return
    columns = (
        TextColumn(f"{feed.producer.topic}"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[sent]:,} events, {task.fields[rate]:,.0f}/s"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("produce", total=None, sent=0, rate=0.0)

        def show(feed: Feed) -> None:
            done, total = _share(feed)
            elapsed = max(feed.clock.elapsed(), 1e-3)
            bar.update(task, completed=done, total=total, sent=feed.sent, rate=feed.sent / elapsed)

        feed.progress = show
        feed.run()


def _share(feed: Feed) -> tuple[float, float | None]:
    """How much is done of how much: events where a limit is set, else files, else unknown (for ever)."""
    if feed.limit is not None:
        return feed.sent, feed.limit
    if feed.repeat == 0:
        return 0, None
    share = sum(_part(file) for file in feed.files) / len(feed.files)
    return (share + max(0, feed.rounds - 1)) / feed.repeat, 1.0


def _part(file: EventFile) -> float:
    return file.done / file.total if file.total else 1.0


def _account(feed: Feed, seconds: float) -> None:
    rate = feed.sent / max(seconds, 1e-3)
    click.echo(
        f"{feed.sent:,} events to {feed.producer.topic} in {seconds:.1f} s ({rate:,.0f}/s), all acknowledged", err=True
    )
    for file in feed.files:
        if file.ignored:
            click.echo(f"{file.path}: not in the schema and left out: {', '.join(file.ignored)}", err=True)
    if feed.disordered:
        click.echo(
            f"{feed.disordered:,} events had no {feed.event_time}, or an earlier one than those before: sent at once",
            err=True,
        )
