"""Fixtures that many tests share: a real Kafka and fresh topics on it."""

from __future__ import annotations

import gc
import os
import re
import secrets
import sys
import threading
from collections.abc import Callable, Iterator

import pytest

TopicFactory = Callable[..., str]


@pytest.fixture(scope="module", autouse=True)
def _nothing_left_open() -> Iterator[None]:
    """Collect what a module left: an unclosed file or socket must fail the module that forgot it, not a later one."""
    yield
    gc.collect()


@pytest.fixture
def unmeasured(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No coverage meanwhile, nor in children: under load tracing is half of the work, and other tests run the lines."""
    monkeypatch.delenv("COVERAGE_PROCESS_CONFIG", raising=False)
    here, threads = sys.gettrace(), threading.gettrace()
    sys.settrace(None)
    threading.settrace(None)  # type: ignore[arg-type]
    yield
    sys.settrace(here)
    threading.settrace(threads)  # type: ignore[arg-type]


@pytest.fixture(scope="session")
def bootstrap_servers() -> Iterator[str]:
    """The address of a real Kafka: PENSTOCK_BOOTSTRAP_SERVERS, else an embedded one for this session."""
    given = os.environ.get("PENSTOCK_BOOTSTRAP_SERVERS")
    if given:
        yield given
        return
    from penstock.embedded import EmbeddedKafka

    with EmbeddedKafka() as kafka:
        yield kafka.bootstrap_servers


@pytest.fixture
def topic(bootstrap_servers: str, request: pytest.FixtureRequest) -> Iterator[TopicFactory]:
    """A factory of fresh topics: `topic(partitions=4, name="events", **config)` returns the topic's whole name."""
    from confluent_kafka.admin import AdminClient
    from confluent_kafka.cimpl import NewTopic

    admin = AdminClient({"bootstrap.servers": bootstrap_servers})
    created: list[str] = []

    def create(partitions: int = 1, name: str = "topic", **config: str) -> str:
        test = re.sub(r"[^a-z0-9]+", "-", request.node.name.lower())[:60].strip("-")
        whole = f"{test}.{name}.{secrets.token_hex(4)}"
        settings = {key.replace("_", "."): value for key, value in config.items()}
        for made in admin.create_topics([NewTopic(whole, partitions, 1, config=settings)]).values():
            made.result()
        created.append(whole)
        return whole

    yield create
    if created:
        for deleted in admin.delete_topics(created).values():
            deleted.result()
