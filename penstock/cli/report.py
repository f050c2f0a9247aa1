"""`penstock report`: how a deployment's traffic compares with its references over a range, as a page or as JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from penstock.cli.common import counted, repository_option, said_plainly, servers_option

if TYPE_CHECKING:
    from collections.abc import Mapping

    from models.reference import Reference
    from penstock.report.gather import Asked
    from schemas.deployment import Deployment


@click.command("report")
@click.argument("deployment", metavar="NAME|FILE")
@click.option("--since", default="24h", show_default=True, help="How far back the range begins: 90m, 24h, 7d.")
@click.option("--from", "begin", help="Where it begins instead: an ISO 8601 time (UTC) or day, yesterday, '7d ago'.")
@click.option("--to", "end", default="now", show_default=True, help="Where it ends, in the same form.")
@click.option(
    "--against",
    metavar="RANGE",
    help="Compare with another range of the profiles, not with the training data: yesterday, 7d (before the range), or "
    "FROM..TO.",
)
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="The page.  [default: report.html]")
@click.option("--json", "as_json", is_flag=True, help="Print the same numbers as one JSON object.")
@click.option("--alerts-topic", default="penstock.alerts", show_default=True)
@servers_option
@repository_option
def command(
    deployment: str,
    since: str,
    begin: str | None,
    end: str,
    against: str | None,
    out: Path | None,
    as_json: bool,
    alerts_topic: str,
    bootstrap_servers: str | None,
    repository: str | None,
) -> None:
    """Write one HTML page about a deployment's profiles and alerts over a range of time.

    NAME is that of a deployment under control, FILE a YAML file; it declares a monitor. Column by column: reference and
    now, distances, evidence over time by the monitor's own code, alerts. The page needs nothing else and works offline.
    Only topics are read; memory does not grow with the range.
    """
    with said_plainly():
        told, page = _reported(deployment, (since, begin, end, against), alerts_topic, bootstrap_servers, repository)
        if as_json:
            click.echo(json.dumps(told, indent=2, allow_nan=False))
        if out is None and as_json:
            return
        path = out or Path("report.html")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(page, encoding="utf-8")
    click.echo(f"wrote {path}: {_in_short(told)}", err=as_json)


def _reported(
    text: str,
    ranges: tuple[str, str | None, str, str | None],
    alerts_topic: str,
    servers: str | None,
    repository: str | None,
) -> tuple[dict[str, Any], str]:
    """Return what there is to tell, as plain values and as a page."""
    import logging
    from contextlib import closing

    from models.repository import Repository
    from monitoring.references import Finder
    from penstock.cli.monitor import references, watched_of
    from penstock.config import kafka_settings, repository_url
    from penstock.logs import set_up
    from penstock.report import extras
    from penstock.report.content import content
    from penstock.report.gather import gather
    from penstock.report.page import page
    from streams.reading import TopicReader

    kafka = kafka_settings(servers)
    watched = watched_of(text, kafka)
    declared, models = watched.deployment, Repository(repository_url(repository))
    known = {} if watched.state else references(declared, models)
    set_up("text", {"deployment": declared.name}, logging.WARNING)
    logging.getLogger("penstock.report").setLevel(logging.INFO)  # how far it is
    with closing(TopicReader(kafka, f"penstock.{declared.name}.report")) as reader:
        asked = _asked(declared, ranges, alerts_topic, len(reader.partitions(declared.input.topic)), known)
        told = content(gather(reader, asked, Finder(models)))
        further = extras.sections(reader, declared, asked.span)
    told |= {each.key: dict(each.content) for each in further}
    return told, page(told, [each.markup for each in further])


def _asked(
    declared: Deployment,
    ranges: tuple[str, str | None, str, str | None],
    alerts_topic: str,
    sources: int,
    known: Mapping[str, Reference],
) -> Asked:
    import time

    from penstock.cli.monitor import settings_of
    from penstock.report.gather import Asked
    from penstock.report.ranges import against_of, span_of

    since, begin, end, against = ranges
    span = span_of(since, begin, end, time.time)
    return Asked(
        deployment=declared.name,
        profiles=declared.profile_topic,
        alerts=alerts_topic,
        sources=sources,
        settings=settings_of(declared),
        span=span,
        against=None if against is None else against_of(against, span, time.time),
        known=known,
    )


def _in_short(told: Mapping[str, Any]) -> str:
    text = f"{counted(told['traffic']['events'], 'event')}, {counted(len(told['episodes']), 'alert episode')}"
    worst = [(column, version) for version in told["versions"] for column in version["columns"][:1]]
    for column, version in worst[:3]:
        text += f"; {version['arm']}: worst is {column['name']}, PSI {column['psi']:.3f}"
    return text
