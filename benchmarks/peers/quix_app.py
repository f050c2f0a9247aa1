"""Quix Streams.

usage: python quix_app.py SERVERS JOB.json SOURCE TARGET GROUP MODEL GUARANTEE
GUARANTEE: `at-least-once` or `exactly-once`. Outputs go where their key belongs: Quix lets nobody choose the partition.
"""

from __future__ import annotations

import sys
import tempfile
from typing import Any

from quixstreams import Application, message_context  # type: ignore[import-not-found]
from shared import Arguments, Job, output  # type: ignore[import-not-found]

# Seconds. Exactly once, nobody reads an output before the commit, so that the default of 5 would be its latency.
COMMIT = {"at-least-once": 1.0, "exactly-once": 0.1}


def main(arguments: Arguments, guarantee: str) -> None:
    job = Job(arguments.job, arguments.model)
    producer: dict[str, Any] = {"compression.type": "lz4", "linger.ms": 2}
    if guarantee == "exactly-once":
        # The same after a restart, so that what was left open is aborted at once; by default a random one.
        producer["transactional.id"] = arguments.group
    app = Application(
        broker_address=arguments.servers,
        consumer_group=arguments.group,
        auto_offset_reset="earliest",
        processing_guarantee=guarantee,
        commit_interval=COMMIT[guarantee],
        auto_create_topics=False,
        producer_extra_config=producer,
        state_dir=tempfile.mkdtemp(),  # else a folder beside the caller
        loglevel="WARNING",
    )
    source = app.topic(arguments.source, value_deserializer="bytes", key_deserializer="bytes")
    target = app.topic(arguments.target, value_serializer="bytes", key_serializer="bytes")

    def scored(value: bytes) -> bytes:
        context = message_context()
        encoded: bytes = output(job.score(value), context.partition, context.offset)
        return encoded

    app.dataframe(source).apply(scored).to_topic(target)
    app.run()


if __name__ == "__main__":
    main(Arguments(*sys.argv[1:7]), sys.argv[7])
