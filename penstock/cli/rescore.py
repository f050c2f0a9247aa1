"""`penstock rescore`: what another version would have said of past events, and how that differs from what was said."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from penstock.cli.common import recorded_options, refusals

if TYPE_CHECKING:
    from streams.building import Wanted


@click.command("rescore")
@click.argument("deployment", metavar="NAME|FILE")
@click.option("--model", required=True, metavar="REF", help="The version that scores: NAME@TAG or NAME@VERSION.")
@click.option(
    "--from",
    "begin",
    required=True,
    help="First event: an ISO 8601 time (UTC) or day, today, yesterday, '7d ago', or PARTITION:OFFSET[,...].",
)
@click.option("--to", "end", required=True, help="First event that is left out, in the same form; now: all there are.")
@click.option("--output", metavar="TOPIC", help="Where the inferences go.  [default: one of this rescore alone]")
@click.option("--partial", is_flag=True, help="Go on although retention has removed events of the range.")
@click.option(
    "--compare/--no-compare", default=True, show_default=True, help="Compare with what was published of these events."
)
@click.option(
    "--tolerance", default=0.0, show_default=True, type=click.FloatRange(0), help="Differences up to it are no change."
)
@click.option(
    "--worst", default=10, show_default=True, type=click.IntRange(0, 1_000), help="Most different events told."
)
@click.option(
    "--batch-events", default=2_000, show_default=True, type=click.IntRange(1, 100_000), help="Largest batch."
)
@recorded_options
def command(
    deployment: str,
    model: str,
    begin: str,
    end: str,
    output: str | None,
    partial: bool,
    compare: bool,
    tolerance: float,
    worst: int,
    batch_events: int,
    as_json: bool,
    bootstrap_servers: str | None,
    repository: str | None,
    registry: str | None,
    schema_folder: Path | None,
    log_format: str,
) -> None:
    """Score past events of a deployment with another version, into a topic of their own, and compare.

    NAME is that of a deployment under control, FILE a YAML file. The events of the range are read as its workers read
    them, and scored with one version: each has one inference, of the arm `rescore`, or one dead letter in the topic
    beside. The deployment, its group and its topics are left alone. Killed or stopped, the same command goes on where
    it ended; nothing is lost or doubled. Then the inferences are compared with those that the output topic holds of
    the same events.

    Exit status: 0 done, 1 stopped before the end, 2 refused (the message says what to change), 3 another process runs
    the same rescore.
    """
    import os

    os.environ.setdefault("POLARS_MAX_THREADS", "1")  # as the worker scores
    from penstock import rescores
    from penstock.config import STATE_FOLDER, kafka_settings, repository_url
    from penstock.logs import set_up
    from streams import comparing, rescoring
    from streams.reading import Point
    from streams.rescore import Desk, Options

    with refusals():
        kafka = kafka_settings(bootstrap_servers)
        wanted = wanted_of(deployment, bootstrap_servers)
        set_up(log_format, {"deployment": wanted.deployment.name, "arm": "rescore"})
        options = Options(
            kafka=kafka,
            repository=repository_url(repository),
            model=model,
            begin=Point.parse(begin),
            end=Point.parse(end),
            output=output,
            partial=partial,
            registry=registry,
            schema_folder=schema_folder,
            state_folder=STATE_FOLDER,
            batch_events=batch_events,
        )
        desk, stopping = Desk(options), _signals()
        try:
            errand = desk.errand(wanted, stopping)
            report = rescoring.rescore(errand, options, stopping)
            compared = None
            if compare and report.done:
                _signals(restore=True)
                compared = comparing.compare(errand, options, desk.schemas, tolerance=tolerance, worst=worst)
        finally:
            desk.close()
    told = rescores.content(report, compared)
    click.echo(json.dumps(told, indent=2) if as_json else rescores.page(report, compared))
    raise SystemExit(0 if report.done else 1)


def wanted_of(text: str, servers: str | None) -> Wanted:
    """Return what a file declares, or the state that control has under a name."""
    from penstock.cli import control
    from penstock.config import load_deployment, names_file
    from streams.building import Wanted

    if names_file(text):
        loaded = load_deployment(text)
        return Wanted.declared(loaded.deployment, loaded.reader)
    return Wanted.of_state(control.state_named(text, servers))


def _signals(*, restore: bool = False) -> Callable[[], bool]:
    """Return what says whether SIGTERM or SIGINT came; the next one ends the process. restore: so does the first."""
    import signal

    told: list[int] = []

    def note(number: int, _: object) -> None:
        told.append(number)
        signal.signal(number, signal.SIG_DFL)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL if restore else note)
    return lambda: bool(told)
