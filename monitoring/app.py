"""The monitor as a Faust app: one agent, one snapshot task, and nothing that is counted left to Faust."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import faust

from monitoring import exact, snapshots
from monitoring.errors import Hole, MonitorError
from monitoring.folds import Fold, Record
from monitoring.ledger import Ledger
from monitoring.metrics import MonitorMetrics
from monitoring.setup import SNAPSHOT_BYTES, Topics, Wiring

log = logging.getLogger(__name__)
_FLUSH_AT = 2000  # outputs that are published before the next snapshot is due


class Monitor:
    """Ties the ledger to Faust: restores it, feeds it, publishes what it cuts."""

    def __init__(self, app: Any, wiring: Wiring, topics: Topics, fold: Fold[Any], metrics: MonitorMetrics) -> None:
        self.topic = wiring.profiles
        self._app, self._wiring, self._topics, self._metrics = app, wiring, topics, metrics
        self._ledger = Ledger(fold)
        self._restoring, self._publishing = asyncio.Lock(), asyncio.Lock()

    async def restore(self, partitions: set[int]) -> dict[int, int]:
        """Restore the states of all partitions assigned and return the offsets to read from."""
        async with self._restoring:
            try:
                found = await asyncio.to_thread(snapshots.read, self._wiring, self._topics, sorted(partitions))
                self._ledger.own(partitions)
                starts = {p: self._ledger.restore(p, *found[p]) for p in sorted(partitions)}
            except Exception as error:  # whatever it is, starting over is the way back
                exact.die(f"the state cannot be restored: {error!r}")
            log.info("restored, next offset by partition: %s", starts)
            return starts

    async def read(self, stream: Any) -> None:
        """Fold a stream of events; ends the process when one cannot be."""
        async for event in stream.events():
            message = event.message
            headers: Mapping[str, Any] = dict(message.headers)
            record = Record(message.partition, message.offset, message.key, message.value)
            try:
                self._ledger.accept(record, headers.get(exact.FOLLOWS))
            except Hole as hole:
                exact.die(str(hole), exact.HOLE)
            except Exception as error:  # a body that raises would be acknowledged and never seen again
                log.exception("a record could not be folded")
                exact.die(f"partition {record.partition}, offset {record.offset}: {error!r}")
            if self._ledger.pending > _FLUSH_AT:
                await self.publish()

    async def publish(self) -> None:
        """Publish outputs, wait until they are acknowledged, then publish the snapshots that were cut with them."""
        async with self._publishing:
            cut = self._ledger.cut()
            await self._send([(out.topic, out.key, out.value, None) for out in cut.outs])
            await self._send([self._snapshot(p, value) for p, value in cut.snapshots.items()])
            self._metrics.show(self._ledger, cut)

    def _snapshot(self, partition: int, value: bytes) -> tuple[str, bytes, bytes, int]:
        wiring = self._wiring
        return wiring.snapshots, wiring.snapshot_key(partition), value, partition % self._topics.snapshots

    async def _send(self, batch: list[tuple[str, bytes, bytes, int | None]]) -> None:
        send = self._app.producer.send
        await asyncio.gather(*[await send(t, key, value, place, None, None) for t, key, value, place in batch])

    async def publish_often(self) -> None:
        """Publish every `snapshot_seconds`; ends the process when that fails."""
        while True:
            await asyncio.sleep(self._wiring.snapshot_seconds)
            try:
                await self.publish()
            except Exception as error:  # outputs may be half written: starting over repeats them under the same ids
                exact.die(f"publishing failed: {error!r}")


def build(wiring: Wiring, topics: Topics, fold: Fold[Any], metrics: MonitorMetrics) -> Any:
    """Return the Faust app of a deployment's monitor."""
    exact.check_hooks()
    Path(wiring.data).mkdir(parents=True, exist_ok=True)  # Faust makes the last folder of the path only
    security = _credentials(wiring.kafka)
    app: Any = faust.App(
        wiring.group,
        broker=[f"kafka://{server.strip()}" for server in wiring.kafka["bootstrap.servers"].split(",")],
        **({"broker_credentials": security} if security else {}),
        consumer_group_instance_id=f"{wiring.group}.{wiring.slot}",
        datadir=wiring.data,
        broker_session_timeout=10.0,
        broker_request_timeout=30.0,
        broker_heartbeat_interval=2.0,
        broker_commit_interval=wiring.commit_seconds,
        consumer_auto_offset_reset="earliest",
        producer_max_request_size=SNAPSHOT_BYTES,
        stream_wait_empty=False,
        topic_allow_declare=False,
        topic_disable_leader=True,
        web_enabled=False,
        worker_redirect_stdouts=False,
    )
    app.transport = exact.Transport(app.conf.broker_consumer, app)
    monitor = Monitor(app, wiring, topics, fold, metrics)
    app.restorer = monitor
    source = app.topic(wiring.profiles, key_serializer="raw", value_serializer="raw", key_type=bytes, value_type=bytes)
    app.agent(source, name="profiles", concurrency=1)(monitor.read)
    app.task(monitor.publish_often)
    return app


class Worker(faust.Worker):
    """Stops at once on SIGTERM and SIGINT: there is nothing that a shutdown could save."""

    def __init__(self, app: Any) -> None:
        super().__init__(app, quiet=True)
        self.spinner = None  # it writes to the terminal even when quiet

    async def start(self) -> None:
        """Start the app; ends the process with a sentence when that fails, as it does when the brokers went away."""
        try:
            await super().start()
        except Exception as error:
            exact.die(f"the monitor could not start: {error}; start it again once the brokers answer")

    def _setup_logging(self) -> None:
        """Leave logging as the command has set it up."""

    def _on_sigint(self) -> None:
        self._on_sigterm()

    def _on_sigterm(self) -> None:
        exact.die("stopped by a signal", 0)


def run(app: Any) -> None:
    """Run the app until a signal or a failure ends the process."""
    for library in ("faust", "mode", "aiokafka"):
        logging.getLogger(library).setLevel(logging.WARNING)
    Worker(app).execute_from_commandline()


def _credentials(kafka: Mapping[str, str]) -> Any:
    """Return librdkafka's security settings as Faust's. Raises MonitorError for what Faust cannot do."""
    protocol = kafka.get("security.protocol", "PLAINTEXT").upper()
    if protocol == "PLAINTEXT":
        return None
    import ssl

    context = None
    if protocol.endswith("SSL"):
        context = ssl.create_default_context(cafile=kafka.get("ssl.ca.location"))
        if "ssl.certificate.location" in kafka:
            context.load_cert_chain(kafka["ssl.certificate.location"], kafka.get("ssl.key.location"))
    if protocol == "SSL":
        return faust.SSLCredentials(context=context)
    mechanism = kafka.get("sasl.mechanism", kafka.get("sasl.mechanisms", "PLAIN"))
    if mechanism not in ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"):
        raise MonitorError(f"the monitor cannot log in with {mechanism}; use PLAIN or SCRAM, or run it with --oracle")
    return faust.SASLCredentials(
        username=kafka.get("sasl.username"),
        password=kafka.get("sasl.password"),
        mechanism=mechanism,
        ssl_context=context,
    )
