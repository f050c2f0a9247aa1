"""Micro-batches with confluent-kafka, fastavro and onnxruntime: what a good Python engineer writes.

usage: python micro_batched.py SERVERS JOB.json SOURCE TARGET GROUP MODEL

Exactly once: a batch's outputs and offsets are one transaction, committed before the next batch is read.
"""

from __future__ import annotations

import sys

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaException, Message, Producer
from shared import Arguments, Job, asked_to_stop, output  # type: ignore[import-not-found]

BATCH, WITHIN = 1_000, 0.01  # events at most, and seconds that they are waited for
SECONDS = 30.0  # for a transaction's requests


def main(arguments: Arguments) -> None:
    job, stop = Job(arguments.job, arguments.model), asked_to_stop()
    consumer = Consumer(
        {
            "bootstrap.servers": arguments.servers,
            "group.id": arguments.group,
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
        }
    )
    producer = Producer(
        {
            "bootstrap.servers": arguments.servers,
            # The same after a restart, so that what was left open is aborted at once.
            "transactional.id": arguments.group,
            "compression.type": "lz4",
            "linger.ms": 2,
        }
    )
    producer.init_transactions(SECONDS)
    consumer.subscribe([arguments.source])
    while not stop.is_set():
        messages = [message for message in consumer.consume(BATCH, WITHIN) if message.error() is None]
        if not messages:
            continue
        scores = job.score_all([message.value() for message in messages])
        producer.begin_transaction()
        try:
            transact(consumer, producer, arguments.target, messages, scores)
        except KafkaException as failed:
            if not failed.args[0].txn_requires_abort():
                raise
            producer.abort_transaction(SECONDS)
            rewind(consumer)
    consumer.close()


def transact(consumer: Consumer, producer: Producer, topic: str, messages: list[Message], scores: list[float]) -> None:
    """Produce a batch's outputs, each to its event's partition, and commit them with the offsets."""
    for message, score in zip(messages, scores, strict=True):
        value = output(score, message.partition(), message.offset())
        producer.produce(topic, value, message.key(), message.partition() or 0)
    positions = consumer.position(consumer.assignment())
    producer.send_offsets_to_transaction(positions, consumer.consumer_group_metadata(), SECONDS)
    producer.commit_transaction(SECONDS)


def rewind(consumer: Consumer) -> None:
    """Read on behind the last commit."""
    for place in consumer.committed(consumer.assignment(), timeout=SECONDS):
        if place.offset < 0:
            place.offset = OFFSET_BEGINNING
        consumer.seek(place)


if __name__ == "__main__":
    main(Arguments(*sys.argv[1:7]))
