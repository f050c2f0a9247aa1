"""Bytewax with its Kafka connectors.

usage: python bytewax_app.py SERVERS JOB.json SOURCE TARGET GROUP MODEL [RECOVERY]
RECOVERY: a folder in which it remembers how far it read, and goes on from there at least once; without one every start
begins at the beginning. It joins no group and commits nothing, and its sink partitions by key.
"""

from __future__ import annotations

import sys
from datetime import timedelta
from pathlib import Path

import bytewax.operators as op  # type: ignore[import-not-found]
from bytewax.connectors.kafka import KafkaSinkMessage, KafkaSourceMessage  # type: ignore[import-not-found]
from bytewax.connectors.kafka import operators as kop
from bytewax.dataflow import Dataflow  # type: ignore[import-not-found]
from bytewax.recovery import RecoveryConfig, init_db_dir  # type: ignore[import-not-found]
from bytewax.run import cli_main  # type: ignore[import-not-found]
from shared import Arguments, Job, output  # type: ignore[import-not-found]

BATCH = 1_000
EPOCH = timedelta(seconds=1)  # between snapshots
PRODUCER = {"compression.type": "lz4", "linger.ms": "2"}


def flow(arguments: Arguments) -> Dataflow:
    job = Job(arguments.job, arguments.model)

    def scored(events: list[KafkaSourceMessage]) -> list[KafkaSinkMessage]:
        scores = job.score_all([event.value for event in events])
        return [
            KafkaSinkMessage(event.key, output(score, event.partition, event.offset))
            for event, score in zip(events, scores, strict=True)
        ]

    made = Dataflow("peer")
    source = kop.input("in", made, brokers=[arguments.servers], topics=[arguments.source], batch_size=BATCH)
    op.inspect("errors", source.errs).then(op.raises, "crash")
    outputs = op.flat_map_batch("score", source.oks, scored)
    kop.output("out", outputs, brokers=[arguments.servers], topic=arguments.target, add_config=PRODUCER)
    return made


def recovery(folder: Path) -> RecoveryConfig:
    """The folder as its documentation would have one prepare it."""
    folder.mkdir(parents=True, exist_ok=True)
    if not any(folder.iterdir()):
        init_db_dir(folder, 1)
    return RecoveryConfig(folder, timedelta(0))


if __name__ == "__main__":
    kept = recovery(Path(sys.argv[7])) if len(sys.argv) > 7 else None
    cli_main(flow(Arguments(*sys.argv[1:7])), epoch_interval=EPOCH, recovery_config=kept)
