"""Who takes part in the comparison, and how each is started. Nobody gets settings that its users would not choose."""

from __future__ import annotations

import io
import json
import re
import struct
import sys
import time
import urllib.request
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import fastavro
import polars as pl
import yaml

from benchmarks import java
from benchmarks.environments import python_of
from benchmarks.load import Wire, events_of
from benchmarks.rig import PARTITIONS, Contestant, Rig
from models.bundle import Bundle
from models.reference import Reference
from models.repository import Repository
from penstock.bench.load import producer
from penstock.bench.measure import START_SECONDS
from penstock.bench.system import Process, wait_until
from penstock.bench.topics import ends
from penstock.maven import cache_folder
from schemas.sources import SchemaTopic

PEERS = Path(__file__).resolve().parent / "peers"
AVRO = ("matrix", "mixed", "trees", "large")
DOUBLES = ("matrix", "trees", "large")
EVERY = (*AVRO, "image")

OURS = "Penstock, exactly once"
BARE, PROTOTYPE = "bare loop", "prototype"
JAVA, JAVA_EQUAL, STREAMS = (
    "Java, a transaction per 10,000",
    "Java, a transaction per 2,000",
    "Kafka Streams, exactly once",
)
QUIX, FAUST, NAIVE, FLOOR = "Quix, exactly once", "Faust", "naive loop", "pass-through floor"
MLSERVER = "MLServer"
RELAXED, EVERYTHING, BUSY = "Penstock, at least once", "Penstock, everything on", "Penstock, a core kept busy"
OURS_EQUAL = "Penstock, a transaction per 2,000"
ROUTED, SHADOWED = "Penstock, everything on, with a canary", "Penstock, everything on, beside a shadow"
PENSTOCK = (OURS, RELAXED, EVERYTHING, ROUTED, SHADOWED, BUSY, OURS_EQUAL)
SAMPLED = 0.1  # share of the keys whose events are samples, of those with a canary
CANARY_PERCENT = 10
CANDIDATE = "candidate"
LABEL = {"type": "record", "name": "Label", "fields": [{"name": "truth", "type": "double"}]}
BURN = (sys.executable, "-c", "while True: pass")


@dataclass(frozen=True, slots=True)
class Penstock:
    """The product's own worker.

    latency_ms: its budget. monitored: with profiles of every feature. routed: with samples, and a canary that gets its
    share of the events. shadowed: beside a shadow that scores all of them, on the same cores; what it takes counts.
    busy: another process keeps a core busy. options: of `penstock worker`.
    """

    name: str
    delivery: str = "exactly_once"
    latency_ms: int | None = None
    monitored: bool = False
    routed: bool = False
    shadowed: bool = False
    busy: bool = False
    options: tuple[str, ...] = ()
    jobs: tuple[str, ...] = EVERY
    share: float = 1.0
    wire: Wire = "own"

    def declared(self, rig: Rig, source: str, target: str) -> dict[str, Any]:
        """Return what the deployment's file says."""
        deployment = rig.job.deployment(source, target, self.delivery)
        if self.latency_ms is not None:
            deployment |= {"latency_ms": self.latency_ms}
        if self.monitored:
            deployment |= {"monitor": {}, "arms": [{"role": "active", "model": f"{_watched(rig)}@production"}]}
        if self.routed:
            truth = {"topic": rig.labels, "schema": LABEL, "value": "truth", "output": "score", "share": SAMPLED}
            deployment |= {"labels": truth}
            canary = {"role": "canary", "model": f"{_watched(rig)}@{CANDIDATE}", "percent": CANARY_PERCENT}
            deployment["arms"].append(canary)
        if self.shadowed:
            shadow = {"role": "shadow", "model": f"{_watched(rig)}@{CANDIDATE}", "topic": f"{target}.shadow"}
            deployment["arms"].append(shadow)
        return deployment

    def start(self, rig: Rig, source: str, target: str) -> Process:
        file = rig.folder / f"{target}.yaml"
        file.write_text(yaml.safe_dump(self.declared(rig, source, target)))
        (rig.folder / "event.avsc").write_text(json.dumps(rig.job.schema))
        command = [sys.executable, "-m", "penstock.cli", "worker", str(file), "--metrics-port", "0", *self.options]
        command += ["--bootstrap-servers", rig.servers, "--repository", str(rig.folder / "models")]
        command += ["--schemas", str(rig.folder)]
        if self.busy:
            command = [sys.executable, "-m", "benchmarks.beside", *BURN, "--", *command]
        if self.shadowed:
            rig.topics.also(f"{target}.shadow")
            command = [sys.executable, "-m", "benchmarks.beside", *command, "--arm", "shadow", "--", *command]
        return Process(command, rig.folder / f"{target}.log", cwd=rig.folder)

    def scores(self, rig: Rig, values: Sequence[bytes]) -> list[float]:
        if not values:
            return []
        with closing(SchemaTopic(rig.kafka)) as schemas:
            schema: Any = fastavro.parse_schema(dict(schemas.by_fingerprint(values[0][2:10].hex())))
        rig.output_bytes = sum(map(len, values)) / len(values)
        read: Any = partial(fastavro.schemaless_reader, writer_schema=schema)
        return [read(io.BytesIO(value[10:]))["score"] for value in values]


def metrics_of(process: Process) -> str | None:
    """Return the page of a worker's metrics; None for who serves none."""
    found = re.search(r"metrics at (http\S+)", process.log.read_text())
    return urllib.request.urlopen(found[1], timeout=5).read().decode() if found else None


def _watched(rig: Rig) -> str:
    """Add two versions of the model with a reference profile, which only the monitor needs; return their name."""
    name = f"{rig.job.name}_watched"
    if not (rig.folder / "models" / name).exists():
        reference = Reference.from_frame(pl.DataFrame(rig.job.rows(5_000)).select(rig.job.features).fill_null(0.0))
        model = rig.model.read_bytes()
        for tag in ("production", CANDIDATE):  # two versions that say the same
            bundle = Bundle.build(name=name, model=model, features=rig.job.features, reference=reference.to_bytes())
            Repository(str(rig.folder / "models")).add(bundle, tags=[tag])
    return name


class Command(Protocol):
    """Returns the command line that scores source into target."""

    def __call__(self, rig: Rig, source: str, target: str) -> list[str]: ...


@dataclass(frozen=True, slots=True)
class Program:
    """Any other. at: where the score, a little-endian double, lies in an output; None: there is none."""

    name: str
    command: Command
    share: float
    jobs: tuple[str, ...] = EVERY
    wire: Wire = "own"
    at: int | None = 10
    env: Mapping[str, str] = field(default_factory=dict)

    def start(self, rig: Rig, source: str, target: str) -> Process:
        return Process(self.command(rig, source, target), rig.folder / f"{target}.log", cwd=rig.folder, env=self.env)

    def scores(self, rig: Rig, values: Sequence[bytes]) -> list[float]:
        return [] if self.at is None else [struct.unpack_from("<d", value, self.at)[0] for value in values]


def peer(environment: str, file: str, *more: str) -> Command:
    """Return the command of a Python peer in its own environment."""

    def command(rig: Rig, source: str, target: str) -> list[str]:
        python = python_of(environment, cache_folder() / "peers")
        told = [rig.servers, str(rig.told), source, target, f"g.{target}", str(rig.model)]
        return [str(python), str(PEERS / file), *told, *more]

    return command


def jvm(main: str, *more: str) -> Command:
    """Return the command of a Java program."""

    def command(rig: Rig, source: str, target: str) -> list[str]:
        classpath = java.build(cache_folder() / "peers")
        told = [rig.servers, str(rig.told), source, target, f"g.{target}", str(rig.model)]
        return java.command(classpath, main, [*told, *more], rig.folder)

    return command


def bare(rig: Rig, source: str, target: str) -> list[str]:
    """Our prototype: the whole hot path in one loop."""
    told = [rig.servers, rig.job.name, source, target, f"g.{target}", str(rig.model)]
    return [sys.executable, "-m", "benchmarks.bare_loop", *told]


def floor(rig: Rig, source: str, target: str) -> list[str]:
    """The same without decoding and scoring, for outputs of Penstock's size."""
    return [*bare(rig, source, target), str(round(rig.output_bytes or 150))]


def prototype(file: Path) -> Program:
    """A program that reads Avro doubles behind five bytes, at a path of the user's."""

    def command(rig: Rig, source: str, target: str) -> list[str]:
        return [sys.executable, str(file), rig.servers, source, target, f"g.{target}", str(rig.model)]

    return Program(PROTOTYPE, command, 1.0, DOUBLES, "five_bytes", at=6)


class Served:
    """MLServer. It joins no group and reads only what comes after its start, which is when it answers a first request.

    Its requests are its own form of the same events, in JSON.
    """

    name, jobs, share = MLSERVER, ("matrix",), 0.0
    wire: Wire = "v2"

    def start(self, rig: Rig, source: str, target: str) -> Process:
        command = peer("mlserver", "mlserver_app.py")(rig, source, target)
        process = Process(command, rig.folder / f"{target}.log", cwd=rig.folder)
        out, asked = producer(rig.kafka), events_of(rig.job, self.wire)
        with ends(rig.kafka, target, PARTITIONS) as end:

            def answers() -> bool:
                out.produce(source, asked.values[0], b"are you there?", headers=asked.headers)
                out.flush(1)
                time.sleep(0.5)
                return end() > 0

            wait_until(answers, START_SECONDS, "a first answer", process)
        return process

    def scores(self, rig: Rig, values: Sequence[bytes]) -> list[float]:
        return [float(json.loads(value)["outputs"][0]["data"][0]) for value in values]


def everybody() -> list[Contestant]:
    """Return who takes part, in the order of a turn."""
    return [
        Penstock(OURS),
        Penstock(RELAXED, delivery="at_least_once"),
        Penstock(EVERYTHING, monitored=True, jobs=AVRO),
        Penstock(ROUTED, monitored=True, routed=True, jobs=("matrix",)),
        Penstock(SHADOWED, monitored=True, routed=True, shadowed=True, jobs=("matrix",), share=0.5),
        Penstock(BUSY, busy=True, jobs=("matrix",), share=0.5),
        Penstock(OURS_EQUAL, options=("--batch-events", "2000"), jobs=("matrix",), share=0.5),
        Program(FLOOR, floor, 1.0, ("matrix",), at=None),
        Program(BARE, bare, 1.0, AVRO, at=11),
        Program(JAVA, jvm("HandTuned", "10000"), 1.0),
        Program(JAVA_EQUAL, jvm("HandTuned", "2000"), 0.5),
        Program(STREAMS, jvm("StreamsApp", "exactly_once_v2"), 0.5),
        Program("Kafka Streams, at least once", jvm("StreamsApp", "at_least_once"), 0.5),
        Program("micro-batched loop, exactly once", peer("naive", "micro_batched.py"), 0.4),
        Program(NAIVE, peer("naive", "naive.py"), 0.3),
        Program("Bytewax", peer("bytewax", "bytewax_app.py"), 0.3),
        Program("Pathway", peer("pathway", "pathway_app.py"), 0.3),
        Program(QUIX, peer("quix", "quix_app.py", "exactly-once"), 0.2),
        Program("Quix, at least once", peer("quix", "quix_app.py", "at-least-once"), 0.2),
        Program(FAUST, peer("faust", "faust_app.py", "1"), 0.03),
        Program("Faust, 500 at a time", peer("faust", "faust_app.py", "500"), 0.03),
        Served(),
    ]
