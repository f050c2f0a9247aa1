"""`penstock broker`: a real Kafka on this machine, in the folder `.penstock/` of the current directory."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import time
from functools import partial
from pathlib import Path

import click

from penstock.cli.common import Refusal, said_plainly
from penstock.config import BOOTSTRAP, STATE_FOLDER
from penstock.errors import PenstockError

DATA = STATE_FOLDER / "kafka"
ADDRESS = STATE_FOLDER / "broker.json"  # what penstock.config reads
NOT_RUNNING = 3
NOT_ANSWERING = 1
STOP_SECONDS = 25.0

NEXT = """\
Next, in this folder (every penstock command finds the broker by itself):
  penstock worker DEPLOYMENT.yaml     score events
  penstock produce FILE --deployment DEPLOYMENT.yaml
  penstock watch DEPLOYMENT.yaml      see inferences as they come
  penstock broker stop
For other programs: export {variable}={address}"""


@click.group()
def command() -> None:
    """Run a real Kafka for development: no Java, no Docker, loopback only."""


@command.command()
@click.option("--port", type=click.IntRange(1, 65535), help="Listen here instead of on a free port.")
def start(port: int | None) -> None:
    """Start the broker and leave it running; its data stays under .penstock/kafka.

    The first start on a machine downloads Kafka (45 MB). Running already: says where, and succeeds.
    """
    with said_plainly():
        address, started = _start(port)
    click.echo(f"Kafka is {'ready' if started else 'already running'} at {address}")
    if port and not address.endswith(f":{port}"):
        raise Refusal(f"it is not on port {port}: `penstock broker stop` first, then start it there")
    click.echo(NEXT.format(variable=BOOTSTRAP, address=address))


@command.command()
def stop() -> None:
    """Stop the broker in order; data and address stay for the next start."""
    from penstock import datafolder

    if not datafolder.is_running(DATA):
        ADDRESS.unlink(missing_ok=True)
        click.echo("No broker is running here")
        return
    with said_plainly():
        _stop()
    ADDRESS.unlink(missing_ok=True)
    click.echo("The broker has stopped; its data is kept in .penstock/kafka (delete the folder to start anew)")


@command.command()
def status() -> None:
    """Say whether the broker runs: exit code 0 it answers, 1 it runs but does not answer, 3 it does not run."""
    from penstock import datafolder, readiness

    if not datafolder.is_running(DATA):
        crashed = " (it crashed or was killed)" if ADDRESS.exists() else ""
        click.echo(f"No broker is running here{crashed}: start one with `penstock broker start`")
        sys.exit(NOT_RUNNING)
    pid = datafolder.running_pid(DATA)
    cluster = datafolder.read(DATA)
    try:
        assert cluster is not None
        readiness.wait_until_ready(cluster.bootstrap_servers, lambda: datafolder.is_running(DATA), seconds=5)
    except PenstockError as error:
        click.echo(f"A broker runs (process {pid}) but does not answer: {error}. Its log: {DATA / 'broker.log'}")
        sys.exit(NOT_ANSWERING)
    click.echo(f"Kafka {cluster.kafka} runs at {cluster.bootstrap_servers} (process {pid}, data in {DATA})")


def _start(port: int | None) -> tuple[str, bool]:
    """Return the address of a broker that answers, and whether we started it."""
    from penstock import datafolder, embedded

    kafka = embedded.EmbeddedKafka(DATA, port=port, detached=True)
    if not datafolder.is_running(DATA):
        ADDRESS.unlink(missing_ok=True)  # left behind by a crash
    while True:
        try:
            kafka.start()
        except datafolder.DataInUse:
            address = _running_address()
            if address is None:
                continue  # it ended while we waited
            _record(address)
            return address, False
        _record(kafka.bootstrap_servers)
        kafka.leave()
        return kafka.bootstrap_servers, True


def _running_address() -> str | None:
    """Wait for the broker that somebody else runs or starts here; None: it ended."""
    from penstock import datafolder, readiness

    while datafolder.is_running(DATA):
        pid, cluster = datafolder.running_pid(DATA), datafolder.read(DATA)
        if pid is None or cluster is None:  # not that far yet
            time.sleep(0.1)
            continue
        with contextlib.suppress(readiness.Ended):
            readiness.wait_until_ready(cluster.bootstrap_servers, partial(_is_run_by, pid))
            return cluster.bootstrap_servers
    return None


def _is_run_by(pid: int) -> bool:
    from penstock import datafolder

    return datafolder.running_pid(DATA) == pid


def _record(address: str) -> None:
    from penstock import datafolder

    content = {"bootstrap_servers": address, "pid": datafolder.running_pid(DATA), "data": str(DATA)}
    scratch = Path(f"{ADDRESS}.{os.getpid()}")
    scratch.write_text(json.dumps(content, indent=1) + "\n")
    scratch.replace(ADDRESS)


def _stop() -> None:
    from penstock import datafolder
    from penstock.errors import BrokerFailed

    signals = {0.0: signal.SIGTERM, STOP_SECONDS: signal.SIGKILL}
    started = time.monotonic()
    while datafolder.is_running(DATA):
        waited = time.monotonic() - started
        pid = datafolder.running_pid(DATA)
        for due in [due for due in signals if due <= waited and pid]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid or 0, signals.pop(due))
        if waited > STOP_SECONDS + 5:
            raise BrokerFailed(
                f"the broker (process {pid or 'unknown'}) could not be stopped; see {DATA / 'broker.log'}"
            )
        time.sleep(0.05)
