"""The active path beside a shadow that is well or ill, by turns: what each state of the shadow does to its p95."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial

import numpy as np
import psutil

from benchmarks import networks
from benchmarks.cores import pin, pinned
from benchmarks.rig import Rig
from benchmarks.stand import FIRST, PATIENCE, READS, SECOND, Stand
from models.bundle import Bundle
from models.repository import Repository
from penstock.bench.system import Process, wait_until

NONE = "is not there"
SLOW = "slow"  # tag of a version with a hundred times the multiplications: 605,000 for 6,100
WIDTHS = (512, 1_150, 1)
LIFE = 0.5  # seconds that a shadow that crashes has
Beside = Callable[[Process], None]  # what is done to a shadow once events come


def well(shadow: Process) -> None:
    """Leave it alone."""


def killed(shadow: Process, seconds: float = 0.0) -> None:
    """Kill its worker with SIGKILL whenever it reads; its supervisor starts another one each time."""
    deadline, deaths = time.monotonic() + seconds, 0
    while time.monotonic() < deadline:
        time.sleep(LIFE)
        if shadow.log.read_text().count(READS) > deaths:
            deaths += 1
            for child in psutil.Process(shadow.pid).children():
                child.kill()


def stopped(shadow: Process) -> None:
    """Let it stand still with all it has open."""
    for process in _family(shadow):
        process.suspend()


# State of the shadow: the tag of its model, how it is started, and what is done to it.
STATES: Mapping[str, tuple[str, str, Beside]] = {
    "is well": (SECOND, "penstock.cli", well),
    "crashes": (SECOND, "penstock.cli", killed),
    "hangs": (SECOND, "penstock.cli", stopped),
    "leaks": (SECOND, "benchmarks.leaking", well),
    "is 100 times slower": (SLOW, "penstock.cli", well),
}


def measured(rig: Rig, rate: int, seconds: float, turns: int) -> dict[str, list[float]]:
    """Return the p95 in ms of each turn, by the state of the shadow; NONE: without one. They take turns.

    Every turn has a shadow of its own name, which begins at the latest event: none has another one's backlog. The last
    core is the shadow's.
    """
    stand = Stand(rig)
    _add_slow(rig)
    *others, last = sorted(os.sched_getaffinity(0))
    found: dict[str, list[float]] = {name: [] for name in (NONE, *STATES)}
    assert rig.place.broker is not None
    with pinned(rig.place.broker, others), pinned(os.getpid(), others), stand.worker(stand.name) as active:
        pin(active.pid, others)
        wait_until(lambda: READS in active.log.read_text(), PATIENCE, "the active slot", active)
        stand.turn(rate, 4)  # code is loaded, and the broker warms up
        for turn in range(turns):
            for name in found:
                with _shadow(stand, name, turn, {last}) as shadow:
                    p95 = stand.turn(rate, seconds, _beside(name, shadow, seconds)).latency.p95
                found[name].append(p95)
                print(f"  a shadow that {name:20} p95 {p95:6.2f} ms", flush=True)
    return found


def _add_slow(rig: Rig) -> None:
    job = rig.job
    bundle = Bundle.build(name=job.name, model=networks.perceptron([30, *WIDTHS]), features=job.features)
    Repository(str(rig.folder / "models")).add(bundle, tags=[SLOW])


def _beside(name: str, shadow: Process | None, seconds: float) -> Callable[[], None] | None:
    if shadow is None:
        return None
    act = STATES[name][2]
    return partial(killed, shadow, seconds) if act is killed else partial(act, shadow)


@contextmanager
def _shadow(stand: Stand, state: str, turn: int, cores: Collection[int]) -> Iterator[Process | None]:
    """Run a shadow that reads, on these cores only; None where there is to be none."""
    if state == NONE:
        yield None
        return
    tag, module, _ = STATES[state]
    arm = f"s{turn}-{list(STATES).index(state)}"
    file, log = _declared(stand, tag, arm), stand.rig.folder / f"{arm}.log"
    words = [sys.executable, "-m", module, "worker", file, "--arm", arm, "--schemas", str(stand.rig.folder)]
    words += ["--slots", "1"] if STATES[state][2] is killed else []
    with Process(words, log, cwd=stand.rig.folder, env=stand.environment()) as shadow:
        pin(shadow.pid, cores)  # it has just begun: all that it starts stays there
        try:
            wait_until(lambda: READS in log.read_text(), PATIENCE, "the shadow", shadow)
            yield shadow
        finally:
            for process in _family(shadow):
                with suppress(psutil.NoSuchProcess):
                    process.send_signal(signal.SIGCONT)


def _declared(stand: Stand, tag: str, arm: str) -> str:
    """Return the path of a file with a shadow of this name, which begins at the latest event."""
    name = stand.rig.job.name
    arms = [
        {"role": "active", "model": f"{name}@{FIRST}"},
        {"role": "shadow", "name": arm, "model": f"{name}@{tag}", "topic": f"{stand.target}.{arm}"},
    ]
    declared = stand.rig.job.deployment(stand.source, stand.target)
    return str(stand.file(tag, arms=arms, input={**declared["input"], "start": "latest"}, name=f"{stand.name}-{arm}"))


def _family(process: Process) -> list[psutil.Process]:
    with suppress(psutil.NoSuchProcess):
        parent = psutil.Process(process.pid)
        return [parent, *parent.children(recursive=True)]
    return []


def ratios(found: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """Return for each state of the shadow the median p95 to that without one."""
    base = float(np.median(found[NONE]))
    return {name: float(np.median(values)) / base for name, values in found.items() if name != NONE}
