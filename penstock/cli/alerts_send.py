"""`penstock alerts send`: alerts to webhooks and Alertmanagers."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Literal, cast

import click

from penstock.cli.common import log_format_option, servers_option

if TYPE_CHECKING:
    from penstock.webhooks import Webhook


@click.command("send")
@click.option(
    "--webhook",
    "urls",
    multiple=True,
    metavar="URL",
    envvar="PENSTOCK_ALERT_WEBHOOKS",
    help="Post each record of an alert to this address, at least once and in order; may be repeated.",
)
@click.option(
    "--alertmanager",
    "managers",
    multiple=True,
    metavar="URL",
    envvar="PENSTOCK_ALERTMANAGERS",
    help="Tell this Prometheus Alertmanager what is open, every minute; may be repeated.",
)
@click.option("--secret-env", metavar="NAME", help="Variable with the secret (whsec_...) that signs what is posted.")
@click.option("--token-env", metavar="NAME", help="Variable with a token that Alertmanagers are sent as Bearer.")
@click.option("--members", is_flag=True, help="Send those alerts, too, that the alert of a group tells of.")
@click.option("--link", default="", metavar="URL", help="Where a person reads more, for Alertmanagers.")
@click.option("--seconds", default=10.0, show_default=True, type=click.FloatRange(0.1, 300), help="Limit of a request.")
@click.option("--from", "begin", type=click.Choice(["beginning", "end"]), default="beginning", show_default=True)
@click.option("--once", is_flag=True, help="End at the end of the topic, and give up after a minute of failures.")
@click.option("--source", metavar="URI", help="The source of webhooks' events.  [default: /penstock/<cluster id>]")
@click.option("--alerts-topic", default="penstock.alerts", show_default=True)
@click.option("--silences-topic", default="penstock.silences", show_default=True)
@servers_option
@log_format_option
def send(
    urls: tuple[str, ...],
    managers: tuple[str, ...],
    secret_env: str | None,
    token_env: str | None,
    members: bool,
    link: str,
    seconds: float,
    begin: str,
    once: bool,
    source: str | None,
    alerts_topic: str,
    silences_topic: str,
    bootstrap_servers: str | None,
    log_format: str,
) -> None:
    """Send alerts to webhooks and Alertmanagers, at least once. What is silent when its turn comes is not sent.

    --from says where a webhook begins that was sent nothing yet; an Alertmanager is told what is open. What fails is
    tried again until it is taken; a webhook that refuses (4xx but 408, 425 and 429) is said in the log and goes on.
    Exit status: 0 stopped by a signal, or all sent with --once; 1 with --once, not all sent; 2 refused (the message
    says what to change).
    """
    import signal
    import threading

    from confluent_kafka import KafkaException

    from penstock.alert_routes import Routes, run
    from penstock.config import kafka_settings, member_settings
    from penstock.errors import Undelivered
    from penstock.followers import Wiring
    from penstock.logs import set_up
    from penstock.webhooks import distinct, token_of
    from schemas.errors import Explained

    if not urls and not managers:
        raise click.UsageError("say where to send alerts: --webhook URL, --alertmanager URL, or both")
    try:
        wiring = Wiring(
            kafka=kafka_settings(bootstrap_servers),
            source=source or "",
            member=member_settings(),
            audit=alerts_topic,
            events=f"{alerts_topic}.send",
            begin=cast('Literal["beginning", "end"]', begin),
            kind="alerts",
        )
        hooks = distinct(_webhooks(urls, secret_env))
        token = token_of(os.environ.get(token_env, ""), token_env) if token_env else ""
        routes = Routes(hooks, distinct(_webhooks(managers, None)), members, link, token, seconds)
        set_up(log_format, {"alerts": alerts_topic})
        stop = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stop.set())
        run(wiring, routes, silences_topic, stop, once)
    except KafkaException as error:  # of a client that cannot be made: what passes is waited for
        raise click.UsageError(f"{error.args[0].str()}: correct the PENSTOCK_KAFKA_ settings") from error
    except Explained as error:
        click.echo(f"Error: {error}", err=True)
        raise SystemExit(1 if isinstance(error, Undelivered) else 2) from error


def _webhooks(urls: tuple[str, ...], variable: str | None) -> list[Webhook]:
    from penstock.webhooks import Webhook, secrets_of

    secrets = secrets_of(os.environ.get(variable, ""), variable) if variable else ()
    return [Webhook.parse(url, secrets) for url in urls]
