"""The embedded broker without a broker: what its start leaves in the data folder when a port is lost on the way."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from penstock import embedded, readiness
from penstock.embedded import ATTEMPTS, EmbeddedKafka
from penstock.errors import BrokerFailed


class Broker:
    """A Java program that says that its port is taken, and is killed for it."""

    pids = itertools.count(4711)

    def __init__(self, arguments: list[str], log: Path, **_: Any) -> None:
        self.pid = next(self.pids)
        log.write_text("java.net.BindException: Address already in use")

    def poll(self) -> int | None:
        return None

    def kill(self) -> None:
        """Gone."""


class Unlucky(EmbeddedKafka):
    """Loses its port this many times."""

    def __init__(self, data: Path, lost: int) -> None:
        super().__init__(data, jvm_options=[])
        self._lost = lost

    def _format(self, *_: Any) -> None:
        """Nothing to format."""

    def _wait_until_ready(self, servers: str, alive: Callable[[], bool]) -> None:
        if self._lost:
            self._lost -= 1
            raise readiness.Ended("the broker ended before it was ready")


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[int], str]:
    """Start a broker that loses its port so many times, and return what the lock file says of it."""
    monkeypatch.setattr(embedded.maven, "fetch", lambda lock: [])
    monkeypatch.setattr(embedded.jvm, "JavaProcess", Broker)
    monkeypatch.setattr(Broker, "pids", itertools.count(4711))

    def start(lost: int) -> str:
        Unlucky(tmp_path, lost).start()
        return (tmp_path / "lock").read_text()

    return start


def test_the_lock_names_the_broker_that_runs_and_none_that_lost_its_port(started: Callable[[int], str]) -> None:
    assert started(0) == "4711"
    assert started(2) == "4714"  # not 471247134714


def test_a_broker_that_loses_its_port_every_time_says_so(started: Callable[[int], str]) -> None:
    with pytest.raises(BrokerFailed, match="another program took port"):
        started(ATTEMPTS)
