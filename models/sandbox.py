"""Runs a model for the first time where it can do no harm: in a process of its own, with bounds on memory and time.

A graph of a hundred bytes can ask for gigabytes or loop for ever. Here such a model ends with a refusal that says so;
the process that asked goes on. The parent's half is this module, the child's is `models.sandboxed`.
"""

from __future__ import annotations

import json
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from models.bundle import Bundle
from models.errors import BundleInvalid, ModelRefused
from models.graph import Examined, examine
from models.hierarchy import differences, examined_leaf
from models.programs import Program
from models.sharing import program_of
from models.waiting import take

LEAF_SECONDS = 0.2  # that each leaf adds to the time of all; small ones take a fiftieth of it
WARMED = 16  # leaves that are warmed up before a worker starts: all were proven when the bundle was added


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a model may use in the sandbox, and each leaf of a hierarchy of models.

    memory_bytes: on top of what the process has before it loads the model.
    """

    seconds: float = 60.0
    memory_bytes: int = 2 << 30


def warm_up(bundle: Bundle, bounds: Bounds | None = None, *, threads: int = 1) -> Mapping[str, Any]:
    """Load and run the model in the sandbox, and some of its leaves; returns what was seen.

    Raises ModelRefused when it breaks a bound or cannot be loaded. A model that gives an error for every row tried is
    not refused here: only its first events can tell.
    """
    digests = bundle.leaves.digests if bundle.leaves else ()
    some = digests[:: -(-len(digests) // WARMED)] if digests else ()
    return _ask(bundle, {"rounds": 0, "threads": threads}, bounds or Bounds(), some)


def prove(bundle: Bundle, bounds: Bounds | None = None, *, rounds: int = 8, threads: int = 1) -> Mapping[str, Any]:
    """Warm the model up and find out whether its outputs depend on the row alone; returns the proof to keep.

    The proof says `bitwise` or a tolerance, and for which onnxruntime and CPU it holds; it covers every leaf.
    Raises ModelRefused when the model breaks a bound, cannot score a single row that was tried, or mixes up rows, and
    BundleInvalid for a leaf that does not keep the contract.
    """
    digests = bundle.leaves.digests if bundle.leaves else ()
    report = _ask(bundle, {"rounds": rounds, "threads": threads}, bounds or Bounds(), digests)
    if report["failure"]:
        raise ModelRefused(
            f"{bundle.manifest.ref} gives an error for every row that was tried: {report['failure']}; "
            "put rows that it can score into the bundle (example=[...])"
        )
    return report


def _ask(bundle: Bundle, job: Mapping[str, Any], bounds: Bounds, digests: Sequence[str]) -> dict[str, Any]:
    manifest = bundle.manifest
    examined = examine(bundle.model)
    seconds = bounds.seconds + LEAF_SECONDS * len(digests)
    places = bundle.leaves.places if bundle.leaves else {}
    names = [places[digest] for digest in digests]
    with _examined_leaves(bundle, examined, digests) as file:
        question = {
            **job,
            "memory_bytes": bounds.memory_bytes,
            "seconds": seconds,
            "inputs": [part.model_dump() for part in manifest.inputs],
            "tensors": list(dict.fromkeys(output.tensor for output in manifest.outputs)),
            "examples": manifest.example,
            "missing": manifest.missing,
            "strings": examined.strings,
            "many": bundle.leaves is not None,
            "leaves": names,
            "leaves_file": file,
            "leaf_seconds": bounds.seconds,
        }
        program = program_of(examined) if bundle.leaves else Program(examined.model)
        report = _converse(manifest.ref, question, program, bounds)
    if "refused" in report:
        raise ModelRefused(f"{manifest.ref}: {report['refused']}")
    return report


@contextmanager
def _examined_leaves(bundle: Bundle, described: Examined, digests: Sequence[str]) -> Iterator[str]:
    """Yield the name of a file with the programs of these leaves, each behind its length; there is none for none."""
    if not digests or bundle.leaves is None:
        yield ""
        return
    places = bundle.leaves.places
    with tempfile.NamedTemporaryFile(prefix="penstock-leaves-") as file:
        for digest in digests:
            leaf = examined_leaf(places[digest], bundle.leaves.model(digest))
            if found := [*differences(bundle.manifest, described, leaf)]:
                raise BundleInvalid(f"{bundle.manifest.ref}, leaf {places[digest]}: {'; '.join(found)}")
            program = program_of(leaf).pack()
            file.write(len(program).to_bytes(8, "big") + program)
        file.flush()
        yield file.name


def _converse(ref: str, question: Mapping[str, Any], program: Program, bounds: Bounds) -> dict[str, Any]:
    text, seconds = json.dumps(question).encode(), question["seconds"]
    try:
        done = take().ask(len(text).to_bytes(8, "big") + text + program.pack(), seconds)
    except subprocess.TimeoutExpired as error:
        who = ref + _leaf(question, error.output)
        raise ModelRefused(f"{who} did not finish its warm-up in {seconds:g} s and was ended") from error
    if done.returncode == 0:
        return dict(json.loads(done.stdout.splitlines()[-1]))
    who = ref + _leaf(question, done.stdout)
    if -done.returncode == signal.SIGALRM:
        raise ModelRefused(f"{who} did not finish its warm-up in {bounds.seconds:g} s and was ended")
    raise ModelRefused(f"{who} did not survive its warm-up: {_cause_of_death(done, bounds)}")


def _leaf(question: Mapping[str, Any], said: bytes | None) -> str:
    """Which leaf it was at in the end: it says the number of each before it loads it."""
    numbers = [word for word in (said or b"").split() if word.isdigit()]
    return f", leaf {question['leaves'][int(numbers[-1])]}," if numbers else ""


def _cause_of_death(done: subprocess.CompletedProcess[bytes], bounds: Bounds) -> str:
    if -done.returncode in (signal.SIGXCPU, signal.SIGKILL):
        return f"it used more than {bounds.seconds:g} s of processor time, or the system ended it"
    if done.returncode < 0:
        name = signal.Signals(-done.returncode).name
        return f"it crashed ({name}), perhaps for more than {bounds.memory_bytes >> 20} MiB of memory"
    last = done.stderr.decode("utf-8", "replace").strip().splitlines()
    return last[-1] if last else f"exit code {done.returncode}"
