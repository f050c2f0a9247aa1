"""`penstock quarantine`: send events on which workers die to the dead letters, unscored."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from penstock.cli import control
from penstock.cli.common import Refusal, arm_option, servers_option

if TYPE_CHECKING:
    from schemas.deployment import Deployment
    from streams.offsets import OffsetRange
    from streams.quarantine import QuarantineTopic


@click.command("quarantine")
@click.argument("deployment", metavar="NAME|FILE")
@click.argument("ranges", nargs=-1, metavar="[TOPIC/PARTITION@FIRST-LAST]...")
@arm_option
@click.option("--list", "listing", is_flag=True, help="Show what is in quarantine.")
@click.option("--lift", is_flag=True, help="Take the ranges out of quarantine.")
@servers_option
def command(
    deployment: str, ranges: tuple[str, ...], arm: str, listing: bool, lift: bool, bootstrap_servers: str | None
) -> None:
    """Put ranges of the input topic of a deployment (the name of one under control, or a YAML file) in quarantine.

    Their events become dead letters with the reason `quarantined` instead of being scored; `penstock deadletters
    replay` feeds them in again later. A worker that holds such events back finds out within 10 seconds, every other
    one when it starts. What was scored already stays as it is.

    Exit status: 0 done, 2 refused (the message says what to change).
    """
    from confluent_kafka import KafkaException

    from penstock.config import kafka_settings
    from schemas.errors import Explained
    from streams.quarantine import TOPIC, QuarantineTopic

    if listing == bool(ranges) or (listing and lift):
        raise click.UsageError("give the ranges to put in quarantine (or to --lift), or --list alone")
    try:
        declared = control.declared(deployment, bootstrap_servers)
        declared.arm(arm)  # refuses one that has no workers
        group, wanted = declared.group(arm), _parse(declared, ranges)
        topic = QuarantineTopic(kafka_settings(bootstrap_servers))
        if listing:
            _list(topic, group)
        elif lift:
            _lift(topic, group, wanted)
        else:
            _add(topic, group, wanted)
    except KafkaException as error:
        raise Refusal(f"{TOPIC}: {error.args[0].str()}") from error
    except Explained as error:
        raise Refusal(str(error)) from error


def _parse(declared: Deployment, texts: Sequence[str]) -> list[OffsetRange]:
    from streams.offsets import OffsetRange

    try:
        found = [OffsetRange.parse(text) for text in texts]
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    for each in found:
        if each.topic != declared.input.topic:
            raise click.UsageError(f"{each}: deployment {declared.name} reads the topic {declared.input.topic}")
    return found


def _list(topic: QuarantineTopic, group: str) -> None:
    found = topic.read(group)
    for each in found:
        click.echo(f"{each.range}  since {each.since}")
    if not found:
        click.echo(f"nothing of {group} is in quarantine")


def _lift(topic: QuarantineTopic, group: str, ranges: Sequence[OffsetRange]) -> None:
    known = [each.range for each in topic.read(group)]
    for each in ranges:
        if each not in known:
            listed = ", ".join(map(str, known)) or "none"
            raise click.UsageError(f"{each} is not in quarantine as such; in quarantine: {listed}")
    topic.lift(group, ranges)
    for each in ranges:
        click.echo(
            f"{each} is out of quarantine: workers that start from now on score it, unless it is decided already"
        )


def _add(topic: QuarantineTopic, group: str, ranges: Sequence[OffsetRange]) -> None:
    import time

    topic.add(group, ranges, time.time())
    for each in ranges:
        click.echo(f"{each} is in quarantine ({each.next - each.first:,} offsets)")
