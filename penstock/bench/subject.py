"""A user's deployment as it is measured: the real worker, on topics of its own, with events of any origin."""

from __future__ import annotations

import io
import math
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fastavro
import orjson
import yaml

from penstock.bench import measure
from penstock.bench.capacity import SHARES, Slot, Wish
from penstock.bench.latency import Latency
from penstock.bench.load import Events, Task, produce
from penstock.bench.measure import Backlog, Place
from penstock.bench.synthetic import Synthesizer
from penstock.bench.system import Process
from penstock.bench.topics import last_values
from penstock.client.cluster import partitions_of
from penstock.client.events import EventEncoder
from penstock.client.files import open_file
from penstock.config import Loaded
from penstock.errors import NothingToMeasure
from schemas.deployment import Deployment

HEADER_BYTES = 10  # of an Avro single object
DISTINCT = 5_000  # synthetic events, which then come again
FIRST, LEAST, MOST = 20_000, 20_000, 2_000_000  # events of the first run, and of those that count
RUN_SECONDS = 8.0  # of a run over a backlog that counts
TRIES_SECONDS = 8.0  # of a run at a rate

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Subject:
    """What is measured. options: of `penstock worker` besides those that say where things are. as_sent: the events come
    from the deployment's own topic, framing and all.
    """

    loaded: Loaded
    repository: str
    options: Sequence[str] = ()
    as_sent: bool = False

    @property
    def framing(self) -> str:
        """How the events are framed: a registry's ids are replaced where events are made here."""
        declared = self.loaded.deployment.input.framing
        return declared if self.as_sent or declared == "json" else "single_object"

    def start(self, place: Place, source: str, target: str) -> Process:
        """Start a worker of the deployment that scores `source` into `target`."""
        declared = self.declared(source, target)
        place.topics.also(*_made_by(declared["name"], self.loaded.deployment))
        (place.folder / "event.avsc").write_bytes(orjson.dumps(self.loaded.reader))
        file = place.folder / f"{declared['name']}.yaml"
        file.write_text(yaml.safe_dump(declared))
        command = [sys.executable, "-m", "penstock.cli", "worker", str(file), "--repository", self.repository]
        command += ["--bootstrap-servers", place.kafka["bootstrap.servers"], *self.options]
        if "--schemas" not in self.options:
            command += ["--schemas", str(place.folder)]
        return Process(command, file.with_suffix(".log"), cwd=place.folder)

    def declared(self, source: str, target: str) -> dict[str, Any]:
        """Return the deployment as it is measured: all of `source`, whatever the deployment says of its own topic."""
        declared = self.loaded.deployment.to_dict()
        made = {"topic": source, "schema": "event.avsc", "framing": self.framing, "start": "earliest"}
        return declared | {
            "name": target.removesuffix(".inferences"),
            "input": declared["input"] | made,
            "output": declared["output"] | {"topic": target},
            "arms": [arm for arm in declared["arms"] if arm["role"] != "shadow"],
            "limits": declared.get("limits", {}) | {"dead_letters_per_minute": 0},
        }


def _made_by(name: str, deployment: Deployment) -> list[str]:
    """Return the topics that a worker makes for itself."""
    renamed = deployment.model_copy(update={"name": name})
    watched = [renamed.profile_topic] if deployment.monitor else []
    return [renamed.dead_letter_topic(), *watched, *([renamed.sample_topic] if deployment.sampling else [])]


def synthetic(loaded: Loaded, shapes: Mapping[str, Sequence[int]], leaves: Sequence[Mapping[str, Any]] = ()) -> Events:
    """Return random events of the deployment's schema.

    shapes: of the arrays that fill an input of its model. leaves: values of the fields that tell the leaves of a
    hierarchy of models apart, which events take in turn: random values would lead to none of them.
    """
    deployment = loaded.deployment
    synthesizer = Synthesizer(loaded.reader, deployment.input.checks, shapes)
    rows = synthesizer.rows(max(DISTINCT, len(leaves)))
    if leaves:
        rows = [_towards(leaves[number % len(leaves)], row) for number, row in enumerate(rows)]
    encoder = EventEncoder(loaded.reader)
    return _framed(loaded, [encoder.encode(row) for row in rows])


def _towards(leaf: Mapping[str, Any], row: dict[str, Any]) -> dict[str, Any]:
    return row | {name: value for name, value in leaf.items() if name in row}


def _framed(loaded: Loaded, values: Sequence[bytes]) -> Events:
    """Return events in Avro single-object framing as the deployment takes them."""
    if loaded.deployment.input.framing != "json":
        return Events(values)
    raw: Any = fastavro.parse_schema(_without_logical_types(loaded.reader), {})
    rows = (fastavro.schemaless_reader(io.BytesIO(value[HEADER_BYTES:]), raw, None) for value in values)
    return Events([orjson.dumps(row, default=_plain) for row in rows])


def _without_logical_types(kind: Any) -> Any:
    """The schema of the same bytes, whose values are numbers and text as JSON has them."""
    if isinstance(kind, list):
        return [_without_logical_types(each) for each in kind]
    if isinstance(kind, dict):
        return {name: _without_logical_types(part) for name, part in kind.items() if name != "logicalType"}
    return kind


def _plain(value: object) -> object:
    """Bytes as Avro's JSON has them."""
    if isinstance(value, bytes):
        return value.decode("latin-1")
    raise TypeError


def from_files(loaded: Loaded, paths: Sequence[Path]) -> Events:
    """Return the events of files that `penstock produce` takes. Raises its errors, and NothingToMeasure for none."""
    encoder = EventEncoder(loaded.reader)
    values = [value for path in paths for chunk in open_file(path, encoder).chunks() for value in chunk.values]
    if not values:
        raise NothingToMeasure(f"no events in {', '.join(map(str, paths))}; give a file that has some")
    return _framed(loaded, values)


def recorded(loaded: Loaded, kafka: dict[str, str], count: int) -> Events:
    """Return about the last `count` events of the deployment's input topic.

    Raises NothingToMeasure for none, NoSuchTopic where there is no such topic.
    """
    topic = loaded.deployment.input.topic
    partitions_of(kafka, topic)
    values = last_values(kafka, topic, count)
    if not values:
        raise NothingToMeasure(f"topic {topic} holds no events; leave out --recorded, or produce some first")
    return Events(values)


def refuse_beside(deployment: Deployment) -> None:
    """Raise NothingToMeasure for a deployment whose events have several inferences each."""
    if deployment.everywhere:
        raise NothingToMeasure(
            f"{deployment.name} has arms that score every event ({', '.join(deployment.everywhere)}), and capacity and "
            "latency are told by one inference an event: measure a copy of the file without the arms of the role all; "
            "each of them adds a model run a batch and an inference an event"
        )


def measure_slot(subject: Subject, place: Place, events: Events, wish: Wish, runs: int, say: Say) -> Slot:
    """Measure one slot: its capacity by the median of runs, then its latency at shares of it until the wish is met.

    Raises RuntimeError when the worker ends, with the end of its log, and NothingToMeasure when nothing is scored.
    """

    def start(source: str, target: str) -> Process:
        return subject.start(place, source, target)

    def over(count: int, due: int) -> Backlog:
        source = place.topics.make("events")
        produce(place.kafka, events, Task(source, place.topics.partitions, 0, count))
        found = measure.backlog(place, start, source, count, due)
        place.topics.forget(source)
        return found

    say(f"a first run of {FIRST:,} events, which warms the brokers up")
    began = time.monotonic()
    first = over(FIRST, FIRST)
    scored = len(first.outputs.event) / FIRST
    if not scored:
        raise NothingToMeasure("every event became a dead letter: give events that fit, with --events or --recorded")
    count = FIRST
    while math.isnan(first.rate) and count < MOST:  # over before it could be timed
        count = min(MOST, count * 8)
        first = over(count, int(count * scored))
    if math.isnan(first.rate):
        raise NothingToMeasure(f"the outputs of {count:,} events came in one go: nothing can be said of their rate")
    count = int(min(MOST, max(LEAST, first.rate * RUN_SECONDS)))
    found = []
    for _ in range(runs):
        found.append(over(count, int(count * scored)))
        say(f"a backlog of {count:,}: {found[-1].rate:,.0f} events/s ({time.monotonic() - began:.0f} s so far)")
    rate = statistics.median(run.rate for run in found)
    return Slot(
        rate,
        statistics.median(run.cpu for run in found),
        statistics.median(run.broker_cpu for run in found),
        statistics.median(run.network for run in found),
        max(run.rss for run in found),
        1 - scored,
        _latencies(place, start, events, rate, scored, wish, say),
    )


def _latencies(
    place: Place, start: measure.Start, events: Events, rate: float, due: float, wish: Wish, say: Say
) -> list[tuple[float, Latency]]:
    """Measure at shares of the capacity until the wish is met; in the end at the wished rate, where that is less."""
    found: list[tuple[float, Latency]] = []
    rates = [float(max(10, round(rate * share))) for share in SHARES]
    if wish.latency_ms is not None and wish.rate is not None and wish.rate < rates[-1]:
        rates.append(wish.rate)
    for offered in rates:
        found += [(offered, each) for each in measure.at_rates(place, start, events, [offered], TRIES_SECONDS, due)]
        say(f"at {offered:,.0f}/s: {found[-1][1]}")
        if found[-1][1].p95 <= (wish.latency_ms or sys.float_info.max):
            break
    return found
