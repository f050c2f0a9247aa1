"""The sandbox's inner half: `python -m models.sandboxed` loads one model under limits and reports what it saw.

Reads from standard input 8 bytes of length, a JSON question and the model's program; writes a JSON report. The leaves
of a hierarchy of models come one by one from a file, and the number of each is written before it is loaded: whoever
outlives us knows where we ended. Imports neither onnx nor polars: the parent has examined the models already.
"""

from __future__ import annotations

import contextlib
import json
import math
import platform
import resource
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnxruntime

from models.determinism import Finding, RowsInteract, Run, examine_rows
from models.programs import PREFIX, Program, feeds, in_rows, in_tiles
from models.rows import Array, tries
from models.runtimes.session import open_session, padded

MOST_ROWS = 512
LEAF_ROWS, LEAF_ROUNDS = 64, 2  # of each leaf: thousands of them take seconds
ADVICE = "put rows that it can score into the bundle (example=[...])"

Rows = dict[str, Array]  # a batch by the names of the inputs


def main() -> None:
    data = sys.stdin.buffer.read()
    if not data:  # whoever started it ended before there was a question
        return
    length = int.from_bytes(data[:8], "big")
    question, program = json.loads(data[8 : 8 + length]), Program.unpack(data[8 + length :])
    _limit(question["memory_bytes"], question["seconds"])
    json.dump(_report(question, program), sys.stdout)


def _limit(memory_bytes: int, seconds: float) -> None:
    with contextlib.suppress(OSError), open("/proc/self/statm") as file:  # elsewhere than on Linux only time is bounded
        present = int(file.read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (present + memory_bytes, present + memory_bytes))
    cpu = math.ceil(seconds) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (cpu, cpu))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


class _Refused(Exception):
    """A model is not run; the text says why."""


def _report(question: Mapping[str, Any], program: Program) -> dict[str, Any]:
    _limit_time(question)
    batches = list(tries(question["inputs"], question["examples"], question["missing"], question["strings"]))
    opener = _Opener(question)
    try:
        seen = _examine(question, opener, program, batches, question["rounds"], MOST_ROWS)
        finding = _with_leaves(question, opener, batches, seen.finding)
    except _Refused as error:
        return {"refused": str(error)}
    return {
        "determinism": finding.to_dict() if finding else None,
        "failure": seen.failure,
        "load_seconds": round(seen.load_seconds, 4),
        "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "onnxruntime": onnxruntime.__version__,
        "cpu": cpu_kind(),
        "threads": question["threads"],
        **({"leaves": len(question["leaves"])} if question["leaves"] else {}),
    }


def _limit_time(question: Mapping[str, Any]) -> None:
    """Where there are leaves, end this process unless it comes to the next one in the time of one."""
    if question["leaves"]:
        signal.setitimer(signal.ITIMER_REAL, question["leaf_seconds"])


@dataclass(frozen=True, slots=True)
class _Seen:
    """What one model did. failure: of every row that was tried, empty where some were scored."""

    load_seconds: float
    finding: Finding | None
    failure: str


class _Opener:
    """Makes sessions, and keeps that of the last shared graph: many leaves have the same."""

    def __init__(self, question: Mapping[str, Any]) -> None:
        self._threads, self._many = question["threads"], question["many"]
        self._key, self._session = "", None

    def open(self, program: Program) -> Any:
        if not program.shared:
            return open_session(program.graph, self._threads, many=self._many)
        if program.key != self._key:
            self._session = open_session(program.graph, self._threads, many=True)
            self._key = program.key
        return self._session


def _examine(
    question: Mapping[str, Any], opener: _Opener, program: Program, batches: list[Rows], rounds: int, most: int
) -> _Seen:
    """Load a model and run it; with rounds, find out whether its rows depend on themselves alone. Raises _Refused."""
    began = time.perf_counter()
    try:
        session = opener.open(program)
    except Exception as error:
        raise _Refused(f"it cannot be loaded: {_said(error, question)}") from error
    load_seconds = time.perf_counter() - began

    def run(rows: Mapping[str, Array]) -> list[Array]:
        return _run(session, program, question["tensors"], rows)

    good, failure = _try(run, question, batches)
    if not good or not rounds:
        return _Seen(load_seconds, None, "" if good else failure)
    rows = {name: array[:most] for name, array in _together(good).items()}
    try:
        return _Seen(load_seconds, examine_rows(run, rows, 0, rounds), "")
    except RowsInteract as error:
        raise _Refused(f"{error}; a model must score each row by itself, and the same way each time") from error


def _with_leaves(
    question: Mapping[str, Any], opener: _Opener, batches: list[Rows], finding: Finding | None
) -> Finding | None:
    """Examine the leaves one after the other; return the finding that holds for all models. Raises _Refused."""
    if not question["leaves"]:
        return finding
    rounds = min(question["rounds"], LEAF_ROUNDS)
    with open(question["leaves_file"], "rb") as file:
        for number, name in enumerate(question["leaves"]):
            print(number, flush=True)
            _limit_time(question)
            program = Program.unpack(file.read(int.from_bytes(file.read(8), "big")))
            try:
                seen = _examine(question, opener, program, batches, rounds, LEAF_ROWS)
            except _Refused as error:
                raise _Refused(f"leaf {name}: {error}") from error
            if rounds and seen.failure:
                raise _Refused(f"leaf {name} gives an error for every row that was tried: {seen.failure}; {ADVICE}")
            if finding and seen.finding:
                bitwise = finding.bitwise and seen.finding.bitwise
                tolerance = max(finding.tolerance, seen.finding.tolerance)
                finding = replace(finding, bitwise=bitwise, tolerance=tolerance)
    return finding


def _try(run: Run, question: Mapping[str, Any], batches: list[Rows]) -> tuple[list[Rows], str]:
    good, failure = [], ""
    for rows in batches:
        try:
            run(rows)
        except Exception as error:
            if _is_memory(error):
                raise _Refused(_said(error, question)) from error
            failure = failure or _said(error, question)
        else:
            good.append(rows)
    return good, failure


def _run(session: Any, program: Program, tensors: Sequence[str], inputs: Mapping[str, Array]) -> list[Array]:
    count = len(next(iter(inputs.values())))
    rows = padded(inputs, count)
    if program.shared:
        tiles = {name: in_tiles(array) for name, array in rows.items()}
        many = len(next(iter(tiles.values())))
        given = feeds(program.names, [program.weights] * many, tiles)
        outputs = [in_rows(output, many) for output in session.run([PREFIX + name for name in tensors], given)]
    else:
        outputs = session.run(tensors, rows)
    for name, output in zip(tensors, outputs, strict=True):
        if not isinstance(output, np.ndarray) or output.ndim not in (1, 2) or len(output) < count:
            raise ValueError(f"output {name} has the shape {getattr(output, 'shape', '?')} for {count} rows")
    return [output[:count] for output in outputs]


def _together(batches: list[Rows]) -> Rows:
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
