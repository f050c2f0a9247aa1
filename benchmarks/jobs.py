"""The jobs that are measured: their event schema, random events, and a model of the right shape."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from typing import Any

import fastavro
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

ORIGINS = ["EWR", "JFK", "LGA"]


@dataclass(frozen=True, slots=True)
class Job:
    """fields: the Avro fields of an event; features: those that the model reads, as one float matrix."""

    name: str
    fields: list[dict[str, Any]]
    features: list[str]

    @property
    def schema(self) -> dict[str, Any]:
        return {"type": "record", "name": f"Event{self.name}", "namespace": "penstock.bench", "fields": self.fields}

    def deployment(self, topic: str, output: str, delivery: str = "exactly_once") -> dict[str, Any]:
        missing = {f["name"]: 0.0 for f in self.fields if f["name"] in self.features and isinstance(f["type"], list)}
        return {
            "name": output.replace(".inferences", ""),
            "input": {"topic": topic, "schema": "event.avsc", "framing": "single_object"},
            "output": {"topic": output},
            "delivery": delivery,
            "arms": [{"role": "active", "model": f"{self.name}@production"}],
            "missing": missing,
            "limits": {"dead_letters_per_minute": 0},
        }

    def events(self, count: int, seed: int = 0) -> list[bytes]:
        """Return `count` random events as Avro datums without a frame."""
        rng = np.random.default_rng(seed)
        parsed = fastavro.parse_schema(self.schema)
        datums = []
        for i in range(count):
            out = io.BytesIO()
            fastavro.schemaless_writer(out, parsed, {f["name"]: _value(f["type"], rng, i) for f in self.fields})
            datums.append(out.getvalue())
        return datums


def _value(kind: Any, rng: np.random.Generator, i: int) -> Any:
    if isinstance(kind, list):
        return None if rng.random() < 0.1 else _value(kind[1], rng, i)
    if isinstance(kind, dict):
        return str(rng.choice(kind["symbols"])) if kind["type"] == "enum" else 1_700_000_000_000 + i
    if kind == "double":
        return float(rng.standard_normal())
    if kind in ("int", "long"):
        return int(rng.integers(0, 5_000))
    return bool(rng.random() < 0.5) if kind == "boolean" else f"N{rng.integers(1, 999)}{'AB'[i % 2]}"


def _field(name: str, kind: Any) -> dict[str, Any]:
    return {"name": name, "type": kind}


MATRIX = Job("matrix", [_field(f"f{i}", "double") for i in range(30)], [f"f{i}" for i in range(30)])
MIXED = Job(
    "mixed",
    [
        *(_field(f"d{i}", "double") for i in range(6)),
        *(_field(f"n{i}", ["null", "double"]) for i in range(4)),
        *(_field(f"i{i}", "int") for i in range(4)),
        *(_field(f"l{i}", "long") for i in range(2)),
        _field("b0", "boolean"),
        _field("origin", {"type": "enum", "name": "Origin", "symbols": ORIGINS}),
        _field("at", {"type": "long", "logicalType": "timestamp-millis"}),
        *(_field(f"s{i}", "string") for i in range(3)),
    ],
    [f"d{i}" for i in range(6)] + [f"n{i}" for i in range(4)] + [f"i{i}" for i in range(4)] + ["l0", "l1"],
)
JOBS = {job.name: job for job in (MATRIX, MIXED)}


def perceptron(width: int, hidden: int = 64, seed: int = 0) -> bytes:
    """Return an ONNX multi-layer perceptron width-hidden-hidden-1 with a sigmoid, random weights."""
    rng = np.random.default_rng(seed)
    nodes, weights, last = [], [], "x"
    shapes = [(width, hidden), (hidden, hidden), (hidden, 1)]
    for i, shape in enumerate(shapes):
        weights.append(numpy_helper.from_array(rng.normal(0, shape[0] ** -0.5, shape).astype("f4"), f"w{i}"))
        weights.append(numpy_helper.from_array(np.zeros(shape[1], "f4"), f"b{i}"))
        nodes.append(helper.make_node("Gemm", [last, f"w{i}", f"b{i}"], [f"g{i}"]))
        last = "score" if i == len(shapes) - 1 else f"a{i}"
        nodes.append(helper.make_node("Sigmoid" if last == "score" else "Relu", [f"g{i}"], [last]))
    graph = helper.make_graph(
        nodes,
        "perceptron",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", width])],
        [helper.make_tensor_value_info("score", TensorProto.FLOAT, ["n", 1])],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def schema_text(job: Job) -> str:
    return json.dumps(job.schema)
