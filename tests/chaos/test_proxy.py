"""The proxy on loopback: what each kind of weather does to what two programs say to each other."""

from __future__ import annotations

import contextlib
import socket
import socketserver
import threading
import time
from collections.abc import Iterator

import pytest

from penstock.datafolder import free_port
from tests.chaos.proxy import Proxy, ProxyLoop


class Echo(socketserver.BaseRequestHandler):
    """Sends back what it gets."""

    def handle(self) -> None:
        with contextlib.suppress(OSError):
            while data := self.request.recv(65_536):
                self.request.sendall(data)


class Server(socketserver.ThreadingTCPServer):
    daemon_threads = True


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    loop = ProxyLoop()
    with Server(("127.0.0.1", 0), Echo) as echo:
        serving = threading.Thread(target=echo.serve_forever, args=(0.05,))
        serving.start()
        made = Proxy(loop, free_port(), echo.server_address[1])
        made.open()
        yield made
        made.close()
        loop.close()
        echo.shutdown()
        serving.join()


@pytest.fixture
def client(proxy: Proxy) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=5) as connection:
        assert said(connection) == b"ping"
        yield connection


def said(connection: socket.socket, text: bytes = b"ping") -> bytes:
    """Return what comes back, empty when the connection ends."""
    connection.sendall(text)
    found = b""
    while len(found) < len(text):
        part = connection.recv(65_536)
        if not part:
            return b""
        found += part
    return found


def test_what_is_delayed_takes_so_much_longer_both_ways(proxy: Proxy, client: socket.socket) -> None:
    proxy.delay(0.5)
    began = time.monotonic()
    assert said(client) == b"ping"
    assert time.monotonic() - began >= 1
    proxy.clear()
    began = time.monotonic()
    assert said(client) == b"ping"
    assert time.monotonic() - began < 0.5


def test_what_is_throttled_comes_at_its_rate(proxy: Proxy, client: socket.socket) -> None:
    proxy.throttle(400_000)
    began = time.monotonic()
    text = b"x" * 200_000
    assert said(client, text) == text
    assert 0.3 < time.monotonic() - began < 5


@pytest.mark.parametrize("direction", ["up", "down", "both"])
def test_what_is_swallowed_never_comes_and_the_connection_stays_open(
    proxy: Proxy, client: socket.socket, direction: str
) -> None:
    proxy.blackhole(direction)
    client.settimeout(0.3)
    with pytest.raises(TimeoutError):
        said(client)
    proxy.clear()  # after a hole the connection is useless, and closed
    client.settimeout(5)
    assert not alive(client)
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=5) as again:
        assert said(again) == b"ping"


def test_what_is_cut_is_closed_and_refused_until_it_is_cleared(proxy: Proxy, client: socket.socket) -> None:
    proxy.cut()
    assert not alive(client)
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=5) as refused:
        assert not alive(refused)
    proxy.clear()
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=5) as again:
        assert said(again) == b"ping"


def alive(connection: socket.socket) -> bool:
    try:
        return said(connection) != b""
    except OSError:
        return False
