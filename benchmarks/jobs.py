"""The jobs that are measured: their event schema, random events, and a model of the right shape.

matrix (A) 30 doubles and a small perceptron; mixed (M) 22 fields of all kinds; image (B) Crayfish's, EDBT 2024: JSON
of 28 x 28, a perceptron 784-32-32-10; trees (T) 100 trees of depth 6; large (L) a perceptron with batches of 20 ms.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import fastavro
import numpy as np
import orjson

from benchmarks import networks
from schemas.wire import fingerprint, single_object_header

ORIGINS = ["EWR", "JFK", "LGA"]


def name_of(output: str) -> str:
    """Return the name of the deployment that publishes to a topic."""
    return output.replace(".inferences", "")


def group_of(output: str) -> str:
    """Return the consumer group of its workers."""
    return f"penstock.{name_of(output)}"


@dataclass(frozen=True, slots=True)
class Job:
    """fields: the Avro fields of an event; features: those that the model reads, as one float matrix, or one array.

    network: makes the ONNX model. distinct: after how many events its values come again, 0: after the usual number.
    """

    name: str
    letter: str
    about: str
    fields: list[dict[str, Any]]
    features: list[str]
    network: Callable[[], bytes]
    framing: Literal["single_object", "json"] = "single_object"
    distinct: int = 0

    @property
    def schema(self) -> dict[str, Any]:
        return {"type": "record", "name": f"Event{self.name}", "namespace": "penstock.bench", "fields": self.fields}

    @property
    def missing(self) -> dict[str, float]:
        """What stands in for null."""
        return {f["name"]: 0.0 for f in self.fields if f["name"] in self.features and isinstance(f["type"], list)}

    def deployment(self, topic: str, output: str, delivery: str = "exactly_once") -> dict[str, Any]:
        return {
            "name": name_of(output),
            "input": {"topic": topic, "schema": "event.avsc", "framing": self.framing},
            "output": {"topic": output},
            "delivery": delivery,
            "arms": [{"role": "active", "model": f"{self.name}@production"}],
            "missing": self.missing,
            "limits": {"dead_letters_per_minute": 0},
        }

    @property
    def head(self) -> bytes:
        """What stands before an event: nothing before JSON, else an Avro single object's header."""
        return b"" if self.framing == "json" else single_object_header(fingerprint(self.schema))

    def rows(self, count: int, seed: int = 0) -> list[dict[str, Any]]:
        """Return `count` random events."""
        rng = np.random.default_rng(seed)
        return [{f["name"]: _value(f["type"], rng, i) for f in self.fields} for i in range(count)]

    def events(self, count: int, seed: int = 0) -> list[bytes]:
        """Return `count` random events, encoded, without a header."""
        if self.framing == "json":
            return [orjson.dumps(row) for row in self.rows(count, seed)]
        parsed = fastavro.parse_schema(self.schema)
        datums = []
        for row in self.rows(count, seed):
            out = io.BytesIO()
            fastavro.schemaless_writer(out, parsed, row)
            datums.append(out.getvalue())
        return datums

    def matrix(self, rows: Sequence[dict[str, Any]]) -> Any:
        """Return what the model reads of events: float32 [events, ...]."""
        if len(self.features) == 1:
            found = np.array([row[self.features[0]] for row in rows], np.float32)
            return found if found.ndim > 1 else found[:, None]
        return np.array([[row[name] or 0.0 for name in self.features] for row in rows], np.float32)

    def told(self) -> str:
        """Return the job as peers are told it: a JSON text."""
        framing = "json" if self.framing == "json" else "avro"
        return json.dumps(
            {"schema": self.schema, "features": self.features, "framing": framing, "header_bytes": len(self.head)}
        )


def _value(kind: Any, rng: np.random.Generator, i: int) -> Any:
    if isinstance(kind, list):
        return None if rng.random() < 0.1 else _value(kind[1], rng, i)
    if kind == IMAGE_TYPE:
        return rng.random((28, 28)).round(7).tolist()
    if isinstance(kind, dict):
        return str(rng.choice(kind["symbols"])) if kind["type"] == "enum" else 1_700_000_000_000 + i
    if kind == "double":
        return float(rng.standard_normal())
    if kind in ("int", "long"):
        return int(rng.integers(0, 5_000))
    return bool(rng.random() < 0.5) if kind == "boolean" else f"N{rng.integers(1, 999)}{'AB'[i % 2]}"


def _field(name: str, kind: Any) -> dict[str, Any]:
    return {"name": name, "type": kind}


IMAGE_TYPE = {"type": "array", "items": {"type": "array", "items": "float"}}


def doubles(name: str, width: int, network: Callable[[], bytes], letter: str = "", about: str = "") -> Job:
    """Return a job whose events are so many doubles, all of which the model reads."""
    names = [f"f{i}" for i in range(width)]
    return Job(name, letter, about, [_field(each, "double") for each in names], names, network)


MATRIX = doubles("matrix", 30, lambda: networks.perceptron([30, 64, 64, 1]), "A", "30 doubles, perceptron 30-64-64-1")
MIXED_FIELDS = [
    *(_field(f"d{i}", "double") for i in range(6)),
    *(_field(f"n{i}", ["null", "double"]) for i in range(4)),
    *(_field(f"i{i}", "int") for i in range(4)),
    *(_field(f"l{i}", "long") for i in range(2)),
    _field("b0", "boolean"),
    _field("origin", {"type": "enum", "name": "Origin", "symbols": ORIGINS}),
    _field("at", {"type": "long", "logicalType": "timestamp-millis"}),
    *(_field(f"s{i}", "string") for i in range(3)),
]
MIXED = Job(
    "mixed",
    "M",
    "22 mixed fields, perceptron 16-64-64-1",
    MIXED_FIELDS,
    [f"d{i}" for i in range(6)] + [f"n{i}" for i in range(4)] + [f"i{i}" for i in range(4)] + ["l0", "l1"],
    lambda: networks.perceptron([16, 64, 64, 1], [1.0] * 10 + [1 / 5_000] * 6),
)
IMAGE = Job(
    "image",
    "B",
    "JSON 28 x 28, perceptron 784-32-32-10 (Crayfish)",
    [_field("image", IMAGE_TYPE)],
    ["image"],
    lambda: networks.classifier([28, 28], [32, 32, 10]),
    "json",
)
TREES = doubles("trees", 30, lambda: networks.trees(30, 100, 6), "T", "30 doubles, 100 trees of depth 6")
LARGE = doubles(
    "large",
    30,
    lambda: networks.perceptron([30, 2048, 2048, 2048, 1]),
    "L",
    "30 doubles, perceptron 30-2048-2048-2048-1",
)
JOBS = {job.name: job for job in (MATRIX, MIXED, IMAGE, TREES, LARGE)}
