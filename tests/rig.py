"""A deployment on a real Kafka, run through the real command line, for tests that act as a user would."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import fastavro
import yaml
from confluent_kafka import Consumer, Message, Producer, TopicPartition

from models.bundle import Bundle
from models.repository import Repository
from schemas.sources import SchemaTopic
from schemas.wire import fingerprint, single_object_header
from tests.places import place_of

ROOT = Path(__file__).resolve().parent.parent
FIELDS = [
    {"name": "id", "type": "long"},
    {"name": "a", "type": "double"},
    {"name": "b", "type": ["null", "double"], "default": None},
]
SCHEMA: dict[str, Any] = {"type": "record", "name": "Event", "namespace": "penstock.test", "fields": FIELDS}
Place = tuple[int, int]


def sum_model(width: int = 2, scale: float = 1.0) -> bytes:
    """An ONNX model of the matrix [a, b, ...] of a width whose score is its sum, times a scale."""
    from onnx import TensorProto, helper

    graph = helper.make_graph(
        [
            helper.make_node("ReduceSum", ["x", "axes"], ["sum"], keepdims=1),
            helper.make_node("Mul", ["sum", "scale"], ["score"]),
        ],
        "sum",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", width])],
        [helper.make_tensor_value_info("score", TensorProto.FLOAT, ["n", 1])],
        [
            helper.make_tensor("axes", TensorProto.INT64, [1], [1]),
            helper.make_tensor("scale", TensorProto.FLOAT, [1], [scale]),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    return bytes(model.SerializeToString())


def encoder(schema: dict[str, Any] = SCHEMA) -> Callable[[dict[str, Any]], bytes]:
    """Return a function that frames an event as an Avro single object."""
    parsed, head = fastavro.parse_schema(schema), single_object_header(fingerprint(schema))

    def encode(event: dict[str, Any]) -> bytes:
        out = io.BytesIO()
        fastavro.schemaless_writer(out, parsed, event)
        return head + out.getvalue()

    return encode


class Worker:
    """`penstock worker` as a subprocess, with its log in a file."""

    def __init__(
        self,
        arguments: Sequence[str],
        cwd: Path,
        log: Path,
        *,
        command: Sequence[str] = ("penstock.cli", "worker"),
        settings: Mapping[str, str] | None = None,
    ) -> None:
        self.log = log
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", *command, *arguments],
                cwd=cwd,
                stdout=output,
                stderr=output,
                env={**os.environ, "PYTHONPATH": str(ROOT), **(settings or {})},
            )

    def kill(self) -> None:
        """End it as a power cut would."""
        self.process.kill()
        self.process.wait()

    def stop(self, seconds: float = 30) -> int:
        """Ask it to end; returns its exit status."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError(f"did not stop in {seconds} s:\n{self.text()}") from None

    def text(self) -> str:
        return self.log.read_text(errors="replace")

    def wait_for(self, pattern: str, seconds: float = 30) -> re.Match[str]:
        """Block until the log matches."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            found = re.search(pattern, self.text())
            if found:
                return found
            if self.process.poll() is not None:
                break
            time.sleep(0.05)
        found = re.search(pattern, self.text())
        assert found, f"no {pattern!r} in the worker's log (exit {self.process.poll()}):\n{self.text()[-4000:]}"
        return found

    def get(self, path: str) -> tuple[int, str]:
        """Return status and body of one of its health pages; needs --metrics-port 0."""
        base = self.wait_for(r"metrics at (http://\S+)/metrics")[1]
        try:
            with urllib.request.urlopen(base + path, timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def metric(self, name: str, **labels: str) -> float:
        """Return a metric's sum over the series that have these labels."""
        total = 0.0
        for line in self.get("/metrics")[1].splitlines():
            if re.match(rf"{name}(\{{|\s)", line) and all(f'{k}="{v}"' in line for k, v in labels.items()):
                total += float(line.rsplit(" ", 1)[1])
        return total


class Rig:
    """Topics, bundle, repository and YAML file of one deployment named after its input topic."""

    def __init__(
        self,
        servers: str,
        folder: Path,
        topic: Callable[..., str],
        *,
        partitions: int = 4,
        outputs: int = 0,
        model: bytes | None = None,
        features: Any = ("a", "b"),
        bundle: dict[str, Any] | None = None,
        schema: dict[str, Any] = SCHEMA,
        **declared: Any,
    ) -> None:
        self.servers, self.folder = servers, folder
        self.events, self.inferences = topic(partitions, "events"), topic(outputs or partitions, "inferences")
        self.name = self.events
        (folder / "event.avsc").write_text(json.dumps(schema))
        built = Bundle.build(name="sum", model=model or sum_model(), features=list(features), **(bundle or {}))
        self.version = built.manifest.version
        Repository(str(folder / "models")).add(built, tags=["production"])
        SchemaTopic({"bootstrap.servers": servers}).publish(schema)
        self.declared: dict[str, Any] = {
            "name": self.name,
            "input": {"topic": self.events, "schema": "event.avsc", **declared.pop("input", {})},
            "output": {"topic": self.inferences, **declared.pop("output", {})},
            "arms": [{"role": "active", "model": "sum@production"}],
            "missing": {"b": 0.0},
            **declared,
        }
        self.file = folder / "deployment.yaml"
        self.write()
        self._workers: list[Worker] = []

    def add_model(self, name: str, tag: str = "production", **bundle: Any) -> str:
        """Put another model into the repository; returns its version."""
        built = Bundle.build(name=name, **{"features": ["a", "b"], **bundle})
        Repository(str(self.folder / "models")).add(built, tags=[tag])
        return str(built.manifest.version)

    def write(self) -> None:
        """Write the declaration to its file."""
        self.file.write_text(yaml.safe_dump(self.declared))

    @property
    def dead_letters(self) -> str:
        return f"{self.name}.dead-letters"

    def worker(self, *more: str) -> Worker:
        """Start `penstock worker`."""
        arguments = [str(self.file), "--bootstrap-servers", self.servers, "--repository", str(self.folder / "models")]
        worker = Worker([*arguments, *more], self.folder, self.folder / f"worker-{len(self._workers)}.log")
        self._workers.append(worker)
        return worker

    def produce(self, values: Iterable[bytes | None], **place: Any) -> None:
        """Publish events over the partitions in turn, or where `place` says."""
        producer = Producer({"bootstrap.servers": self.servers, "linger.ms": 5})
        for i, value in enumerate(values):
            while True:
                try:
                    producer.produce(self.events, value, **({"partition": i % 4, "key": b"k%d" % i} | place))
                    break
                except BufferError:
                    producer.poll(0.1)
        assert producer.flush(60) == 0

    def read(self, topic: str, count: int, seconds: float = 60) -> list[Message]:
        """Return what a read_committed reader has of a topic once at least `count` messages came and no more follow."""
        return read_committed(self.servers, topic, count, seconds)

    def places(self, count: int, seconds: float = 60) -> list[Place]:
        """Return the source partition and offset of every inference, in the order of the output topic."""
        return [place_of(m.value() or b"") for m in self.read(self.inferences, count, seconds)]

    def committed(self) -> int:
        """Return how many events the deployment's group has committed."""
        consumer = Consumer({"bootstrap.servers": self.servers, "group.id": f"penstock.{self.name}"})
        partitions = consumer.list_topics(self.events, timeout=10).topics[self.events].partitions
        offsets = consumer.committed([TopicPartition(self.events, p) for p in partitions], timeout=10)
        consumer.close()
        return sum(max(0, tp.offset) for tp in offsets)

    def wait_committed(self, count: int, seconds: float = 60) -> None:
        deadline = time.monotonic() + seconds
        while (committed := self.committed()) < count:
            logs = self._workers[-1].text()[-3000:] if self._workers else ""
            assert time.monotonic() < deadline, f"{committed} of {count} events committed\n{logs}"
            time.sleep(0.1)

    def close(self) -> None:
        """End every worker that still runs."""
        for worker in self._workers:
            worker.kill()


def read_committed(servers: str, topic: str, count: int, seconds: float = 60) -> list[Message]:
    """Return every committed message of a topic; waits for `count`, then reads to the end that is there by then."""
    consumer = Consumer(
        {
            "bootstrap.servers": servers,
            "group.id": f"test.{time.time_ns()}",
            "isolation.level": "read_committed",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
        }
    )
    deadline = time.monotonic() + seconds
    while topic not in (topics := consumer.list_topics(timeout=10).topics):  # asking for it by name would make it
        assert time.monotonic() < deadline, f"topic {topic} does not appear"
        time.sleep(0.1)
    partitions = topics[topic].partitions
    consumer.assign([TopicPartition(topic, p, 0) for p in partitions])
    found: list[Message] = []
    ended: set[int | None] = set()
    while (len(found) < count or len(ended) < len(partitions)) and time.monotonic() < deadline:
        for message in consumer.consume(10_000, 0.2):
            if message.error():
                ended.add(message.partition())
            else:
                ended.discard(message.partition())
                found.append(message)
    consumer.close()
    return found


def account(places: Sequence[Place], expected: dict[int, int]) -> dict[str, int]:
    """Return how many events were lost, duplicated or out of order. expected: number of events per partition."""
    counts = Counter(places)
    last: dict[int, int] = {}
    disorder = 0
    for partition, offset in places:
        disorder += offset < last.get(partition, -1)
        last[partition] = max(offset, last.get(partition, -1))
    due = {(p, o) for p, n in expected.items() for o in range(n)}
    return {
        "lost": len(due - counts.keys()),
        "duplicated": sum(n - 1 for n in counts.values()),
        "out_of_order": disorder,
        "unknown": len(counts.keys() - due),
    }
