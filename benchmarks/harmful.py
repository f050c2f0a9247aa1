"""Candidates that do harm under load, with workers, monitor and controller as they are: how soon they are taken back.

A label is made from what the model of the event's arm says, which is known beforehand: right with the chance that the
arm has. It is produced so many seconds after its event. So the candidate is worse by as much as is asked for, and
nobody has to read the inferences to know the truth.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnxruntime
import polars as pl
import yaml
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from benchmarks import networks
from benchmarks.load import distinct
from benchmarks.rig import Rig
from benchmarks.stand import FIRST, PATIENCE, READS, SECOND, Stand
from models.bundle import Bundle
from models.reference import Reference
from models.repository import Repository
from models.routing import Router
from penstock.bench.system import Process, wait_until
from schemas.control import Swap
from schemas.values import as_bytes
from schemas.wire import fingerprint, single_object_header
from streams.control import TOPICS, read
from streams.following import Follower

SHARE = 5.0  # percent of the candidate
RIGHT = {"active": 0.85, "canary": 0.80}
SAMPLED = 0.1  # of the keys
FAILING, LATE = "failing", "late"  # tags of further versions
RUN_MS = 20.0  # that a run of a candidate's model may take
LABEL: dict[str, Any] = {"type": "record", "name": "Label", "fields": [{"name": "truth", "type": "boolean"}]}
WIDTHS = (2_048, 2_048, 1)  # of a model that is late


@dataclass(frozen=True, slots=True)
class Taken:
    """Seconds until a candidate was taken back: since its first event, and since its first label (NaN without any)."""

    since_event: float
    since_label: float


class Harm:
    """A deployment whose candidate has a tag. delay: seconds from event to label; None: there are none."""

    def __init__(self, rig: Rig, tag: str, rate: float, delay: float | None) -> None:
        self.stand, self.rig, self.tag, self.rate, self.delay = Stand(rig), rig, tag, rate, delay
        self.labels = f"{self.stand.name}.labels"
        self.first_label = float("nan")
        for name, model in self._models().items():
            self._add(name, model)

    def _models(self) -> dict[str, bytes]:
        width = len(self.rig.job.features)
        return {
            FIRST: networks.perceptron([width, 64, 64, 1]),
            SECOND: networks.perceptron([width, 64, 64, 1], seed=7),
            FAILING: networks.failing(width),
            LATE: networks.perceptron([width, *WIDTHS]),
        }

    def _add(self, tag: str, model: bytes) -> None:
        job = self.rig.job
        reference = Reference.from_frame(pl.DataFrame(job.rows(2_000)).select(job.features)).to_bytes()
        bundle = Bundle.build(name=job.name, model=model, features=job.features, reference=reference)
        Repository(self.stand.repository).add(bundle, tags=[tag])

    def taken(self) -> Taken:
        """Let the candidate come, and wait until it was taken back. Raises RuntimeError when it is not in time."""
        stand, folder = self.stand, self.rig.folder
        topic = NewTopic(self.labels, num_partitions=4)
        AdminClient(dict(self.rig.kafka)).create_topics([topic])[self.labels].result()
        (folder / "label.avsc").write_text(json.dumps(LABEL))
        labels = {"topic": self.labels, "schema": "label.avsc", "value": "truth", "share": SAMPLED, "within": "10m"}
        said = {"labels": labels, "monitor": {}, "input": self._input()}
        stand.say("apply", str(stand.file(FIRST, **said)))
        name, arms = self.rig.job.name, [{"role": "active", "model": f"{self.rig.job.name}@{FIRST}"}]
        arms.append({"role": "canary", "model": f"{name}@{self.tag}", "percent": SHARE})  # type: ignore[dict-item]
        with self._running() as worker:
            wait_until(lambda: READS in worker.log.read_text(), PATIENCE, "the slot", worker)
            with stand.load(self.rate, int(self.rate * 120)), self._labels():
                time.sleep(5)
                stand.say("apply", str(stand.file(self.tag, **said, arms=arms)))
                wait_until(self._is_gone, 110, "the candidate to be taken back", worker)
        return Taken(self._gone() - self._came(), self._gone() - self.first_label)

    def _input(self) -> dict[str, Any]:
        declared: dict[str, Any] = self.rig.job.deployment(self.stand.source, self.stand.target)["input"]
        return declared

    @contextmanager
    def _running(self) -> Iterator[Process]:
        """Run a worker, a monitor and a controller."""
        stand, folder = self.stand, self.rig.folder
        policy = {
            "deployment": stand.name,
            "promotion": {"labels": 100_000_000},
            "rollback": {"budgets": {"failed": 0.01, "run_ms": RUN_MS}},
        }
        (folder / "policy.yaml").write_text(yaml.safe_dump(policy))
        environment = stand.environment()
        monitor = stand.command("monitor", stand.name, *stand.schemas)
        controller = stand.command("controller", "policy.yaml")
        with (
            stand.worker(stand.name) as worker,
            Process(monitor, folder / "monitor.log", cwd=folder, env=environment),
            Process(controller, folder / "controller.log", cwd=folder, env=environment),
        ):
            yield worker

    @contextmanager
    def _labels(self) -> Iterator[None]:
        """Produce the labels of events, late, while inside."""
        ended = threading.Event()
        thread = threading.Thread(target=self._label, args=(time.time(), ended), daemon=True)
        if self.delay is not None:
            thread.start()
        yield
        ended.set()
        if self.delay is not None:
            thread.join()

    def _label(self, began: float, ended: threading.Event) -> None:
        assert self.delay is not None
        producer, draw = Producer(dict(self.rig.kafka)), np.random.default_rng(3)
        header = single_object_header(fingerprint(LABEL))
        said = self._said()
        router = Router({"active": 100 - SHARE, "canary": SHARE}, self.stand.name)  # whose name is its salt
        values, done = {truth: header + bytes([truth]) for truth in (0, 1)}, 0
        while not ended.is_set():
            due = int((time.time() - began - self.delay) * self.rate)
            if due - done < self.rate / 20:
                time.sleep(0.02)
                continue
            numbers = np.arange(done, due)
            keys = [str(number).encode() for number in numbers.tolist()]
            nothing = np.zeros(len(keys), np.int64)
            arms = np.array(router.names)[router.assign(keys, nothing.astype(np.int32), nothing)]
            right = draw.random(len(keys)) < np.where(arms == "canary", RIGHT["canary"], RIGHT["active"])
            of_arm = np.where(arms == "canary", *(said[arm][numbers % len(said[arm])] for arm in ("canary", "active")))
            truths = np.where(right, of_arm, ~of_arm)
            if "canary" in arms and np.isnan(self.first_label) and self._came() <= began + done / self.rate:
                self.first_label = time.time()
            for key, truth in zip(keys, truths.tolist(), strict=True):
                while True:
                    try:
                        producer.produce(self.labels, values[int(truth)], key)
                        break
                    except BufferError:
                        producer.poll(0.1)
            producer.poll(0)
            done = due
        producer.flush(10)

    def _said(self) -> dict[str, np.ndarray[Any, np.dtype[np.bool_]]]:
        """Return what each arm's model says of each distinct event: yes or no."""
        job, models = self.rig.job, self._models()
        rows = pl.DataFrame(job.rows(distinct(job))).select(job.features).to_numpy().astype("f4")
        found = {}
        for arm, tag in (("active", FIRST), ("canary", self.tag)):
            session = onnxruntime.InferenceSession(models[tag])
            name = session.get_inputs()[0].name
            (scores,) = session.run(None, {name: rows})
            found[arm] = scores.reshape(-1) >= 0.5
        return found

    # when things happened, in seconds since 1970

    def _came(self) -> float:
        """Return when the candidate scored its first event, by what its slot told; infinity before."""
        return min(self._swaps(), default=float("inf"))

    def _swaps(self) -> Iterator[float]:
        follower = Follower(self.rig.kafka, "penstock.loop")
        try:
            low, high = follower.end(TOPICS.swaps)
            follower.begin(TOPICS.swaps, low)
            for message in follower.follow(TOPICS.swaps, high):
                swap = Swap.decode(as_bytes(message.value()) or b"")
                if (swap.deployment, swap.arm) == (self.stand.name, "canary"):
                    yield swap.at_ms / 1000
        finally:
            follower.close()

    def _is_gone(self) -> bool:
        return self._gone() < float("inf")

    def _gone(self) -> float:
        """Return when the candidate was taken back, infinity before."""
        entries = read(self.rig.kafka, whole=True).entries
        mine = [each for each in entries if (each.action, each.subject) == ("withdraw", self.stand.name)]
        return min((each.at_ms / 1000 for each in mine), default=float("inf"))
