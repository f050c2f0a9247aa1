"""The floor that the worker is measured against: the whole hot path in one loop, with nothing around it.

No errors handled, no lineage but source partition and offset, no metrics, one fixed schema. It runs until it is killed.
With a number of BYTES it neither decodes nor scores, and its outputs are as large: what the client can pass through.
usage: python -m benchmarks.bare_loop BOOTSTRAP JOB IN_TOPIC OUT_TOPIC GROUP MODEL.onnx [BYTES]
"""

from __future__ import annotations

import gc
import io
import os
import queue
import random
import secrets
import struct
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ["POLARS_MAX_THREADS"] = "1"

import fastavro
import numpy as np
import onnxruntime as ort
import polars as pl
from confluent_kafka import Consumer, Producer, TopicPartition

from benchmarks.jobs import JOBS, Job
from streams.budget import BATCH_EVENTS

SYNC = b"S" * 16
HEADER_BYTES = 10  # of an Avro single object


def zigzag(n: int) -> bytes:
    n, out = n << 1, bytearray()
    while n & ~0x7F:
        out.append((n & 0x7F) | 0x80)
        n >>= 7
    return bytes([*out, n])


def unzigzag(data: bytes, at: int) -> tuple[int, int]:
    n = shift = 0
    while True:
        byte, at = data[at], at + 1
        n |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return n >> 1, at


def container_header(fields: list[dict[str, Any]]) -> bytes:
    end = {"name": "__end", "type": "double"}
    out = io.BytesIO()
    fastavro.writer(out, {"type": "record", "name": "Block", "fields": [*fields, end]}, [], sync_marker=SYNC)
    return out.getvalue()


def decode(header: bytes, datums: list[bytes]) -> pl.DataFrame:
    nonce = random.random()
    end = struct.pack("<d", nonce)
    body = end.join(datums) + end
    frame = pl.read_avro(io.BytesIO(b"".join((header, zigzag(len(datums)), zigzag(len(body)), body, SYNC))))
    if len(frame) != len(datums) or not (frame["__end"] == nonce).all():
        raise ValueError("a datum does not end where its message ends")
    return frame.drop("__end")


def encode(frame: pl.DataFrame, prefix: bytes) -> list[bytes]:
    nonce = secrets.token_bytes(8)
    out = io.BytesIO()
    frame.with_columns(pl.lit(nonce).alias("__end")).write_avro(out)
    data = out.getvalue()
    _, at = unzigzag(data, data.index(data[-16:]) + 16)
    size, at = unzigzag(data, at)
    return [prefix + datum for datum in data[at : at + size].split(b"\x02\x10" + nonce)[:-1]]


def consumer_of(servers: str, group: str) -> Consumer:
    return Consumer(
        {
            "bootstrap.servers": servers,
            "group.id": group,
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "isolation.level": "read_committed",
            "fetch.message.max.bytes": 1 << 20,
            "fetch.max.bytes": 4 << 20,
            "queued.min.messages": 100_000,
            "fetch.wait.max.ms": 5,
            "fetch.queue.backoff.ms": 2,
        }
    )


def producer_of(servers: str, transactional_id: str) -> Producer:
    producer = Producer(
        {
            "bootstrap.servers": servers,
            "transactional.id": transactional_id,
            "compression.type": "lz4",
            "linger.ms": 5,
            "batch.num.messages": 10_000,
            "queue.buffering.max.messages": 1_000_000,
        }
    )
    producer.init_transactions(30)
    return producer


class Publisher:
    """Two producers that take turns, and a thread that commits one batch beside the decoding of the next."""

    def __init__(self, servers: str, source: str, target: str, group: str) -> None:
        self.source, self.target = source, target
        self._producers = [producer_of(servers, f"{group}-{turn}") for turn in "ab"]
        self.pending: queue.Queue[Any] = queue.Queue(1)
        threading.Thread(target=self._publish_beside, daemon=True).start()

    def publish(self, keys: list[Any], values: list[bytes], positions: dict[int, int], metadata: Any) -> None:
        producer = self._producers[0]
        self._producers.reverse()
        producer.begin_transaction()
        produce, target = producer.produce, self.target
        for key, value in zip(keys, values, strict=True):
            produce(target, value, key)
        offsets = [TopicPartition(self.source, p, o) for p, o in positions.items()]
        producer.send_offsets_to_transaction(offsets, metadata, 10)
        producer.commit_transaction(10)

    def _publish_beside(self) -> None:
        while True:
            self.publish(*self.pending.get())
            self.pending.task_done()


def session_of(model: str) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return ort.InferenceSession(Path(model).read_bytes(), options, providers=["CPUExecutionProvider"])


def scorer(job: Job, model: str) -> Callable[[list[Any], Any, Any], list[bytes]]:
    """Return what makes outputs of messages, their partitions and offsets."""
    session, header = session_of(model), container_header(job.fields)
    plain = job.features == [field["name"] for field in job.fields]

    def scored(messages: list[Any], partitions: Any, offsets: Any) -> list[bytes]:
        frame = decode(header, [(m.value() or b"")[HEADER_BYTES:] for m in messages])
        matrix = (frame if plain else frame.select(job.features).fill_null(0.0)).to_numpy().astype("f4")
        scores = session.run(None, {"x": matrix})[0][:, 0].astype("f8")
        version = pl.repeat("v1", len(scores), eager=True)
        outputs = {"score": scores, "model_version": version, "source_partition": partitions, "source_offset": offsets}
        return encode(pl.DataFrame(outputs), b"\0" * 10)

    return scored


def main(servers: str, job: str, source: str, target: str, group: str, model: str, size: str = "") -> None:
    outputs = scorer(JOBS[job], model) if not size else lambda messages, *_: [bytes(int(size))] * len(messages)
    publisher = Publisher(servers, source, target, group)
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)  # else 7 % of the time goes into looking at messages that are no garbage

    def nothing(*_: object) -> None:
        """Callbacks make rebalances run inside consume()."""

    consumer = consumer_of(servers, group)
    consumer.subscribe([source], on_assign=nothing, on_revoke=nothing, on_lost=nothing)
    while True:
        messages = consumer.consume(1, 0.1)
        if messages:
            messages += consumer.consume(BATCH_EVENTS - 1, 0)
        if not messages:
            continue
        keys = [m.key() for m in messages]
        partitions = np.array([m.partition() for m in messages], "i4")
        offsets = np.array([m.offset() for m in messages])
        positions = {int(p): int(offsets[partitions == p].max()) + 1 for p in np.unique(partitions)}
        work = (keys, outputs(messages, partitions, offsets), positions, consumer.consumer_group_metadata())
        if len(messages) == BATCH_EVENTS:
            publisher.pending.put(work)
        else:
            publisher.pending.join()
            publisher.publish(*work)


if __name__ == "__main__":
    main(*sys.argv[1:])
