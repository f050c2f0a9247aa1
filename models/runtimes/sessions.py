"""Models of a hierarchy in bounded memory: loaded when they are needed, let go when others need the room."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from models.graph import Examined
from models.programs import Program
from models.runtimes.base import Counts
from models.runtimes.session import open_session
from models.sharing import program_of

MEMORY = 1 << 30
# Measured with onnxruntime 1.31 on Linux, x86-64: resident memory of sessions opened with `many`, after a run.
SESSION_BYTES = 96 << 10  # 75 KiB, of a model of 262 bytes
PER_BYTE = 2  # 1.5 to 2.0 of perceptrons of 25 kB to 1.5 MB: weights, and the weights packed for the kernel
PER_BYTE_OF_TREES = 7  # 4 to 6.5 of trees of 3 kB to 225 kB: attributes stay beside the nodes that are made of them
TREES = ("TreeEnsemble", "SVM")
WEIGHTS_BYTES = 2 << 10  # that weights in a shared graph take beside their own, as objects of Python


def estimate(examined: Examined) -> int:
    """The bytes that a session of a model takes, about; rather too many than too few."""
    of_trees = any(operator.startswith(TREES) for operator in examined.summary.operators)
    return SESSION_BYTES + examined.summary.bytes * (PER_BYTE_OF_TREES if of_trees else PER_BYTE)


@dataclass(slots=True)
class Session:
    """A loaded graph. size: what it takes, about; users: loaded models that run on it."""

    handle: Any
    size: int
    users: int = 0


@dataclass(frozen=True, slots=True)
class Loaded:
    """A loaded model. size: what it takes, about, without a graph that it shares."""

    program: Program
    session: Session
    size: int


class Sessions:
    """Numbered models, of which the least recently used ones leave when memory is short.

    read: gives the examined model of a number. memory: estimated bytes of all models together; one is always kept,
    even if it takes more. One thread at a time asks for models; any may read the counts.
    """

    def __init__(self, read: Callable[[int], Examined], memory: int, threads: int) -> None:
        self._read, self._memory, self._threads = read, memory, threads
        self._held: OrderedDict[int, Loaded] = OrderedDict()
        self._shared: dict[str, Session] = {}
        self._made = self._evicted = self._bytes = 0

    def __contains__(self, number: object) -> bool:
        return number in self._held

    def get(self, number: int) -> Loaded:
        """Return a model, loaded. Raises what reading it raises, or what onnxruntime raises."""
        found = self._held.get(number)
        if found is not None:
            self._held.move_to_end(number)
            return found
        examined = self._read(number)
        program = program_of(examined)
        size = program.size + WEIGHTS_BYTES if program.shared else estimate(examined)
        graph = SESSION_BYTES if program.shared and program.key not in self._shared else 0
        while self._held and self._bytes + size + graph > self._memory:
            self._evict()
        loaded = Loaded(program, self._session(program), size)
        loaded.session.users += 1
        self._held[number] = loaded
        self._made, self._bytes = self._made + 1, self._bytes + size
        return loaded

    def counts(self) -> Counts:
        return Counts(self._made, self._evicted, len(self._held), self._bytes)

    def close(self) -> None:
        """Let go of all models."""
        self._held.clear()
        self._shared.clear()
        self._bytes = 0

    def _session(self, program: Program) -> Session:
        if not program.shared:
            return Session(open_session(program.graph, self._threads, many=True), 0)
        session = self._shared.get(program.key)
        if session is None:
            session = Session(open_session(program.graph, self._threads, many=True), SESSION_BYTES)
            self._shared[program.key] = session
            self._bytes += session.size
        return session

    def _evict(self) -> None:
        _, loaded = self._held.popitem(last=False)
        loaded.session.users -= 1
        self._evicted, self._bytes = self._evicted + 1, self._bytes - loaded.size
        if loaded.program.shared and not loaded.session.users:
            self._bytes -= self._shared.pop(loaded.program.key).size
