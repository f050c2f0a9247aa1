"""Fixtures of the tests against real servers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from streams import control
from tests.integration.apicurio import Apicurio
from tests.integration.desk import Desk
from tests.integration.events_stand import Stand
from tests.integration.planes import a_plane
from tests.rig import Rig


@pytest.fixture(scope="session")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Apicurio]:
    """A running schema registry; a test that stops it starts it again."""
    server = Apicurio(tmp_path_factory.mktemp("apicurio"))
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def registry_url(registry: Apicurio) -> str:
    """The address of the registry's Confluent API."""
    return registry.url


@pytest.fixture
def rig(bootstrap_servers: str, tmp_path: Path, topic: Callable[..., str]) -> Iterator[Callable[..., Rig]]:
    """A factory of rigs, given what differs from the plain declaration; their workers end with the test."""
    made: list[Rig] = []

    def make(**declared: Any) -> Rig:
        made.append(Rig(bootstrap_servers, tmp_path, topic, **declared))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.fixture
def stand(bootstrap_servers: str, tmp_path: Path, topic: Callable[..., str]) -> Iterator[Stand]:
    """An audit, the topic of its events, and `penstock events`; its processes end with the test."""
    made = Stand(bootstrap_servers, tmp_path, topic)
    yield made
    made.close()


@pytest.fixture
def desk(
    rig: Callable[..., Rig], bootstrap_servers: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Desk]:
    """Where a person types who changes control."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PENSTOCK_BOOTSTRAP_SERVERS", bootstrap_servers)
    monkeypatch.setenv("PENSTOCK_REPOSITORY", str(tmp_path / "models"))
    monkeypatch.setenv("LOGNAME", "ada")
    with a_plane(bootstrap_servers) as plane:
        monkeypatch.setattr(control, "TOPICS", plane.topics)
        yield Desk(rig(), plane)
