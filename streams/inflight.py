"""What a worker scores at the moment, in a small file that outlives it: after a crash it names the events.

Written with one call a batch and never flushed: it has to survive the process, not the machine.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import orjson

from streams.offsets import OffsetRange, Spans, ranges_of

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Trace:
    """What a process left. joined: it had become a member of its group; spans: the events that it was scoring.

    process: its id, 0 where it is not known.
    """

    topic: str = ""
    joined: bool = False
    spans: Spans = field(default_factory=dict)
    process: int = 0

    @property
    def ranges(self) -> list[OffsetRange]:
        return ranges_of(self.topic, self.spans)


def marker_path(folder: Path, slot_id: str) -> Path:
    """Return where a slot keeps its marker, in the folder of the slots."""
    return folder / f"{slot_id}.inflight"


def read(path: Path, process: int | None = None) -> Trace:
    """Return what the last process of a slot left; an empty trace where there is none or it cannot be read.

    process: the id of the one that is asked about, any when None. What another one left is no trace of it.
    """
    try:
        found = json.loads(path.read_bytes().partition(b"\n")[0])
        spans = {int(p): (int(first), int(past)) for p, first, past in found["scoring"]}
        trace = Trace(str(found["topic"]), bool(found["joined"]), spans, int(found["process"]))
    except (OSError, ValueError, KeyError, TypeError):
        return Trace()
    return trace if process in (None, trace.process) else Trace()


class Marker:
    """Notes what is being scored. A disk that is full or cannot be written is said once and stops nothing."""

    def __init__(self, path: Path, topic: str) -> None:
        self._topic, self._joined, self._process = topic, False, os.getpid()
        self._file: int | None = None
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
        except OSError as error:
            self._lose(error)
        self._write([])

    def joined(self) -> None:
        """Note that this process became a member of its group."""
        if not self._joined:
            self._joined = True
            self._write([])

    def scoring(self, firsts: Mapping[int, int], positions: Mapping[int, int]) -> None:
        """Note a batch before it is scored. firsts: its first offset per partition; positions: the next behind it."""
        self._joined = True
        self._write([(partition, first, positions[partition]) for partition, first in firsts.items()])

    def scored(self) -> None:
        """Note that nothing is being scored."""
        self._write([])

    def close(self) -> None:
        """Let the file go; it stays."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _write(self, scoring: list[tuple[int, int, int]]) -> None:
        if self._file is None:
            return
        said = {"process": self._process, "topic": self._topic, "joined": self._joined, "scoring": scoring}
        line = orjson.dumps(said) + b"\n"
        try:  # what an older, longer line left behind the new one's end is not read
            os.pwrite(self._file, line, 0)
        except OSError as error:
            self.close()
            self._lose(error)

    def _lose(self, error: OSError) -> None:
        log.warning("what is being scored is not noted (%s): after a crash nobody can name the events", error)
