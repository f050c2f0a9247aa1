"""The registry source against a stub that answers as registries (and other servers) do."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any, ClassVar

import pytest

from schemas.errors import SchemaError, SchemaRefused, SourceUnavailable, UnknownSchema
from schemas.sources import SchemaRegistry

SCHEMA = {"type": "record", "name": "Event", "fields": [{"name": "x", "type": "double"}]}


class Stub(BaseHTTPRequestHandler):
    """Answers GET /schemas/ids/N from `answers`; the protocol's "not found" for the rest."""

    answers: ClassVar[dict[str, tuple[int, bytes]]] = {}
    asked: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        self.asked.append(path)
        status, body = self.answers.get(path, (404, b'{"error_code": 40403, "message": "Schema not found"}'))
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def url() -> Iterator[str]:
    Stub.answers, Stub.asked = {}, []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Stub)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def answer(schema_id: int, status: int = 200, **body: Any) -> None:
    Stub.answers[f"/schemas/ids/{schema_id}"] = (status, json.dumps(body).encode())


def test_a_schema_is_fetched_once(url: str) -> None:
    answer(7, schema=json.dumps(SCHEMA))
    registry = SchemaRegistry(url)
    assert registry.by_id(7) == registry.by_id(7) == SCHEMA
    assert Stub.asked == ["/schemas/ids/7"]


def test_settings_are_taken_as_a_mapping_too(url: str) -> None:
    answer(7, schema=json.dumps(SCHEMA))
    assert SchemaRegistry({"url": url, "timeout": 2.0}).by_id(7) == SCHEMA


def test_an_id_that_the_registry_does_not_know_is_unknown_and_remembered_for_a_while(url: str) -> None:
    registry = SchemaRegistry(url, forget=30.0)
    for _ in range(3):
        with pytest.raises(UnknownSchema, match=r"schema id 9 of http://127.0.0.1:\d+: the registry does not know it"):
            registry.by_id(9)
    assert len(Stub.asked) == 1


def test_an_id_that_was_unknown_is_asked_for_again(url: str) -> None:
    registry = SchemaRegistry(url, forget=-1.0)
    with pytest.raises(UnknownSchema):
        registry.by_id(9)
    answer(9, schema=json.dumps(SCHEMA))
    assert registry.by_id(9) == SCHEMA


@pytest.mark.parametrize("schema_id", [1 << 31, (1 << 32) - 1, -1])
def test_an_id_that_no_registry_gives_is_not_asked_for(url: str, schema_id: int) -> None:
    with pytest.raises(UnknownSchema, match="damaged"):
        SchemaRegistry(url).by_id(schema_id)
    assert Stub.asked == []


@pytest.mark.parametrize("status", [400, 422])
def test_an_id_that_the_registry_calls_invalid_is_unknown_and_holds_nothing_up(url: str, status: int) -> None:
    answer(0, status, error_code=status, message="invalid id")
    with pytest.raises(UnknownSchema, match="invalid id"):
        SchemaRegistry(url).by_id(0)


@pytest.mark.parametrize(
    ("status", "body", "says"),
    [
        (500, b'{"error_code": 50001, "message": "store broken"}', "status 500: store broken"),
        (503, b"<html>maintenance</html>", "status 503"),
        (401, b'{"error_code": 40101, "message": "who?"}', "refuses the credentials"),
        (403, b"", "refuses the credentials"),
        (404, b"<html>no such page</html>", "check the path"),
        (429, b"{}", "status 429"),
        (200, b"<html>a proxy</html>", "does not answer"),
        (200, b"[]", "does not answer"),
    ],
)
def test_what_is_no_answer_about_the_schema_makes_the_batch_wait(url: str, status: int, body: bytes, says: str) -> None:
    Stub.answers["/schemas/ids/7"] = (status, body)
    registry = SchemaRegistry(url)
    with pytest.raises(SourceUnavailable, match="events wait and are tried again, nothing is lost") as caught:
        registry.by_id(7)
    assert url in str(caught.value)
    assert says in str(caught.value)
    answer(7, schema=json.dumps(SCHEMA))  # and is not remembered
    assert registry.by_id(7) == SCHEMA


def test_a_registry_that_is_down_makes_the_batch_wait() -> None:
    with pytest.raises(SourceUnavailable, match=r"http://127.0.0.1:1 does not answer \(ConnectError"):
        SchemaRegistry("http://127.0.0.1:1").by_id(7)


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({"schema": "syntax = 'proto3';", "schemaType": "PROTOBUF"}, "is PROTOBUF, not AVRO"),
        (
            {"schema": json.dumps(SCHEMA), "references": [{"name": "A", "subject": "a", "version": 1}]},
            "refers to other subjects",
        ),
        ({"schema": '"string"'}, "an event's schema is a record"),
        ({"schema": "{"}, "not a schema in JSON"),
        ({"schema": json.dumps(SCHEMA | {"doc": "x" * (1 << 20)})}, "the limit is 1048576"),
    ],
)
def test_what_is_no_avro_record_is_refused_and_remembered(url: str, body: dict[str, Any], says: str) -> None:
    answer(7, **body)
    registry = SchemaRegistry(url)
    for _ in range(2):
        with pytest.raises(SchemaRefused, match=says):
            registry.by_id(7)
    assert len(Stub.asked) == 1


def test_a_password_in_the_url_stays_out_of_errors() -> None:
    with pytest.raises(SourceUnavailable) as caught:
        SchemaRegistry("http://me:secret@127.0.0.1:1").by_id(7)
    assert "secret" not in str(caught.value)
    assert "http://127.0.0.1:1" in str(caught.value)


@pytest.mark.parametrize(
    "settings",
    ["not-an-address", {"basic.auth.user.info": "a:b"}, {"url": "http://127.0.0.1:1", "timeuot": 3}],
)
def test_wrong_settings_are_an_error_at_once(settings: Any) -> None:
    with pytest.raises(SchemaError, match="cannot be used") as caught:
        SchemaRegistry(settings)
    assert not isinstance(caught.value, SourceUnavailable)


def test_the_registry_finds_no_fingerprints() -> None:
    with pytest.raises(UnknownSchema, match="knows ids"):
        SchemaRegistry("http://127.0.0.1:1").by_fingerprint("00" * 8)


def test_without_the_extra_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "confluent_kafka.schema_registry", None)
    with pytest.raises(SchemaError, match=r"pip install 'penstock\[registry\]'"):
        SchemaRegistry("http://127.0.0.1:1")


def test_importing_the_sources_loads_nothing_heavy() -> None:
    heavy = ["polars", "numpy", "pydantic", "httpx", "authlib"]
    program = f"import sys, schemas.sources; sys.exit(', '.join(m for m in {heavy} if m in sys.modules) or 0)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
