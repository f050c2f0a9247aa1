"""The slots of a deployment under `penstock worker --slots N --supervise`: killed from outside, brought back by it."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path

from tests.chaos.slots import SAMPLE_SECONDS, Sample, partitions_read, sample_of, shared
from tests.rig import Worker


class SupervisedSlots:
    """The same faults as Slots knows, on the children of one supervisor.

    start: makes the supervisor's process, given the number of slots. locks: the folder of the slots' lock files, which
    name the processes; group: the consumer group, which names the files.
    """

    def __init__(self, start: Callable[[int], Worker], locks: Path, group: str) -> None:
        self._start, self._locks, self._group = start, locks, group
        self._supervisor: Worker | None = None
        self._count = 0
        self._sampled = 0.0
        self.exits: list[str] = []
        self.killed = 0
        self.samples: list[Sample] = []

    # ---- faults

    def scale(self, count: int) -> None:
        """Start the supervisor with so many slots; it cannot change their number later."""
        assert self._supervisor is None
        self._count, self._supervisor = count, self._start(count)

    @property
    def killed_at_work(self) -> int:
        return self.killed

    def kill(self, name: str, again: float | None = 0.0) -> None:
        """End a slot's process as a power cut would."""
        self.killed += 1
        self._signal(name, signal.SIGKILL)

    def terminate(self, name: str, again: float | None = 0.0) -> int | None:
        """Ask a slot's process to end."""
        self._signal(name, signal.SIGTERM)
        return None

    def pause(self, name: str) -> None:
        self._signal(name, signal.SIGSTOP)

    def resume(self, name: str) -> None:
        self._signal(name, signal.SIGCONT)

    def _signal(self, name: str, number: int) -> None:
        os.kill(self._pid(name), number)

    def _pid(self, name: str) -> int:
        return int((self._locks / f"{self._group}.{name}.lock").read_text())

    # ---- what is so

    @property
    def names(self) -> list[str]:
        return [str(number) for number in range(self._count)]

    def worker(self, name: str) -> Worker | None:
        """Return None: one process has the log and the exit status of all slots."""
        return None

    @property
    def lives(self) -> int:
        """How many processes had a slot."""
        return len(re.findall(r"slot \w+ runs as process", self._text()))

    def partitions(self, name: str) -> tuple[int, ...]:
        """Return the partitions that a slot reads, as the log tells."""
        mine = [line for line in self._text().splitlines() if re.search(rf"slot={name}\b", line)]
        return partitions_read("\n".join(mine))

    def _text(self) -> str:
        return self._supervisor.text() if self._supervisor is not None else ""

    def wait_ready(self, partitions: int, seconds: float = 90.0) -> None:
        """Block until the slots read so many partitions together, and each of them some."""
        deadline = time.monotonic() + seconds
        while not shared([self.partitions(name) for name in self.names], partitions):
            if time.monotonic() > deadline:
                raise TimeoutError(f"not all of {partitions} partitions are read:\n{self._text()[-4000:]}")
            time.sleep(0.1)

    def sample(self) -> None:
        """Note what the slots' processes use, now and then."""
        if time.monotonic() - self._sampled < SAMPLE_SECONDS:
            return
        self._sampled = time.monotonic()
        for name in self.names:
            try:
                sample = sample_of(self._pid(name))
            except (OSError, ValueError):  # between two lives
                continue
            if sample is not None:
                self.samples.append(sample)

    def close(self, seconds: float = 60.0) -> None:
        """End the supervisor with SIGTERM; it ends the slots in order."""
        if self._supervisor is None:
            return
        try:
            status = self._supervisor.stop(seconds)
        except AssertionError:
            self.exits.append(f"the supervisor did not end within {seconds:.0f} s of SIGTERM")
            return
        if self.lives != self._count + self.killed:
            self.exits.append(f"{self._count} slots were killed {self.killed} times and lived {self.lives} times")
        if status:
            last = (self._text().strip().splitlines() or ["its log is empty"])[-1]
            self.exits.append(f"the supervisor ended with status {status}: {last}")

    def kill_all(self) -> None:
        """Leave nothing behind: the slots end with the supervisor."""
        if self._supervisor is not None and self._supervisor.process.poll() is None:
            self._supervisor.kill()
