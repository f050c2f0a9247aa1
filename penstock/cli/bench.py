"""`penstock bench`: what a deployment costs and how many slots it needs, measured with its own bundle."""

from __future__ import annotations

import dataclasses
import json
import os
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from penstock.cli.common import json_option, refusals, registry_option, repository_option, schemas_option

if TYPE_CHECKING:
    from penstock.bench.capacity import Slot, Wish
    from penstock.bench.load import Events
    from penstock.bench.subject import Subject
    from penstock.config import Loaded


@click.command("bench")
@click.argument("deployment", type=click.Path(path_type=Path))
@click.option("--events", "files", multiple=True, type=click.Path(path_type=Path), help="CSV, JSON lines or Parquet.")
@click.option("--recorded", type=click.IntRange(min=1), help="Take the last N events of the input topic.")
@click.option("--rate", type=click.FloatRange(min=0, min_open=True), help="Events/s that all slots must carry.")
@click.option("--latency-ms", type=click.FloatRange(min=0, min_open=True), help="p95 until a reader sees inferences.")
@click.option("--core-hour", type=click.FloatRange(min=0), help="Price of an hour of a core.")
@click.option("--gigabyte", type=click.FloatRange(min=0), help="Price of 10^9 bytes on the network.")
@click.option("--runs", default=3, show_default=True, type=click.IntRange(1, 100), help="Runs whose median counts.")
@click.option("--partitions", default=4, show_default=True, type=click.IntRange(1, 1_000), help="Of the topics made.")
@json_option
@click.option(
    "--bootstrap-servers",
    metavar="HOST:PORT[,HOST:PORT...]",
    help="Measure on this cluster, else on that of PENSTOCK_BOOTSTRAP_SERVERS, else on a broker of its own.",
)
@repository_option
@registry_option
@schemas_option
def command(
    deployment: Path, bootstrap_servers: str | None, repository: str | None, as_json: bool, **options: Any
) -> None:
    """Measure one slot of DEPLOYMENT (a YAML file): capacity, latency, memory, and what a million predictions take.

    A worker scores topics that are made for it and removed afterwards; the deployment's own topics are not written to.
    Events are random ones of its schema unless --events or --recorded say otherwise. It takes a few minutes, and needs
    the machine for itself.
    """
    from penstock.bench.capacity import Wish, page
    from penstock.bench.subject import refuse_beside
    from penstock.config import load_deployment, repository_url

    wish = Wish(options["rate"], options["latency_ms"], options["core_hour"], options["gigabyte"])
    servers = bootstrap_servers or os.environ.get("PENSTOCK_BOOTSTRAP_SERVERS")
    if options["recorded"] and options["files"]:
        raise click.UsageError("give --events or --recorded, not both")
    if options["recorded"] and not servers:
        raise click.UsageError("--recorded needs the cluster with the input topic: --bootstrap-servers")
    with refusals():
        loaded = load_deployment(deployment)
        refuse_beside(loaded.deployment)
        url = repository_url(repository)
        place = url if "://" in url else str(Path(url).absolute())
        subject = _subject(loaded, place, options)
        given = None if options["recorded"] else _events(subject, options)
        slot = _measured(subject, given, servers, wish, options)
    found = dataclasses.asdict(slot) | {"deployment": loaded.deployment.name}
    click.echo(json.dumps(found, indent=2) if as_json else "\n".join(page(slot, wish)))


def _subject(loaded: Loaded, repository: str, options: dict[str, Any]) -> Subject:
    from penstock.bench.subject import Subject

    more = [] if not options["registry"] else ["--registry", options["registry"]]
    if options["schema_folder"]:
        more += ["--schemas", str(options["schema_folder"].absolute())]
    return Subject(loaded, repository, more, as_sent=bool(options["recorded"]))


def _measured(subject: Subject, given: Events | None, servers: str | None, wish: Wish, options: dict[str, Any]) -> Slot:
    """Measure with the given events, None for the recorded ones."""
    from confluent_kafka import KafkaException

    from penstock.bench.measure import Place
    from penstock.bench.subject import measure_slot
    from penstock.bench.topics import Topics
    from penstock.client.cluster import reach
    from penstock.config import kafka_settings
    from penstock.embedded import EmbeddedKafka
    from penstock.errors import MeasurementFailed

    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="penstock-bench-")))
        broker = None
        if servers is None:
            _say("starts a broker of its own")
            embedded = stack.enter_context(EmbeddedKafka(heap_mb=1024))
            servers, broker = embedded.bootstrap_servers, embedded.pid
        kafka = {**kafka_settings(servers), "log_level": "2"}  # each client would tell that its broker has ended
        reach(kafka)
        topics = Topics(kafka, f"penstock-bench.{time.time_ns() % 10**9}", options["partitions"])
        stack.callback(topics.close)
        place = Place(kafka, topics, folder, broker)
        try:
            events = given or _recorded(subject, kafka, options["recorded"])
            _warn_of_waits(subject, wish)
            return measure_slot(subject, place, events, wish, options["runs"], _say)
        except (RuntimeError, KafkaException) as error:
            raise MeasurementFailed(str(error)) from error


def _say(text: str) -> None:
    click.echo(text, err=True)


def _warn_of_waits(subject: Subject, wish: Wish) -> None:
    budget = subject.loaded.deployment.latency_ms
    if budget is not None and wish.latency_ms is not None and wish.latency_ms < budget:
        _say(f"Note: latency_ms of the deployment, {budget}, lets batches wait for longer than --latency-ms asks for")


def _recorded(subject: Subject, kafka: dict[str, str], count: int) -> Events:
    from penstock.bench.subject import recorded

    found = recorded(subject.loaded, kafka, count)
    if len(found.values) < count:
        _say(f"{subject.loaded.deployment.input.topic} holds {len(found.values):,} events; they come again and again")
    return found


def _events(subject: Subject, options: dict[str, Any]) -> Events:
    from models.repository import Repository
    from penstock.bench.subject import from_files, synthetic

    loaded = subject.loaded
    if options["files"]:
        return from_files(loaded, options["files"])
    bundle = Repository(subject.repository).load(loaded.deployment.arm("active").model)
    shapes = {part.features[0]: part.shape for part in bundle.manifest.inputs if part.shape}
    partitions, leaves = bundle.manifest.partitions, bundle.leaves
    return synthetic(loaded, shapes, leaves.rows(partitions) if leaves and partitions else ())
