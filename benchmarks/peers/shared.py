"""What every Python peer does alike: decode one event, score it, encode one output.

Runs in each peer's own environment, so it imports nothing of Penstock. A job is a JSON file that the rig writes:
`schema` (Avro), `features` (field names of the model's matrix, or one array field), `framing` (`avro` or `json`) and
`header_bytes` (before an Avro event).
"""

from __future__ import annotations

import io
import json
import signal
import struct
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import fastavro
import numpy as np
import numpy.typing as npt
import onnxruntime
import orjson

OUTPUT_HEADER = bytes(10)  # as long as an Avro single object's
VERSION = b"\x04v1"  # as an Avro string


class Arguments(NamedTuple):
    """The command line of every peer."""

    servers: str
    job: str
    source: str
    target: str
    group: str
    model: str


class Model:
    """An ONNX model whose input is one float matrix, on one thread: each peer is one process of one thread."""

    def __init__(self, path: str) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(
            Path(path).read_bytes(), options, providers=["CPUExecutionProvider"]
        )
        entry = self._session.get_inputs()[0]
        self._name, self._row = entry.name, entry.shape[1:]

    def scores(self, rows: Any) -> npt.NDArray[np.float32]:
        """The first column of the model's first output, for rows of features."""
        matrix = np.asarray(rows, np.float32).reshape(len(rows), *self._row)
        scores: npt.NDArray[np.float32] = self._session.run(None, {self._name: matrix})[0]
        return scores.reshape(len(rows), -1)[:, 0]


class Job:
    """Events in, scores out."""

    def __init__(self, job: str, model: str) -> None:
        told = json.loads(Path(job).read_text())
        self._features: list[str] = told["features"]
        self._decode: Callable[[bytes], Any] = orjson.loads
        if told["framing"] == "avro":
            self._decode = _avro(told["schema"], told["header_bytes"])
        self._model = Model(model)

    def score(self, value: bytes) -> float:
        """Decode and score one event."""
        return self.score_all([value])[0]

    def score_all(self, values: Sequence[bytes]) -> list[float]:
        """Decode events and score them together."""
        scores: list[float] = self._model.scores([self._row(self._decode(value)) for value in values]).tolist()
        return scores

    def _row(self, event: Any) -> Any:
        if len(self._features) == 1:
            return event[self._features[0]]
        return [event[name] or 0.0 for name in self._features]  # a null scores as 0, as in the rig's deployment


def _avro(schema: Any, header: int) -> Callable[[bytes], Any]:
    parsed = fastavro.parse_schema(schema)
    return lambda value: fastavro.schemaless_reader(io.BytesIO(value[header:]), parsed, None)


def output(score: float, partition: int, offset: int) -> bytes:
    """An Avro single object: score (double), version (string), source partition (int), source offset (long)."""
    return OUTPUT_HEADER + struct.pack("<d", score) + VERSION + zigzag(partition) + zigzag(offset)


def zigzag(number: int) -> bytes:
    """A number as Avro writes it."""
    number, out = (number << 1) ^ (number >> 63), bytearray()
    while number > 0x7F:
        out.append((number & 0x7F) | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def asked_to_stop() -> threading.Event:
    """An event that SIGTERM and SIGINT set, for the peers that write their own loop."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    return stop
