"""`penstock alerts`: what is open and what was, one whole, and what people say about it."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

import click

from penstock.cli import control
from penstock.cli.alerts_after import comparisons, retraining
from penstock.cli.alerts_send import send
from penstock.cli.common import json_lines_option, said_plainly, servers_option
from penstock.cli.history import SINCE, moment
from penstock.cli.watch import command as watch_command
from schemas.moments import length_of

if TYPE_CHECKING:
    from penstock.alerting import View
    from schemas.silences import Silence

alerts_topic_option = click.option("--alerts-topic", default="penstock.alerts", show_default=True)
silences_topic_option = click.option("--silences-topic", default="penstock.silences", show_default=True)
why_option = click.option("--why", required=True, help="The reason; everybody sees it.")
by_option = click.option("--by", help="Who says so.  [default: the login name]")


@click.group("alerts")
def command() -> None:
    """Alerts: follow and list them, read one whole, be silent about some, say that somebody looks, send them on."""


command.add_command(send)
command.add_command(comparisons)
command.add_command(retraining)


@command.command("watch")
@click.option("--from", "start", type=click.Choice(["beginning", "end"]), default="end", show_default=True)
@click.option("--count", type=click.IntRange(min=1), help="Stop after N records.")
@json_lines_option
@alerts_topic_option
@servers_option
@click.pass_context
def watch(
    context: click.Context,
    start: str,
    count: int | None,
    as_json: bool,
    alerts_topic: str,
    bootstrap_servers: str | None,
) -> None:
    """Show alerts as they come: each time one opens, gets worse or closes. Nothing is committed."""
    context.invoke(
        watch_command,
        topic=alerts_topic,
        alerts=True,
        start=start,
        count=count,
        as_json=as_json,
        bootstrap_servers=bootstrap_servers,
    )


@command.command("list")
@click.option("--open", "only_open", is_flag=True, help="Only those that are not closed.")
@click.option("--since", metavar="TIME", help=f"Only what was told later: {SINCE}")
@click.option("--deployment", metavar="NAME", help="Only those of this deployment.")
@click.option("--kind", metavar="KIND", help="Only of this kind: feature, output, group, ...")
@click.option("--members", is_flag=True, help="Those, too, that the alert of a group tells of.")
@click.option(
    "--json", "as_json", is_flag=True, help="One JSON object a line; members are always there, as with --kind."
)
@alerts_topic_option
@silences_topic_option
@servers_option
def list_(
    only_open: bool,
    since: str | None,
    deployment: str | None,
    kind: str | None,
    members: bool,
    as_json: bool,
    alerts_topic: str,
    silences_topic: str,
    bootstrap_servers: str | None,
) -> None:
    """The alerts that the topic holds, each as it stands now, in the order in which they opened."""
    begin = moment(since) if since else 0
    with said_plainly():
        views, unreadable = _look(bootstrap_servers, alerts_topic, silences_topic)
    shown = [
        view
        for view in views
        if (view.open or not only_open)
        and view.alert["at"].timestamp() * 1000 >= begin
        and deployment in (None, view.alert["deployment"])
        and kind in (None, view.alert["kind"])
        and (members or as_json or kind is not None or not view.alert["group"])
    ]
    if unreadable:
        click.echo(f"{unreadable} records of {alerts_topic} are no alerts that this release can read", err=True)
    if as_json:
        for view in shown:
            click.echo(json.dumps(_content(view)))
    elif shown:
        _print_table(shown)
    else:
        click.echo("no alert is open" if only_open else "no alert is known")


@command.command("show")
@click.argument("identity", metavar="ID")
@click.option("--json", "as_json", is_flag=True)
@alerts_topic_option
@silences_topic_option
@servers_option
def show(identity: str, as_json: bool, alerts_topic: str, silences_topic: str, bootstrap_servers: str | None) -> None:
    """One alert whole: what moved, from what to what, since when, what to look at. ID: its first letters will do."""
    from penstock.alert_words import told
    from penstock.alerting import named

    with said_plainly():
        views, _ = _look(bootstrap_servers, alerts_topic, silences_topic)
        alert = named([view.alert for view in views], identity)
    (view,) = (view for view in views if view.alert is alert)
    if as_json:
        click.echo(json.dumps(_content(view)))
        return
    members = [each for each in views if each.alert["group"] == alert["id"]]
    for line in told(view, members):
        click.echo(line)


@command.command("silence")
@click.argument("identity", required=False, metavar="[ID]")
@click.option(
    "--deployment", default="", metavar="PATTERN", help="Of deployments of such a name; * and ? stand for any."
)
@click.option("--kind", default="", metavar="PATTERN", help="Of such a kind: feature, output, group, operations, ...")
@click.option("--name", default="", metavar="PATTERN", help="Of such a name, as of a feature.")
@click.option("--for", "lasting", metavar="TIME", help="For so long: 30m, 12h, 7d.")
@click.option("--until", metavar="TIME", help="Until then: 2026-05-01T12:00:00Z (UTC).")
@click.option("--end", "ended", metavar="SILENCE", help="End the silence of this id now.")
@why_option
@by_option
@alerts_topic_option
@silences_topic_option
@servers_option
def silence(
    identity: str | None,
    deployment: str,
    kind: str,
    name: str,
    lasting: str | None,
    until: str | None,
    ended: str | None,
    why: str,
    by: str | None,
    alerts_topic: str,
    silences_topic: str,
    bootstrap_servers: str | None,
) -> None:
    """Send nobody the alert ID, or those that match all the patterns given, until then. They are recorded as ever."""
    patterns = {"deployment": deployment, "kind": kind, "name": name}
    now_ms = round(time.time() * 1000)
    if ended:
        if identity or any(patterns.values()) or lasting or until:
            raise click.UsageError("--end takes nothing but --why and --by beside it")
        with said_plainly():
            _end(bootstrap_servers, silences_topic, ended, why, by, now_ms)
        return
    if bool(identity) == any(patterns.values()):
        raise click.UsageError("say what to be silent about: the ID of an alert, or --deployment, --kind or --name")
    until_ms = _until(lasting, until, now_ms)
    with said_plainly():
        about = _id_of(bootstrap_servers, alerts_topic, identity) if identity else ""
        said = _word("silence", by, why, now_ms, until_ms=until_ms, alert=about, **patterns)
        _say(bootstrap_servers, silences_topic, said)
    click.echo(f"silence {said.id}: {said.about} until {_clock(until_ms)}")


@command.command("ack")
@click.argument("identity", metavar="ID")
@why_option
@by_option
@alerts_topic_option
@silences_topic_option
@servers_option
def ack(
    identity: str, why: str, by: str | None, alerts_topic: str, silences_topic: str, bootstrap_servers: str | None
) -> None:
    """Say that somebody looks at the alert ID. It is sent as ever, and everybody sees who does."""
    with said_plainly():
        about = _id_of(bootstrap_servers, alerts_topic, identity)
        said = _word("ack", by, why, round(time.time() * 1000), alert=about)
        _say(bootstrap_servers, silences_topic, said)
    click.echo(f"{said.who} looks at {about}")


@command.command("silences")
@click.option("--all", "everything", is_flag=True, help="Those, too, that are over, and acks.")
@json_lines_option
@silences_topic_option
@servers_option
def list_silences(everything: bool, as_json: bool, silences_topic: str, bootstrap_servers: str | None) -> None:
    """What alerts are silent now: until when, who said so, and why."""
    from penstock.alerting import read_silences
    from penstock.config import kafka_settings

    now_ms = time.time() * 1000
    with said_plainly():
        said = read_silences(kafka_settings(bootstrap_servers), silences_topic)
    shown = [
        each for each in said if everything or (each.action == "silence" and now_ms < (each.until_ms or now_ms + 1))
    ]
    for each in shown:
        until = f"until {_clock(each.until_ms)}" if each.until_ms is not None else "while it lasts"
        cells = (each.id, each.action, until, each.about, f"{each.who}: {each.why}")
        click.echo(json.dumps(asdict(each)) if as_json else "  ".join(map(_clean, cells)))
    if not shown and not as_json:
        click.echo("no alert is silenced")


def _look(servers: str | None, alerts_topic: str, silences_topic: str) -> tuple[list[View], int]:
    from penstock.alerting import read_alerts, read_silences, viewed
    from penstock.config import kafka_settings

    kafka = kafka_settings(servers)
    alerts, unreadable = read_alerts(kafka, alerts_topic)
    return viewed(alerts, read_silences(kafka, silences_topic), round(time.time() * 1000)), unreadable


def _id_of(servers: str | None, topic: str, identity: str) -> str:
    from penstock.alerting import named, read_alerts
    from penstock.config import kafka_settings

    return str(named(read_alerts(kafka_settings(servers), topic)[0], identity)["id"])


def _say(servers: str | None, topic: str, said: Silence) -> None:
    from penstock.alerting import say
    from penstock.config import kafka_settings

    say(kafka_settings(servers), said, topic)


def _word(action: Any, by: str | None, why: str, now_ms: int, **more: Any) -> Silence:
    from penstock.alerting import new_id
    from schemas.silences import Silence

    if not why.strip():
        raise click.BadParameter("give a reason", param_hint="--why")
    author = control.author(by, why)
    return Silence(new_id(), action, author.who, author.host, why, now_ms, now_ms, **more)


def _end(servers: str | None, topic: str, identity: str, why: str, by: str | None, now_ms: int) -> None:
    from penstock.alerting import read_silences, say
    from penstock.config import kafka_settings
    from penstock.errors import AlertUnknown

    kafka = kafka_settings(servers)
    found = [each for each in read_silences(kafka, topic) if each.id == identity and each.action == "silence"]
    if not found:
        raise AlertUnknown(f"there is no silence {identity}: `penstock alerts silences` shows those there are")
    author = control.author(by, why)
    until = min(now_ms, found[0].until_ms or now_ms)
    say(kafka, replace(found[0], until_ms=until, who=author.who, host=author.host, why=why, at_ms=now_ms), topic)
    click.echo(f"silence {identity} has ended")


LONGEST_SECONDS = 1_000_000 * 86_400  # of a silence


def _until(lasting: str | None, until: str | None, now_ms: int) -> int:
    """Return when a silence ends, in ms since 1970."""
    if bool(lasting) == bool(until):
        raise click.UsageError("say how long: --for 2h or --until TIME")
    if lasting:
        seconds = length_of(lasting)
        if seconds is None or seconds > LONGEST_SECONDS:
            raise click.BadParameter(f"{lasting!r} is no length of time: write 30m, 12h or 7d", param_hint="--for")
        return now_ms + seconds * 1000
    end = moment(until or "", "--until")
    if end <= now_ms:
        raise click.BadParameter(f"{until} is over already", param_hint="--until")
    return end


def _content(view: View) -> dict[str, Any]:
    """An alert as JSON values."""
    from penstock.client.follow import plain

    said = {"silenced": view.silence, "acked": view.ack}
    return {**plain(view.alert), **{name: asdict(each) if each else None for name, each in said.items()}}


def _print_table(views: Sequence[View]) -> None:
    from penstock.alert_words import row

    rows = [row(view) for view in views]
    widths = [max(len(cells[at]) for cells in rows) for at in range(len(rows[0]) - 1)]
    for cells in rows:
        told = [f"{cell:<{width}}" for cell, width in zip(cells[:-1], widths, strict=True)]
        click.echo("  ".join([*told, cells[-1]]).rstrip())


def _clock(ms: int) -> str:
    from penstock.changes import when

    return when(ms)


def _clean(text: str) -> str:
    from penstock.pages import clean

    return clean(text)
