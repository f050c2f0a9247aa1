"""One request to a webhook on loopback: what it sends, and that it ends whatever the other side does."""

from __future__ import annotations

import datetime
import ipaddress
import json
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from penstock.cloudevents import CONTENT_TYPE, Event
from penstock.posting import post
from penstock.webhooks import Answer, Webhook
from tests.webhook_server import Receiver

EVENT = Event("an-id", "io.penstock.model.noted", "flights", json.dumps({"text": "näh"}).encode())


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as server:
        yield server


def posted(server: Receiver, seconds: float = 10.0, **webhook: object) -> Answer:
    return post(Webhook(server.url, **webhook), EVENT, seconds, lambda: 1_000.9)  # type: ignore[arg-type]


def test_the_event_arrives_byte_for_byte_as_structured_json(receiver: Receiver) -> None:
    assert posted(receiver).verdict == "delivered"
    (request,) = receiver.received
    assert request.body == EVENT.value
    assert request.headers["content-type"] == CONTENT_TYPE
    assert request.headers["idempotency-key"] == "an-id"
    assert "webhook-signature" not in request.headers


def test_a_secret_signs_the_request_at_the_time_of_the_try(receiver: Receiver) -> None:
    posted(receiver, secrets=(bytes(32),))
    headers = receiver.received[0].headers
    assert (headers["webhook-id"], headers["webhook-timestamp"]) == ("an-id", "1000")
    assert headers["webhook-signature"].startswith("v1,")


@pytest.mark.parametrize("status", [204, 400, 404, 429, 500, 503])
def test_a_status_comes_back_as_it_is(status: int) -> None:
    with Receiver(status) as server:
        answer = posted(server)
    assert answer.status == status
    if status != 204:
        assert answer.said == f"status {status}: said"


def test_what_the_server_asks_for_comes_back() -> None:
    with Receiver((429, {"Retry-After": "3"})) as server:
        assert posted(server).wait == 3.0


def test_a_redirect_is_not_followed() -> None:
    with Receiver() as elsewhere, Receiver((307, {"Location": elsewhere.url})) as server:
        answer = posted(server)
        assert (answer.status, answer.verdict) == (307, "again")
        assert elsewhere.received == []


@pytest.mark.parametrize("behaviour", ["hang", "trickle"])
def test_a_request_ends_when_its_time_is_over_however_the_answer_comes(behaviour: str) -> None:
    with Receiver(behaviour) as server:
        answer = posted(server, 0.5)
    assert (answer.status, answer.said) == (None, "no answer within 0.5 s")
    assert answer.verdict == "again"


def test_a_body_that_trickles_does_not_undo_the_status_that_came() -> None:
    with Receiver("drip") as server:
        assert posted(server, 0.5).verdict == "delivered"


def test_a_connection_that_breaks_off_is_an_answer_to_try_again() -> None:
    with Receiver("reset") as server:
        answer = posted(server)
    assert answer.verdict == "again"
    assert "RemoteDisconnected" in answer.said


def test_a_server_that_is_away_and_a_name_that_is_none_are_answers_to_try_again() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    away = post(Webhook(f"http://127.0.0.1:{port}/"), EVENT, 5.0)
    assert (away.verdict, "refused" in away.said) == ("again", True)
    nowhere = post(Webhook("http://nothing.invalid/"), EVENT, 5.0)
    assert nowhere.verdict == "again"


def test_bytes_that_are_no_http_are_an_answer_to_try_again() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        import threading

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(65_536)
                connection.sendall(b"\x15\x03\x01\x00\x02\x02\x16\r\n\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        found = post(Webhook(f"http://127.0.0.1:{server.getsockname()[1]}/"), EVENT, 5.0)
        thread.join()
    assert found.verdict == "again"


# TLS


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A certificate of 127.0.0.1 that only those trust who are told to, with its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "webhook")])
    now = datetime.datetime.now(datetime.UTC)
    built = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    file = tmp_path / "webhook.pem"
    encoding = serialization.Encoding.PEM
    file.write_bytes(
        built.public_bytes(encoding)
        + key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return file


def tls(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


def test_https_delivers_to_whom_the_system_trusts(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    with Receiver(200, 503, tls=tls(certificate)) as server:
        assert posted(server).verdict == "delivered"
        assert posted(server).status == 503
        assert [each.body for each in server.received] == [EVENT.value] * 2


def test_https_sends_nothing_to_whom_the_system_does_not_trust(certificate: Path) -> None:
    with Receiver(tls=tls(certificate)) as server:
        answer = posted(server)
        assert (answer.verdict, server.received) == ("again", [])
    assert "CERTIFICATE_VERIFY_FAILED" in answer.said


@pytest.mark.parametrize("behaviour", ["hang", "trickle"])
def test_a_request_over_https_ends_when_its_time_is_over(
    certificate: Path, monkeypatch: pytest.MonkeyPatch, behaviour: str
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    with Receiver(behaviour, tls=tls(certificate)) as server:
        assert posted(server, 0.6).said == "no answer within 0.6 s"


def test_a_server_that_accepts_and_never_begins_tls_ends_the_request_in_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        answer = post(Webhook(f"https://127.0.0.1:{server.getsockname()[1]}/"), EVENT, 0.5)
    assert answer.said == "no answer within 0.5 s"
