"""`penstock worker`: run one slot of a deployment."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("deployment", type=click.Path(path_type=Path))
@click.option("--slot", default="0", show_default=True, help="Stable identity of this worker among those of the arm.")
@click.option("--arm", default="active", show_default=True, help="active or shadow.")
@click.option(
    "--bootstrap-servers", help="Kafka's HOST:PORT; else PENSTOCK_BOOTSTRAP_SERVERS or the broker started here."
)
@click.option("--repository", help="Model repository: a folder or an fsspec URL.  [default: .penstock/models]")
@click.option("--registry", envvar="PENSTOCK_REGISTRY", help="URL of a Confluent-compatible schema registry.")
@click.option("--schemas", "schema_folder", type=click.Path(path_type=Path), help="Folder of writer schemas (.avsc).")
@click.option("--metrics-port", type=int, help="Serve /metrics, /live and /ready on this port (0: a free one).")
@click.option("--metrics-host", default="127.0.0.1", show_default=True, help="Address to serve them on.")
@click.option(
    "--batch-events", default=2_000, show_default=True, type=click.IntRange(1, 100_000), help="Largest batch."
)
@click.option("--log-format", type=click.Choice(["text", "json"]), default="text", show_default=True)
def command(
    deployment: Path,
    slot: str,
    arm: str,
    bootstrap_servers: str | None,
    repository: str | None,
    registry: str | None,
    schema_folder: Path | None,
    metrics_port: int | None,
    metrics_host: str,
    batch_events: int,
    log_format: str,
) -> None:
    """Score the events of DEPLOYMENT (a YAML file) until told to stop.

    Exit status: 0 stopped by SIGTERM or SIGINT, 2 refused (the message says what to change), 3 another worker has the
    slot, 5 did not stop in time. SIGUSR1 goes on after the limit on dead letters was reached.
    """
    import os

    os.environ.setdefault("POLARS_MAX_THREADS", "1")  # a batch is small: threads cost more than they bring
    from models.errors import ModelError
    from penstock.config import STATE_FOLDER, kafka_settings, load_deployment, repository_url
    from penstock.errors import PenstockError
    from penstock.logs import set_up
    from schemas.errors import SchemaError
    from streams.errors import Fenced, StreamError
    from streams.service import Options, serve

    try:
        loaded = load_deployment(deployment)
        set_up(log_format, {"deployment": loaded.deployment.name, "arm": arm, "slot": slot})
        options = Options(
            kafka=kafka_settings(bootstrap_servers),
            repository=repository_url(repository),
            slot=slot,
            arm=arm,
            registry=registry,
            schema_folder=schema_folder,
            metrics_host=metrics_host,
            metrics_port=metrics_port,
            state_folder=STATE_FOLDER,
            batch_events=batch_events,
        )
        serve(loaded.deployment, loaded.reader, options)
    except Fenced as error:
        click.echo(f"Error: {error}", err=True)
        raise SystemExit(3) from error
    except (PenstockError, StreamError, SchemaError, ModelError) as error:
        click.echo(f"Error: {error}", err=True)
        raise SystemExit(2) from error
