"""Runs a model for the first time where it can do no harm: in a process of its own, with bounds on memory and time.

A graph of a hundred bytes can ask for gigabytes or loop for ever. Here such a model ends with a refusal that says so;
the process that asked goes on. The parent's half is this module, the child's is `models.sandboxed`.
"""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from models.bundle import Bundle
from models.errors import ModelRefused
from models.graph import Examined, examine
from models.waiting import take


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a model may use in the sandbox. memory_bytes: on top of what the process has before it loads the model."""

    seconds: float = 60.0
    memory_bytes: int = 2 << 30


def warm_up(bundle: Bundle, bounds: Bounds | None = None, *, threads: int = 1) -> Mapping[str, Any]:
    """Load and run the model in the sandbox; returns what was seen.

    Raises ModelRefused when it breaks a bound or cannot be loaded. A model that gives an error for every row tried is
    not refused here: only its first events can tell.
    """
    return _ask(bundle, {"rounds": 0, "threads": threads}, bounds or Bounds())


def prove(bundle: Bundle, bounds: Bounds | None = None, *, rounds: int = 8, threads: int = 1) -> Mapping[str, Any]:
    """Warm the model up and find out whether its outputs depend on the row alone; returns the proof to keep.

    The proof says `bitwise` or a tolerance, and for which onnxruntime and CPU it holds.
    Raises ModelRefused when the model breaks a bound, cannot score a single row that was tried, or mixes up rows.
    """
    report = _ask(bundle, {"rounds": rounds, "threads": threads}, bounds or Bounds())
    if report["failure"]:
        raise ModelRefused(
            f"{bundle.manifest.ref} gives an error for every row that was tried: {report['failure']}; "
            "put rows that it can score into the bundle (example=[...])"
        )
    return report


def _ask(bundle: Bundle, job: Mapping[str, Any], bounds: Bounds) -> dict[str, Any]:
    manifest = bundle.manifest
    examined = examine(bundle.model)
    question = {
        **job,
        "memory_bytes": bounds.memory_bytes,
        "seconds": bounds.seconds,
        "inputs": [part.model_dump() for part in manifest.inputs],
        "tensors": list(dict.fromkeys(output.tensor for output in manifest.outputs)),
        "examples": manifest.example,
        "missing": manifest.missing,
        "strings": examined.strings,
    }
    report = _converse(manifest.ref, question, examined, bounds)
    if "refused" in report:
        raise ModelRefused(f"{manifest.ref}: {report['refused']}")
    return report


def _converse(ref: str, question: Mapping[str, Any], examined: Examined, bounds: Bounds) -> dict[str, Any]:
    text = json.dumps(question).encode()
    try:
        done = take().ask(len(text).to_bytes(8, "big") + text + examined.model, bounds.seconds)
    except subprocess.TimeoutExpired as error:
        raise ModelRefused(f"{ref} did not finish its warm-up in {bounds.seconds:g} s and was ended") from error
    if done.returncode == 0:
        return dict(json.loads(done.stdout))
    raise ModelRefused(f"{ref} did not survive its warm-up: {_cause_of_death(done, bounds)}")


def _cause_of_death(done: subprocess.CompletedProcess[bytes], bounds: Bounds) -> str:
    if -done.returncode in (signal.SIGXCPU, signal.SIGKILL):
        return f"it used more than {bounds.seconds:g} s of processor time, or the system ended it"
    if done.returncode < 0:
        name = signal.Signals(-done.returncode).name
        return f"it crashed ({name}), perhaps for more than {bounds.memory_bytes >> 20} MiB of memory"
    last = done.stderr.decode("utf-8", "replace").strip().splitlines()
    return last[-1] if last else f"exit code {done.returncode}"
