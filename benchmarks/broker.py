"""The broker that benchmarks run on when none is given: embedded, with a heap that a benchmark does not fill."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from penstock.embedded import EmbeddedKafka


@contextmanager
def embedded() -> Iterator[str]:
    with EmbeddedKafka(heap_mb=1024) as kafka:
        yield kafka.bootstrap_servers
