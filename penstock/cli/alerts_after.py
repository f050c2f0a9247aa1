"""`penstock alerts comparisons` and `penstock alerts retraining`: what the monitor tells beside alerts."""

from __future__ import annotations

import json

import click

from penstock.cli.common import json_lines_option, said_plainly, servers_option

deployment_option = click.option("--deployment", metavar="NAME", help="Only those of this deployment.")


@click.command("comparisons")
@deployment_option
@click.option("--numbers", is_flag=True, help="All numbers, with their intervals where there are some.")
@json_lines_option
@click.option("--topic", default="penstock.comparisons", show_default=True)
@servers_option
def comparisons(
    deployment: str | None, numbers: bool, as_json: bool, topic: str, bootstrap_servers: str | None
) -> None:
    """How versions that took over compare with those before: outputs, and quality where labels came."""
    from penstock.aftermath import compared, read
    from penstock.client.follow import plain
    from penstock.config import kafka_settings

    with said_plainly():
        found = read(kafka_settings(bootstrap_servers), topic, "comparison", deployment)
    for record in found:
        for line in [json.dumps(plain(record))] if as_json else compared(record, numbers):
            click.echo(line)
    if not found and not as_json:
        click.echo("no version has taken over while a monitor looked")


@click.command("retraining")
@deployment_option
@json_lines_option
@click.option("--topic", default="penstock.retraining", show_default=True)
@servers_option
def retraining(deployment: str | None, as_json: bool, topic: str, bootstrap_servers: str | None) -> None:
    """Where a new version is asked for, for drift has lasted: why, and the range of events to train it on."""
    from penstock.aftermath import asked, read
    from penstock.client.follow import plain
    from penstock.config import kafka_settings

    with said_plainly():
        found = read(kafka_settings(bootstrap_servers), topic, "retraining", deployment)
    for record in found:
        for line in [json.dumps(plain(record))] if as_json else asked(record):
            click.echo(line)
    if not found and not as_json:
        click.echo("no new version is asked for")
