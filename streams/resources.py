"""What a worker takes of its machine: shares of CPU, memory and GPU, bytes of disk and network a second.

Read from the kernel's files and NVIDIA's library where they are there; what is not known is left out.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path

from schemas.deployment import Quotas
from streams.gpus import Gpus

RATE_SECONDS = 5.0  # over which rates are taken: autoscaling must see a rise soon
LOOPBACK = "lo"
UNLIMITED = 1 << 60  # cgroups of version 1 say a number like this for no limit
RATES = ("disk_read", "disk_written", "received", "sent")


class Rates:
    """How much counters grow a second, over the last RATE_SECONDS. clock: seconds of any origin."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._samples: deque[tuple[float, Mapping[str, float]]] = deque(maxlen=64)

    def __call__(self, counted: Mapping[str, float]) -> dict[str, float]:
        """Return the rate of each that was counted before, too; from any thread. counted: what they are now."""
        now = self._clock()
        self._samples.append((now, counted))
        began, before = next(each for each in tuple(self._samples) if each[0] >= now - RATE_SECONDS)
        if now <= began:
            return {}
        return {name: (counted[name] - before[name]) / (now - began) for name in counted if name in before}


class Resources:
    """Of this process. proc, cgroup: where the kernel's files are. clock: seconds of any origin."""

    def __init__(
        self,
        proc: Path = Path("/proc"),
        cgroup: Path = Path("/sys/fs/cgroup"),
        clock: Callable[[], float] = time.monotonic,
        gpus: Callable[[], Mapping[str, float]] | None = None,
    ) -> None:
        self._proc, self._rates, self._gpus = proc, Rates(clock), gpus or Gpus()
        self._cores, self._memory = cores(cgroup), memory_bytes(proc, cgroup)

    def __call__(self, used: float | None, resident: int | None, quotas: Quotas) -> dict[str, float]:
        """Return what is known of now; from any thread.

        used: cores that the process uses. resident: its bytes. Of both the share of the quota, or else of the machine.
        """
        found: dict[str, float] = {}
        memory = self._memory if quotas.memory is None else quotas.memory
        if used is not None:
            found["cpu"] = used / (self._cores if quotas.cpu is None else quotas.cpu)
        if resident is not None and memory is not None:
            found["memory"] = resident / memory
        rates = self._rates({**disk_bytes(self._proc), **network_bytes(self._proc)})
        return {**found, **rates, **self._gpus()}


def disk_bytes(proc: Path) -> dict[str, int]:
    """Return the bytes that this process had read from and written to disks; nothing where it is not told."""
    names = {"read_bytes": "disk_read", "write_bytes": "disk_written"}
    fields = (line.partition(":") for line in _lines(proc / "self" / "io"))
    return {names[name]: int(value) for name, _, value in fields if name in names}


def network_bytes(proc: Path) -> dict[str, int]:
    """Return the bytes that came and went over all interfaces but loopback, of the machine or container."""
    rows = [(name.strip(), rest.split()) for name, colon, rest in map(_split, _lines(proc / "self/net/dev")) if colon]
    others = [numbers for name, numbers in rows if name != LOOPBACK and len(numbers) >= 9]
    if not others:
        return {}
    return {"received": sum(int(each[0]) for each in others), "sent": sum(int(each[8]) for each in others)}


def cores(cgroup: Path) -> float:
    """Return the cores that this process may use: those of the machine, or of its control group where it has fewer."""
    there = float(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    quota, _, period = (_line(cgroup / "cpu.max") or "").partition(" ")
    if not period:
        quota = _line(cgroup / "cpu/cpu.cfs_quota_us") or ""
        period = _line(cgroup / "cpu/cpu.cfs_period_us") or ""
    if quota.isdigit() and period.isdigit() and int(period) > 0:
        return min(there, int(quota) / int(period))
    return there


def memory_bytes(proc: Path, cgroup: Path) -> int | None:
    """Return the memory that this process may have, of the machine or its control group; None where it is not told."""
    total = next((line.split()[1] for line in _lines(proc / "meminfo") if line.startswith("MemTotal:")), "")
    limit = _line(cgroup / "memory.max") or _line(cgroup / "memory/memory.limit_in_bytes") or ""
    found = [int(total) * 1024] if total.isdigit() else []
    if limit.isdigit() and int(limit) < UNLIMITED:
        found.append(int(limit))
    return min(found, default=None)


def _split(line: str) -> tuple[str, str, str]:
    return line.partition(":")


def _line(path: Path) -> str | None:
    return next(iter(_lines(path)), None)


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return []
