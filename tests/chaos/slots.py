"""The slots of a deployment as processes of the real command line: killed, stopped, frozen, scaled, brought back."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from tests.rig import Worker

LOOK_SECONDS = 0.05
SAMPLE_SECONDS = 2.0
CRASH_SECONDS = 1.0  # before a slot that ended by itself is started again
NEVER = float("inf")


@dataclass(slots=True)
class Slot:
    """One slot: its present process, and when to start the next one."""

    name: str
    worker: Worker | None = None
    again: float = 0.0  # monotonic time
    expected: bool = False  # we ended the process ourselves
    lives: list[Worker] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Sample:
    """What a process used at a time (seconds since 1970)."""

    at: float
    pid: int
    rss_mib: float
    files: int


@dataclass(frozen=True, slots=True)
class Grown:
    """What a process used in a life of so many seconds: median MiB in its second and in its last third; files since."""

    seconds: float = 0.0
    before: float = float("nan")
    after: float = float("nan")
    files: float = float("nan")

    @property
    def ratio(self) -> float:
        return self.after / self.before


class Slots:
    """Keeps slots running. start: makes the worker process of a slot."""

    def __init__(self, start: Callable[[str], Worker]) -> None:
        self._start = start
        self._slots: dict[str, Slot] = {}
        self._changing, self._scaling = threading.RLock(), threading.Lock()
        self._hitting: dict[str, threading.Lock] = defaultdict(threading.Lock)
        self._halt = threading.Event()
        self.killed = self.killed_at_work = self.lives = 0  # processes that were killed, and that were started
        self.exits: list[str] = []  # processes that ended by themselves, in words
        self.samples: list[Sample] = []
        self._sampled = 0.0
        self._thread = threading.Thread(target=self._watch, name="slots", daemon=True)
        self._thread.start()

    # ---- faults

    def scale(self, count: int) -> None:
        """Run the slots 0 to count - 1: what is beyond ends with SIGTERM, what is missing starts.

        One change after the other: a slot that still ends is not started anew.
        """
        with self._scaling:
            with self._changing:
                leaving = [self._slots.pop(name) for name in sorted(self._slots) if int(name) >= count]
                for i in range(count):
                    self._slots.setdefault(str(i), Slot(str(i)))
            self._end(leaving)

    def kill(
        self,
        name: str,
        again: float | None = 0.0,
        seconds: float = 10.0,
        how: Callable[[Worker], None] = Worker.kill,
    ) -> None:
        """End a slot as a power cut would; start it anew after `again` seconds, None: never.

        One that still starts is killed once it reads partitions, or after `seconds`: before, it has nothing to lose.
        """
        with self._hitting[name]:  # one after the other: two that wait for the same process would hit it once
            self._kill(name, again, seconds, how)

    def _kill(self, name: str, again: float | None, seconds: float, how: Callable[[Worker], None]) -> None:
        self._wait_at_work(name, seconds)
        with self._changing:
            self.killed_at_work += bool(self.partitions(name))
            slot = self._slots[name]
            slot.again, slot.expected = _later(again), True
            assert slot.worker is not None
            how(slot.worker)
            self.killed += 1

    def _wait_at_work(self, name: str, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and not self.partitions(name):
            time.sleep(0.05)
        while not self._runs(name):
            if time.monotonic() > deadline + seconds:
                raise TimeoutError(f"slot {name} does not run, so that nothing can happen to it")
            time.sleep(0.05)

    def _runs(self, name: str) -> bool:
        slot = self._slots.get(name)
        return slot is not None and slot.worker is not None and slot.worker.process.poll() is None

    def terminate(self, name: str, again: float | None = 0.0, seconds: float = 40.0) -> int | None:
        """Ask a slot to end and wait; return its exit status. Start it anew `again` seconds after that."""
        with self._changing:
            slot = self._slots[name]
            slot.again, slot.expected = NEVER, True
        status = self._await_end(slot, seconds) if slot.worker is not None else None
        with self._changing:
            slot.again = _later(again)
        return status

    def pause(self, name: str, seconds: float = 10.0) -> None:
        """Freeze a slot with SIGSTOP once it reads partitions, or after `seconds`."""
        self._wait_at_work(name, seconds)
        self._signal(name, signal.SIGSTOP)

    def pause_open(self, name: str, seconds: float = 10.0) -> None:
        """Have a slot stop itself within its next transaction (tests.chaos.wrapped); blocks until it stands still."""
        self._wait_at_work(name, seconds)
        self._signal(name, signal.SIGUSR2)
        deadline = time.monotonic() + seconds
        while not self._stands_still(name):
            if time.monotonic() > deadline:
                raise TimeoutError(f"slot {name} has not stopped itself within {seconds:g} s")
            time.sleep(0.02)

    def _stands_still(self, name: str) -> bool:
        worker = self._slots[name].worker
        assert worker is not None
        return Path(f"/proc/{worker.process.pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "T"

    def resume(self, name: str) -> None:
        self._signal(name, signal.SIGCONT)

    def replace(self, name: str, start: Callable[[], Worker], seconds: float = 60.0) -> None:
        """Let another process be the slot; the first one must end by itself with status 3."""
        with self._changing:
            slot = self._slots[name]
            first, slot.worker = slot.worker, start()
            self.lives += 1
            slot.lives.append(slot.worker)
        assert first is not None
        try:
            status = first.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.exits.append(f"slot {name} went on for {seconds:.0f} s beside its twin")
            first.kill()
            return
        if status != 3:
            self.exits.append(f"slot {name} ended with status {status}, not 3, when its twin came")

    def _signal(self, name: str, number: int) -> None:
        with self._changing:
            slot = self._slots.get(name)
            if slot is not None and slot.worker is not None and slot.worker.process.poll() is None:
                slot.worker.process.send_signal(number)

    # ---- what is so

    @property
    def names(self) -> list[str]:
        return sorted(self._slots)

    def worker(self, name: str) -> Worker | None:
        return self._slots[name].worker

    def partitions(self, name: str) -> tuple[int, ...]:
        """Return the partitions that a slot reads, as its log tells."""
        worker = self._slots[name].worker
        return partitions_read(worker.text()) if worker is not None and self._runs(name) else ()

    def wait_ready(self, partitions: int, seconds: float = 90.0) -> None:
        """Block until the slots read so many partitions together, and each of them some."""
        deadline = time.monotonic() + seconds
        while not shared([self.partitions(name) for name in self.names], partitions):
            if time.monotonic() > deadline:
                logs = "\n".join(worker.text()[-1500:] for name in self.names if (worker := self.worker(name)))
                raise TimeoutError(
                    f"the slots do not read all of {partitions} partitions after {seconds:.0f} s:\n{logs}"
                )
            time.sleep(0.1)

    def close(self, seconds: float = 40.0) -> None:
        """End all slots with SIGTERM."""
        self._halt.set()
        self._thread.join()
        with self._changing:
            for slot in self._slots.values():
                if slot.worker is not None and slot.worker.process.poll() is None:
                    slot.worker.process.send_signal(signal.SIGCONT)
            self._end(list(self._slots.values()), seconds)

    def kill_all(self) -> None:
        """Leave nothing behind."""
        self._halt.set()
        for slot in self._slots.values():
            for worker in slot.lives:
                if worker.process.poll() is None:
                    worker.kill()

    # ---- keeping them up

    def _end(self, slots: Sequence[Slot], seconds: float = 40.0) -> None:
        running = [slot for slot in slots if slot.worker is not None and slot.worker.process.poll() is None]
        for slot in running:
            assert slot.worker is not None
            slot.worker.process.send_signal(signal.SIGTERM)
        for slot in running:
            self._await_end(slot, seconds)

    def _await_end(self, slot: Slot, seconds: float) -> int | None:
        """Wait for the end of a slot's process after SIGTERM; note what was wrong with it."""
        assert slot.worker is not None
        try:
            status = slot.worker.stop(seconds)
        except AssertionError:
            self.exits.append(f"slot {slot.name} did not end within {seconds:.0f} s of SIGTERM")
            return None
        too_young = status == -signal.SIGTERM and not slot.worker.text()  # Python itself had hardly begun
        if status and not too_young:
            self.exits.append(f"slot {slot.name} ended with status {status} after SIGTERM: {_last_line(slot)}")
        return status

    def _watch(self) -> None:
        while not self._halt.wait(LOOK_SECONDS):
            with self._changing:
                for slot in list(self._slots.values()):
                    self._keep(slot)

    def _keep(self, slot: Slot) -> None:
        if slot.worker is not None and slot.worker.process.poll() is None:
            return
        if slot.worker is not None and not slot.expected:
            self.exits.append(
                f"slot {slot.name} ended with status {slot.worker.process.returncode}: {_last_line(slot)}"
            )
            slot.again, slot.expected = _later(CRASH_SECONDS), True
        if time.monotonic() >= slot.again:
            slot.worker = self._start(slot.name)
            slot.lives.append(slot.worker)
            self.lives += 1
            slot.expected = False

    def sample(self) -> None:
        """Note what the slots' processes use, now and then."""
        if time.monotonic() - self._sampled < SAMPLE_SECONDS:
            return
        self._sampled = time.monotonic()
        for slot in list(self._slots.values()):
            if slot.worker is not None and slot.worker.process.poll() is None:
                sample = sample_of(slot.worker.process.pid)
                if sample is not None:
                    self.samples.append(sample)


def shared(parts: Sequence[Sequence[int]], partitions: int) -> bool:
    """Say whether the slots read each partition once and none of them is left without."""
    return all(parts) and sorted(p for part in parts for p in part) == list(range(partitions))


def partitions_read(log: str) -> tuple[int, ...]:
    """Return the partitions that a worker with this log reads."""
    mine: set[int] = set()
    for what, numbers in re.findall(r"(reads|gave back) partitions \[([\d, ]*)\]", log):
        named = {int(number) for number in numbers.split(",") if number.strip()}
        mine = named if what == "reads" else mine - named
    return tuple(sorted(mine))


def sample_of(pid: int) -> Sample | None:
    """Return what a process uses now, None when it is gone."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        files = len(os.listdir(f"/proc/{pid}/fd"))
    except OSError:
        return None
    if not pages:  # it ended and is not waited for yet
        return None
    return Sample(time.time(), pid, pages * os.sysconf("SC_PAGE_SIZE") / (1 << 20), files)


def growth(samples: Sequence[Sample]) -> Grown:
    """Return how the process that lived longest grew. The first third of its life is warm-up."""
    by_process: dict[int, list[Sample]] = {}
    for sample in samples:
        by_process.setdefault(sample.pid, []).append(sample)
    if not by_process:
        return Grown()
    longest = max(by_process.values(), key=len)
    third = max(1, len(longest) // 3)
    before, after = longest[third : 2 * third] or longest, longest[-third:]
    return Grown(
        longest[-1].at - longest[0].at,
        median(s.rss_mib for s in before),
        median(s.rss_mib for s in after),
        median(s.files for s in after) - median(s.files for s in before),
    )


def _later(seconds: float | None) -> float:
    return NEVER if seconds is None else time.monotonic() + seconds


def _last_line(slot: Slot) -> str:
    lines = slot.worker.text().strip().splitlines() if slot.worker is not None else []
    return lines[-1] if lines else "its log is empty"
