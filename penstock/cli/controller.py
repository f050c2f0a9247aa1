"""`penstock controller`: promote candidates and take them back by evidence."""

from __future__ import annotations

import click

from penstock.cli.common import log_format_option, refusals, repository_option, servers_option


@click.command("controller")
@click.argument("policies", nargs=-1, required=True, metavar="FILE...")
@click.option("--dry-run", is_flag=True, help="Say what would be decided, and change nothing.")
@click.option("--alerts-topic", default="penstock.alerts", show_default=True)
@servers_option
@repository_option
@log_format_option
def command(
    policies: tuple[str, ...],
    dry_run: bool,
    alerts_topic: str,
    bootstrap_servers: str | None,
    repository: str | None,
    log_format: str,
) -> None:
    """Decide about the candidates of deployments by their policies, until told to stop.

    What is decided, and on which evidence, stands in the audit: `penstock decisions list`. It may be killed at any
    time, and several may run: each decision is written once.
    Exit status: 0 stopped by a signal, 2 refused (the message says what to change).
    """
    import signal
    import threading

    from penstock.config import kafka_settings
    from penstock.controller.declared import load_policy
    from penstock.controller.resolving import resolver
    from penstock.controller.running import started
    from penstock.logs import set_up

    with refusals():
        declared = [load_policy(path) for path in policies]
        kafka = kafka_settings(bootstrap_servers)
        set_up(log_format, {"controller": "dry run" if dry_run else "0"})
        stop = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stop.set())
        resolve = resolver(repository)
        controller, snapshots = started(
            kafka, declared, alerts_topic, dry_run=dry_run, resolve=resolve, report=click.echo
        )
        controller.run(snapshots, stop.is_set)
