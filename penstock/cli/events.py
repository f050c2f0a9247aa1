"""`penstock events`: what people changed, as CloudEvents in a topic and posted to webhooks."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Literal, cast

import click

from penstock.cli.common import log_format_option, servers_option

if TYPE_CHECKING:
    from penstock.followers import Part, Wiring
    from penstock.webhooks import Webhook


@click.command("events")
@click.option(
    "--webhook",
    "urls",
    multiple=True,
    metavar="URL",
    envvar="PENSTOCK_WEBHOOKS",
    help="Post each event to this address, at least once and in order; may be repeated.",
)
@click.option("--secret-env", metavar="NAME", help="Variable with the secret (whsec_...) that signs what is posted.")
@click.option("--seconds", default=10.0, show_default=True, type=click.FloatRange(0.1, 300), help="Limit of a request.")
@click.option("--no-topic", is_flag=True, help="Only post to webhooks; another process fills the topic.")
@click.option("--no-refusals", is_flag=True, help="Write nothing into the audit: what slots refuse is not told.")
@click.option("--from", "begin", type=click.Choice(["beginning", "end"]), default="beginning", show_default=True)
@click.option("--once", is_flag=True, help="End at the end of the audit, and give up after a minute of failures.")
@click.option("--source", metavar="URI", help="The events' source.  [default: /penstock/<cluster id>]")
@click.option("--audit-topic", default="penstock.audit", show_default=True)
@click.option("--events-topic", default="penstock.events", show_default=True)
@servers_option
@log_format_option
def command(
    urls: tuple[str, ...],
    secret_env: str | None,
    seconds: float,
    no_topic: bool,
    no_refusals: bool,
    begin: str,
    once: bool,
    source: str | None,
    audit_topic: str,
    events_topic: str,
    bootstrap_servers: str | None,
    log_format: str,
) -> None:
    """Publish every entry of the audit as a CloudEvent, each exactly once, and post it to webhooks, at least once.

    A state that the slots of an arm refuse is written into the audit first, once: so it is an event, too.
    --from says where the topic, or a webhook, begins of which nothing was told yet. A webhook that fails is tried again
    until it takes the event; one that refuses it (4xx but 408, 425 and 429) is said in the log and goes on.
    Exit status: 0 stopped by a signal, or all told with --once; 1 with --once, not all told; 2 refused (the message
    says what to change); 3 another process publishes the events now.
    """
    from confluent_kafka import KafkaException

    from penstock.config import kafka_settings, member_settings
    from penstock.errors import TakenOver, Undelivered
    from penstock.followers import Wiring
    from penstock.logs import set_up
    from schemas.errors import Explained

    if no_topic and not urls:
        raise click.UsageError("--no-topic leaves nothing to do without --webhook")
    try:
        webhooks = _webhooks(urls, secret_env)
        wiring = Wiring(
            kafka=kafka_settings(bootstrap_servers),
            source=source or "",
            member=member_settings(),
            audit=audit_topic,
            events=events_topic,
            begin=cast('Literal["beginning", "end"]', begin),
        )
        set_up(log_format, {"events": events_topic})
        _run(wiring, webhooks, seconds, no_topic, no_topic or no_refusals, once)
    except KafkaException as error:  # of a client that cannot be made: what passes is waited for
        raise click.UsageError(f"{error.args[0].str()}: correct the PENSTOCK_KAFKA_ settings") from error
    except Explained as error:
        click.echo(f"Error: {error}", err=True)
        raise SystemExit(3 if isinstance(error, TakenOver) else 1 if isinstance(error, Undelivered) else 2) from error


def _webhooks(urls: tuple[str, ...], variable: str | None) -> list[Webhook]:
    from penstock.webhooks import Webhook, distinct, secrets_of

    secrets = secrets_of(os.environ.get(variable, ""), variable) if variable else ()
    return distinct([Webhook.parse(url, secrets) for url in urls])


def _run(
    wiring: Wiring, webhooks: list[Webhook], seconds: float, no_topic: bool, no_refusals: bool, once: bool
) -> None:
    import signal
    import threading
    from dataclasses import replace

    from penstock.courier import Courier
    from penstock.events import Announcer
    from penstock.followers import cluster_source, run_all, run_in_turn, wait_for_audit
    from penstock.scribe import Scribe
    from streams.control import ControlTopics

    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    if not wait_for_audit(wiring, stop, once):
        return
    if not wiring.source:
        wiring = replace(wiring, source=cluster_source(wiring.kafka))
    parts: list[Part] = [Courier(wiring, webhook, seconds=seconds) for webhook in webhooks]
    parts = parts if no_topic else [Announcer(wiring), *parts]
    topics = None if no_refusals else ControlTopics.beside(wiring.audit)
    if topics is not None:
        parts = [Scribe(wiring, topics), *parts]
    if topics is not None and once:  # what it writes is told then
        run_in_turn(parts[:1], parts[1:], stop)
    else:
        run_all(parts, stop, once)
