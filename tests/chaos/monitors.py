"""Monitor processes, one a slot: killed, stopped, frozen and brought back until the run ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from monitoring import exact

ROOT = Path(__file__).parents[2]
AGAIN = 0.3  # seconds until a slot that ended is started again
AT_WORK = 15.0  # seconds that a fault waits for a process to have its state
GONE = 30.0  # seconds in which a zombie must have ended
ORDERLY = (0, -signal.SIGKILL, exact.FAILED, exact.HOLE)  # what a monitor may end with: it starts over


@dataclass(slots=True)
class Life:
    """One process of a slot."""

    process: subprocess.Popen[bytes]
    log: Path

    def at_work(self) -> bool:
        return "restored" in self.log.read_text(errors="replace")


@dataclass
class Monitors:
    """Keeps the slots running. command: the arguments of a slot's process."""

    command: Callable[[str], Sequence[str]]
    folder: Path
    lives: dict[str, Life] = field(default_factory=dict)
    zombies: list[Life] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    exits: list[str] = field(default_factory=list)  # what should not have happened

    def __post_init__(self) -> None:
        self._changing, self._halt, self._number = threading.RLock(), threading.Event(), 0
        self._thread = threading.Thread(target=self._watch, name="monitors", daemon=True)

    def start(self, slots: int) -> None:
        for slot in range(slots):
            self._begin(str(slot))
        self._thread.start()

    def _begin(self, slot: str) -> None:
        self._number += 1
        log = self.folder / f"monitor-{slot}-{self._number:03}.log"
        with log.open("wb") as out:
            process = subprocess.Popen(
                [sys.executable, *self.command(slot)],
                cwd=ROOT,
                stdout=out,
                stderr=out,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
            )
        self.lives[slot] = Life(process, log)
        self.counts["processes"] += 1

    def _watch(self) -> None:
        while not self._halt.wait(AGAIN):
            with self._changing:
                for slot, life in list(self.lives.items()):
                    if (code := life.process.poll()) is not None:
                        self._note(life, code)
                        self._begin(slot)

    def _note(self, life: Life, code: int) -> None:
        self.counts[f"ended with {code}"] += 1
        if code not in ORDERLY:
            self.exits.append(f"a monitor ended with {code}: {life.log.read_text(errors='replace')[-600:]}")

    # ---- faults

    def kill(self, slot: str) -> None:
        """End a slot's process as a power cut would; it comes back."""
        self._signal(slot, signal.SIGKILL)

    def term(self, slot: str) -> None:
        """Ask a slot's process to end; it comes back."""
        self._signal(slot, signal.SIGTERM)

    def freeze(self, slot: str, seconds: float, twin: bool) -> None:
        """Freeze a process for longer than its session, so that it wakes up as a zombie.

        twin: another process takes its slot meanwhile, and the zombie must end.
        """
        life = self._signal(slot, signal.SIGSTOP)
        if twin:
            with self._changing:
                self.zombies.append(life)
                self._begin(slot)
        time.sleep(seconds)
        life.process.send_signal(signal.SIGCONT)

    def _signal(self, slot: str, number: signal.Signals) -> Life:
        """Hit a process once it has its state, or has had time enough."""
        deadline = time.monotonic() + AT_WORK
        while time.monotonic() < deadline and not self.lives[slot].at_work():
            time.sleep(0.1)
        with self._changing:
            life = self.lives[slot]
            self.counts["hit at work"] += life.at_work()
            life.process.send_signal(number)
            return life

    # ---- the end

    def log(self) -> str:
        """The last words of the processes that run."""
        return "\n".join(life.log.read_text(errors="replace")[-1500:] for life in self.lives.values())

    def close(self) -> None:
        """Wait for zombies to end, then leave nothing running."""
        deadline = time.monotonic() + GONE
        while any(each.process.poll() is None for each in self.zombies) and time.monotonic() < deadline:
            time.sleep(0.2)
        self.counts["zombies that ended by themselves"] = sum(each.process.poll() is not None for each in self.zombies)
        self._halt.set()
        if self._thread.is_alive():
            self._thread.join()
        for life in [*self.lives.values(), *self.zombies]:
            life.process.kill()
            life.process.wait()
