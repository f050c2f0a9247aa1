"""Fixtures of the tests against real servers."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.integration.apicurio import Apicurio


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
