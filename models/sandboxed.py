"""The sandbox's inner half: `python -m models.sandboxed` loads one model under limits and reports what it saw.

Reads from standard input 8 bytes of length, a JSON question and the model; writes a JSON report. Imports neither onnx
nor polars: the parent has examined the model already.
"""

from __future__ import annotations

import contextlib
import json
import math
import platform
import resource
import sys
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnxruntime

from models.determinism import RowsInteract, examine_rows
from models.rows import Array, tries
from models.runtimes.session import open_session, padded

MOST_ROWS = 512


def main() -> None:
    data = sys.stdin.buffer.read()
    if not data:  # whoever started it ended before there was a question
        return
    length = int.from_bytes(data[:8], "big")
    question, model = json.loads(data[8 : 8 + length]), data[8 + length :]
    _limit(question["memory_bytes"], question["seconds"])
    json.dump(_report(question, model), sys.stdout)


def _limit(memory_bytes: int, seconds: float) -> None:
    with contextlib.suppress(OSError), open("/proc/self/statm") as file:  # elsewhere than on Linux only time is bounded
        present = int(file.read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (present + memory_bytes, present + memory_bytes))
    cpu = math.ceil(seconds) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (cpu, cpu))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _report(question: Mapping[str, Any], model: bytes) -> dict[str, Any]:
    began = time.perf_counter()
    try:
        session = open_session(model, question["threads"])
    except Exception as error:
        return {"refused": f"it cannot be loaded: {_said(error, question)}"}
    load_seconds = time.perf_counter() - began
    try:
        good, failure = _try(session, question)
    except MemoryError as error:
        return {"refused": _said(error, question)}
    finding = None
    if good and question["rounds"]:
        try:
            finding = examine_rows(lambda rows: _run(session, question, rows), _together(good), 0, question["rounds"])
        except RowsInteract as error:
            return {"refused": f"{error}; a model must score each row by itself, and the same way each time"}
    return {
        "determinism": finding.to_dict() if finding else None,
        "failure": "" if good else failure,
        "load_seconds": round(load_seconds, 4),
        "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "onnxruntime": onnxruntime.__version__,
        "cpu": cpu_kind(),
        "threads": question["threads"],
    }


def _try(session: Any, question: Mapping[str, Any]) -> tuple[list[dict[str, Array]], str]:
    good, failure = [], ""
    for rows in tries(question["inputs"], question["examples"], question["missing"], question["strings"]):
        try:
            _run(session, question, rows)
        except Exception as error:
            if _is_memory(error):
                raise MemoryError from error
            failure = failure or _said(error, question)
        else:
            good.append(rows)
    return good, failure


def _run(session: Any, question: Mapping[str, Any], inputs: Mapping[str, Array]) -> list[Array]:
    count = len(next(iter(inputs.values())))
    outputs = session.run(question["tensors"], padded(inputs, count))
    for name, output in zip(question["tensors"], outputs, strict=True):
        if not isinstance(output, np.ndarray) or output.ndim not in (1, 2) or len(output) < count:
            raise ValueError(f"output {name} has the shape {getattr(output, 'shape', '?')} for {count} rows")
    return [output[:count] for output in outputs]


def _together(batches: list[dict[str, Array]]) -> dict[str, Array]:
    return {name: np.concatenate([batch[name] for batch in batches])[:MOST_ROWS] for name in batches[0]}


def _said(error: Exception, question: Mapping[str, Any]) -> str:
    if _is_memory(error):
        return f"it needs more than {question['memory_bytes'] >> 20} MiB of memory"
    return " ".join(str(error).split())[:400] or type(error).__name__


def _is_memory(error: Exception) -> bool:
    return isinstance(error, MemoryError) or "bad_alloc" in str(error) or "allocate memory" in str(error)


def cpu_kind() -> str:
    """The processor's name: other kinds may round otherwise."""
    with contextlib.suppress(OSError), open("/proc/cpuinfo") as file:
        for line in file:
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.machine()


if __name__ == "__main__":
    main()
