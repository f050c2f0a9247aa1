"""The monitor as a Faust app: an agent a topic, one snapshot task, and nothing that is counted left to Faust."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import faust

from monitoring import exact, idle, snapshots
from monitoring.errors import Hole, MonitorError, SnapshotInvalid
from monitoring.folds import Out, Record
from monitoring.ledger import Snapshot
from monitoring.metrics import MonitorMetrics
from monitoring.setup import SNAPSHOT_BYTES, Topics, Wiring
from monitoring.sources import Ledgers, Place, Source
from monitoring.turns import Turn

log = logging.getLogger(__name__)
_FLUSH_AT = 2000  # outputs that are published before the next snapshot is due


class Monitor:
    """Ties the ledgers to Faust: restores them, feeds them, publishes what they cut."""

    def __init__(
        self, app: Any, wiring: Wiring, topics: Topics, sources: Sequence[Source], metrics: MonitorMetrics
    ) -> None:
        self.topics = [source.topic for source in sources]
        self._app, self._wiring, self._snapshots, self._metrics = app, wiring, topics.snapshots, metrics
        self._ledgers = Ledgers(sources)
        self._restoring, self._publishing = asyncio.Lock(), asyncio.Lock()

    async def restore(self, places: set[Place]) -> dict[Place, int]:
        """Restore the states of all partitions assigned and return the offsets to read from."""
        async with self._restoring:
            try:
                found = await asyncio.to_thread(self._newest, sorted(places))
                self._ledgers.own(places)
                starts = {place: self._ledgers[place[0]].restore(place[1], *found[place]) for place in sorted(places)}
            except SnapshotInvalid as error:
                exact.die(str(error), exact.CONFIG)
            except Exception as error:  # whatever it is, starting over is the way back
                exact.die(f"the state cannot be restored: {error!r}")
            log.info("restored, next offset by partition: %s", {f"{t}/{p}": at for (t, p), at in starts.items()})
            return starts

    def _newest(self, places: Sequence[Place]) -> dict[Place, tuple[Snapshot | None, int]]:
        wanted = [(self._ledgers.sources[topic], partition) for topic, partition in places]
        return snapshots.read(self._wiring, self._snapshots, wanted)

    def position(self, place: Place) -> int:
        """Return the next offset that a partition's state takes; 0 before it has one."""
        return self._ledgers[place[0]].position(place[1])

    async def read(self, stream: Any) -> None:
        """Fold a stream of events, in turns with the others; ends the process when one cannot be."""
        turn = Turn()
        async for event in stream.events():
            for record, follows in dict(event.message.headers)[exact.RECORDS]:
                self._fold(event.message.topic, record, follows)
                if self._ledgers.pending > _FLUSH_AT:
                    await self._publish_or_die()
                await turn.over()

    def _fold(self, topic: str, record: Record, follows: int | None) -> None:
        try:
            self._ledgers.accept(topic, record, follows)
        except Hole as hole:
            exact.die(str(hole), exact.HOLE)
        except Exception as error:  # a body that raises would be acknowledged and never seen again
            log.exception("a record could not be folded")
            exact.die(f"{topic}, partition {record.partition}, offset {record.offset}: {error!r}")

    async def publish(self) -> None:
        """Publish outputs, wait until they are acknowledged, then publish the snapshots that were cut with them."""
        async with self._publishing:
            cuts = self._ledgers.cut()
            await self._send([out for _, cut in cuts for out in cut.outs])
            await self._send([self._snapshot(source, p, s) for source, cut in cuts for p, s in cut.snapshots.items()])
            for source, cut in cuts:
                self._metrics.show(source.role, self._ledgers[source.topic], cut)

    def _snapshot(self, source: Source, partition: int, value: bytes) -> Out:
        wiring = self._wiring
        key = wiring.snapshot_key(partition, source.role)
        return Out(wiring.snapshots, key, value, partition % self._snapshots)

    async def _send(self, batch: Sequence[Out]) -> None:
        send = self._app.producer.send
        sent = [await send(o.topic, o.key, o.value, o.partition, None, list(o.headers) or None) for o in batch]
        await asyncio.gather(*sent)

    async def look_for_idle(self) -> None:
        """Tell folds that wait for it that a partition was read to its end; what fails is tried again."""
        while True:
            await asyncio.sleep(idle.EVERY)
            if waiting := self._ledgers.waiting():
                try:
                    idle.tell(self._ledgers, await asyncio.to_thread(idle.ended, self._wiring, waiting))
                except MonitorError as error:
                    log.warning("whether labels are read to their end is not known now: %s", error)

    async def publish_often(self) -> None:
        """Publish every `snapshot_seconds`; ends the process when that fails."""
        while True:
            await asyncio.sleep(self._wiring.snapshot_seconds)
            await self._publish_or_die()

    async def _publish_or_die(self) -> None:
        try:
            await self.publish()
        except Exception as error:  # outputs may be half written: starting over repeats them under the same ids
            exact.die(f"publishing failed: {error!r}")


def build(wiring: Wiring, topics: Topics, sources: Sequence[Source], metrics: MonitorMetrics) -> Any:
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
        broker_session_timeout=exact.SESSION,
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
    monitor = Monitor(app, wiring, topics, sources, metrics)
    app.restorer = monitor
    for each in sources:
        topic = app.topic(each.topic, key_serializer="raw", value_serializer="raw", key_type=bytes, value_type=bytes)
        app.agent(topic, name=each.role, concurrency=1)(monitor.read)
    app.task(monitor.publish_often)
    app.task(monitor.look_for_idle)
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
