"""Sessions of many models in bounded memory: made when they are needed, let go when others need the room."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from models.graph import Examined
from models.runtimes.base import Counts
from models.runtimes.session import open_session

MEMORY = 1 << 30
# Measured with onnxruntime 1.31 on Linux, x86-64: resident memory of sessions opened with `many`, after a run.
SESSION_BYTES = 96 << 10  # 75 KiB, of a model of 262 bytes
PER_BYTE = 2  # 1.5 to 2.0 of perceptrons of 25 kB to 1.5 MB: weights, and the weights packed for the kernel
PER_BYTE_OF_TREES = 7  # 4 to 6.5 of trees of 3 kB to 225 kB: attributes stay beside the nodes that are made of them
TREES = ("TreeEnsemble", "SVM")


def estimate(examined: Examined) -> int:
    """The bytes that a session of a model takes, about; rather too many than too few."""
    of_trees = any(operator.startswith(TREES) for operator in examined.summary.operators)
    return SESSION_BYTES + examined.summary.bytes * (PER_BYTE_OF_TREES if of_trees else PER_BYTE)


class Sessions:
    """The sessions of numbered models, of which the least recently used ones leave when memory is short.

    read: gives the examined model of a number. memory: estimated bytes of all sessions together; one is always kept,
    even if it takes more. One thread at a time asks for sessions; any may read the counts.
    """

    def __init__(self, read: Callable[[int], Examined], memory: int, threads: int) -> None:
        self._read, self._memory, self._threads = read, memory, threads
        self._held: OrderedDict[int, tuple[Any, int]] = OrderedDict()
        self._made = self._evicted = self._bytes = 0

    def __contains__(self, number: object) -> bool:
        return number in self._held

    def get(self, number: int) -> Any:
        """Return the session of a model. Raises what reading it raises, or what onnxruntime raises."""
        found = self._held.get(number)
        if found is not None:
            self._held.move_to_end(number)
            return found[0]
        examined = self._read(number)
        size = estimate(examined)
        while self._held and self._bytes + size > self._memory:
            self._evict()
        session = open_session(examined.model, self._threads, many=True)
        self._held[number] = session, size
        self._made, self._bytes = self._made + 1, self._bytes + size
        return session

    def counts(self) -> Counts:
        return Counts(self._made, self._evicted, len(self._held), self._bytes)

    def close(self) -> None:
        """Let go of all sessions."""
        self._held.clear()
        self._bytes = 0

    def _evict(self) -> None:
        _, (_, size) = self._held.popitem(last=False)
        self._evicted, self._bytes = self._evicted + 1, self._bytes - size
