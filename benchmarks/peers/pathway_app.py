"""Pathway with its Kafka connectors: a batched function over the table of events.

usage: python pathway_app.py SERVERS JOB.json SOURCE TARGET GROUP MODEL [PERSISTENCE]
PERSISTENCE: a folder of its snapshots, from which it goes on at least once.

Outputs go where their key belongs, and carry their source offset as a header: a sink sorts its minibatches only by what
it writes, and without sorting half of the outputs swap places.
"""

from __future__ import annotations

import sys

import pathway as pw  # type: ignore[import-not-found]
from shared import Arguments, Job, output  # type: ignore[import-not-found]

BATCH = 1_000
COMMIT_MS = 10  # from an event's arrival to its minibatch
BACKLOG = 50_000  # events in processing; its documentation asks for a limit where a backlog may wait
SNAPSHOT_MS = 1_000


def main(arguments: Arguments, persistence: str | None) -> None:
    job = Job(arguments.job, arguments.model)
    servers = {"bootstrap.servers": arguments.servers}

    @pw.udf(executor=pw.udfs.sync_executor(), deterministic=True, max_batch_size=BATCH)  # type: ignore[untyped-decorator]
    def scored(values: list[bytes], partitions: list[int], offsets: list[int]) -> list[bytes]:
        return [output(*told) for told in zip(job.score_all(values), partitions, offsets, strict=True)]

    events = pw.io.kafka.read(
        {**servers, "group.id": arguments.group, "auto.offset.reset": "earliest"},
        topic=arguments.source,
        format="raw",
        autocommit_duration_ms=COMMIT_MS,
        autogenerate_key=True,  # an event is a row of its own, whatever other event has its key
        with_metadata=True,
        max_backlog_size=BACKLOG,
        name="events",
    )
    placed = events.select(
        pw.this.key,
        pw.this.data,
        partition=pw.this._metadata["partition"].as_int(unwrap=True),
        offset=pw.this._metadata["offset"].as_int(unwrap=True),
    )
    outputs = placed.select(pw.this.key, pw.this.offset, value=scored(pw.this.data, pw.this.partition, pw.this.offset))
    pw.io.kafka.write(
        outputs,
        {**servers, "compression.type": "lz4", "linger.ms": "2"},
        topic_name=arguments.target,
        format="raw",
        key=outputs.key,
        value=outputs.value,
        headers=[outputs.offset],
        sort_by=[outputs.offset],
        name="outputs",
    )
    kept = None
    if persistence is not None:
        backend = pw.persistence.Backend.filesystem(persistence)
        kept = pw.persistence.Config(backend, snapshot_interval_ms=SNAPSHOT_MS)
    pw.run(monitoring_level=pw.MonitoringLevel.NONE, persistence_config=kept)


if __name__ == "__main__":
    main(Arguments(*sys.argv[1:7]), sys.argv[7] if len(sys.argv) > 7 else None)
