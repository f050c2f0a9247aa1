"""Holds a process to some cores of the machine. Linux only."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress


def threads(pid: int) -> list[int]:
    """Return the threads of a process."""
    return [int(name) for name in os.listdir(f"/proc/{pid}/task")]


def pin(pid: int, cores: Collection[int]) -> None:
    """Let every thread of a process, and those that it makes from now on, run on these cores only."""
    for _ in range(2):  # a thread that was not held yet may have made another meanwhile
        for thread in threads(pid):
            with suppress(ProcessLookupError):  # it ended
                os.sched_setaffinity(thread, cores)


@contextmanager
def pinned(pid: int, cores: Collection[int]) -> Iterator[None]:
    """Hold a process to these cores within a `with`; afterwards each thread may run where it might before."""
    usual = os.sched_getaffinity(pid)
    before = {thread: os.sched_getaffinity(thread) for thread in threads(pid)}
    pin(pid, cores)
    try:
        yield
    finally:
        pin(pid, usual)  # those that were made meanwhile
        for thread, allowed in before.items():
            with suppress(ProcessLookupError):
                os.sched_setaffinity(thread, allowed)
