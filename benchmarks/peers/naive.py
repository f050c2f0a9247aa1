"""One event at a time with confluent-kafka, fastavro and onnxruntime, as its documentation would have one write it.

usage: python naive.py SERVERS JOB.json SOURCE TARGET GROUP MODEL

At least once: offsets are committed every second, after everything produced so far was acknowledged.
"""

from __future__ import annotations

import sys
import time

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer
from shared import Arguments, Job, asked_to_stop, output  # type: ignore[import-not-found]

COMMIT_SECONDS = 1.0


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
            "compression.type": "lz4",
            "linger.ms": 2,
            "delivery.report.only.error": True,
            "on_delivery": undelivered,
        }
    )
    consumer.subscribe([arguments.source])
    committed, pending = time.monotonic(), False
    while not stop.is_set():
        message = consumer.poll(0.1)
        if message is not None and message.error() is None:
            value = output(job.score(message.value()), message.partition(), message.offset())
            produce(producer, arguments.target, value, message)
            pending = True
        producer.poll(0)
        if pending and time.monotonic() - committed > COMMIT_SECONDS:
            commit(consumer, producer)
            committed, pending = time.monotonic(), False
    if pending:
        commit(consumer, producer)
    consumer.close()


def produce(producer: Producer, topic: str, value: bytes, message: Message) -> None:
    """Produce to the message's partition, with its key; waits while the queue is full."""
    while True:
        try:
            producer.produce(topic, value, message.key(), message.partition() or 0)
            return
        except BufferError:
            producer.poll(0.05)


def commit(consumer: Consumer, producer: Producer) -> None:
    producer.flush()
    consumer.commit(asynchronous=False)


def undelivered(error: KafkaError, message: Message) -> None:
    """End before the offset of a lost output is committed: raises out of poll and flush."""
    if error is not None:
        raise KafkaException(error)


if __name__ == "__main__":
    main(Arguments(*sys.argv[1:7]))
