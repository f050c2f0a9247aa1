"""`penstock topic`: make the input topic of a deployment, where no administrator does."""

from __future__ import annotations

import click

from penstock.cli.common import Refusal, servers_option


@click.command("topic")
@click.argument("name")
@click.option("--partitions", default=4, show_default=True, type=click.IntRange(1, 10_000))
@click.option("--replicas", type=click.IntRange(1, 100), help="Copies of each partition.  [default: the broker's]")
@servers_option
def command(name: str, partitions: int, replicas: int | None, bootstrap_servers: str | None) -> None:
    """Create the topic NAME if it does not exist; one that exists is left as it is.

    Exit status: 0 it exists now, 2 no broker is known or answers, or it refused.
    """
    from confluent_kafka import KafkaError, KafkaException
    from confluent_kafka.admin import AdminClient
    from confluent_kafka.cimpl import NewTopic

    from penstock.client.cluster import explain
    from penstock.config import kafka_settings
    from penstock.errors import ConfigError

    try:
        settings = kafka_settings(bootstrap_servers)
    except ConfigError as error:
        raise click.UsageError(str(error)) from error
    admin = AdminClient({**settings, "log_level": 2})
    wanted = NewTopic(name, num_partitions=partitions, replication_factor=replicas or -1)
    try:
        admin.create_topics([wanted], request_timeout=10)[name].result()
        click.echo(f"created the topic {name} with {partitions} partitions")
    except KafkaException as error:
        if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
            raise Refusal(str(explain(error, settings["bootstrap.servers"], name))) from error
        click.echo(f"the topic {name} exists already")
