"""`penstock monitor`: watch a deployment's profiles and publish alerts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from penstock.cli.common import (
    log_format_option,
    metrics_host_option,
    refusals,
    repository_option,
    servers_option,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from models.reference import Reference
    from monitoring.profiles import ProfileFold
    from monitoring.setup import Topics, Wiring
    from schemas.deployment import Deployment


@click.command()
@click.argument("deployment", type=click.Path(path_type=Path))
@click.option("--slot", default="0", show_default=True, help="Stable identity of this process among the monitors.")
@servers_option
@repository_option
@click.option("--alerts-topic", default="penstock.alerts", show_default=True)
@click.option("--snapshots-topic", default="penstock.monitor", show_default=True)
@click.option("--metrics-port", type=int, help="Serve /metrics on this port (0: a free one).")
@metrics_host_option
@click.option("--oracle", is_flag=True, help="Run the same folds without Faust, in Kafka transactions.")
@log_format_option
def command(
    deployment: Path,
    slot: str,
    bootstrap_servers: str | None,
    repository: str | None,
    alerts_topic: str,
    snapshots_topic: str,
    metrics_port: int | None,
    metrics_host: str,
    oracle: bool,
    log_format: str,
) -> None:
    """Compare the live traffic of DEPLOYMENT (a YAML file) with its reference and publish alerts until told to stop.

    It may be killed at any time: started again, it goes on from its last snapshot and publishes the same alerts.
    Exit status: 0 stopped by a signal, 2 refused (the message says what to change), 3 another monitor has the slot,
    70 and 71 start it again, 78 the installed Faust or aiokafka does not fit.
    """
    from contextlib import closing

    from monitoring.setup import Wiring, prepare
    from penstock.config import STATE_FOLDER, kafka_settings, load_deployment, repository_url
    from penstock.errors import ConfigError
    from penstock.logs import set_up
    from streams.slot import SlotLock

    with refusals():
        declared = load_deployment(deployment).deployment
        if declared.monitor is None:
            raise ConfigError(f"{deployment}: declares no monitor, so its workers profile nothing; add `monitor: {{}}`")
        set_up(log_format, {"deployment": declared.name, "monitor": slot})
        wiring = Wiring(
            deployment=declared.name,
            profiles=declared.profile_topic,
            input=declared.input.topic,
            kafka=kafka_settings(bootstrap_servers),
            slot=slot,
            alerts=alerts_topic,
            snapshots=snapshots_topic,
        )
        with closing(SlotLock(STATE_FOLDER / "slots", f"{wiring.group}.{slot}")):
            found = references(declared, repository_url(repository))
            topics = prepare(wiring)
            fold = fold_of(declared, found, topics.sources, alerts_topic)
            _run(wiring, topics, fold, oracle, metrics_host, metrics_port)


def references(declared: Deployment, repository: str) -> Mapping[str, Reference]:
    """Return the references of the deployment's models by digest.

    Raises ModelError when the repository lacks a model, or the active one has no reference.
    """
    import logging

    from models.errors import ReferenceInvalid
    from models.reference import Reference
    from models.repository import Repository
    from schemas.deployment import ACTIVE

    found = {}
    for name, model in declared.references.items():
        bundle = Repository(repository).load(model)
        if bundle.reference is not None:
            reference = Reference.from_bytes(bundle.reference)
            found[reference.digest] = reference
            continue
        text = f"{model} has no reference profile: build its bundle with one (models.reference.Reference.from_frame)"
        if name == ACTIVE:
            raise ReferenceInvalid(text)
        logging.getLogger(__name__).warning("%s; the arm %s is not watched", text, name)
    return found


def fold_of(declared: Deployment, found: Mapping[str, Reference], sources: int, topic: str) -> ProfileFold:
    """Return the fold that the deployment's declaration asks for."""
    from monitoring.profiles import ProfileFold, Settings
    from schemas.deployment import Monitor

    watched = declared.monitor or Monitor()
    settings = Settings(window_rows=watched.window_rows, opens=watched.opens, closes=watched.closes)
    return ProfileFold(declared.name, found, sources, settings, topic)


def _run(wiring: Wiring, topics: Topics, fold: ProfileFold, oracle: bool, host: str, port: int | None) -> None:
    import logging

    from prometheus_client import CollectorRegistry, start_http_server

    from monitoring.metrics import MonitorMetrics

    registry = CollectorRegistry()
    metrics = MonitorMetrics(registry, wiring.deployment)
    if port is not None:
        server, _ = start_http_server(port, host, registry)
        logging.getLogger(__name__).info("metrics at http://%s:%d/metrics", host, server.server_port)
    if oracle:
        _run_oracle(wiring, topics, fold, metrics)
        return
    from monitoring import app

    app.run(app.build(wiring, topics, fold, metrics))


def _run_oracle(wiring: Wiring, topics: Topics, fold: ProfileFold, metrics: Any) -> None:
    import signal
    import threading

    from monitoring import runner

    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    runner.run(wiring, topics, fold, metrics, stop.is_set)
