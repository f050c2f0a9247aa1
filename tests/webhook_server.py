"""A webhook on loopback that answers as it is told, and remembers what it was sent."""

from __future__ import annotations

import contextlib
import itertools
import ssl
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Behaviour = int | str | tuple[int, Mapping[str, str]]


@dataclass(frozen=True)
class Received:
    """One request: its headers with small letters, its body, and what was answered."""

    headers: Mapping[str, str]
    body: bytes
    answer: Behaviour

    @property
    def key(self) -> str:
        return self.headers["idempotency-key"]


class Receiver:
    """Takes one of `behaviours` for each request, and `otherwise` after them.

    A behaviour is a status, a status with headers, `hang` (no answer), `trickle` (a byte of it now and then), `drip` (a
    status, then a byte of the body now and then) or `reset`.
    """

    def __init__(self, *behaviours: Behaviour, otherwise: Behaviour = 200, tls: ssl.SSLContext | None = None) -> None:
        self._behaviours, self._otherwise = list(behaviours), otherwise
        self._lock, self._closed = threading.Lock(), threading.Event()
        self.received: list[Received] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                receiver._handle(self)

            def do_GET(self) -> None:
                receiver._handle(self)

            def log_message(self, format: str, *args: object) -> None:
                """Requests are not news."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.block_on_close = False
        self._scheme = "http" if tls is None else "https"
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True, do_handshake_on_connect=False)
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    @property
    def url(self) -> str:
        return f"{self._scheme}://127.0.0.1:{self._server.server_address[1]}/hook"

    @property
    def taken(self) -> list[Received]:
        """What was answered with success."""
        return [each for each in self.received if each.answer == 200]

    def wait_for(self, count: int, seconds: float = 60, *, taken: bool = True) -> None:
        """Block until so many requests came."""
        deadline = time.monotonic() + seconds
        while len(self.taken if taken else self.received) < count:
            assert time.monotonic() < deadline, f"{len(self.received)} requests, {len(self.taken)} of {count} taken"
            time.sleep(0.02)

    def close(self) -> None:
        self._closed.set()
        self._server.shutdown()
        self._server.server_close()

    def __enter__(self) -> Receiver:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _handle(self, request: BaseHTTPRequestHandler) -> None:
        body = request.rfile.read(int(request.headers.get("Content-Length", 0)))
        with self._lock:
            behaviour = self._behaviours.pop(0) if self._behaviours else self._otherwise
            headers = {name.lower(): value for name, value in request.headers.items()}
            self.received.append(Received(headers, body, behaviour))
        request.close_connection = True
        with contextlib.suppress(OSError):  # the other side gave up, which is what some tests are about
            self._answer(request, behaviour)

    def _answer(self, request: BaseHTTPRequestHandler, behaviour: Behaviour) -> None:
        if behaviour == "hang":
            self._closed.wait(60)
        elif behaviour in ("trickle", "drip"):
            if behaviour == "drip":
                request.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 400\r\n\r\n")
            for letter in b"HTTP/1.1 200 OK" + b"-" * 400:
                request.wfile.write(bytes([letter]))
                request.wfile.flush()
                if self._closed.wait(0.05):
                    return
        elif isinstance(behaviour, int | tuple):
            status, headers = behaviour if isinstance(behaviour, tuple) else (behaviour, {})
            request.send_response(status)
            for name, value in {"Content-Length": "5", **headers}.items():
                request.send_header(name, value)
            request.end_headers()
            request.wfile.write(b"said\n")


def account(received: Sequence[Any], expected: Sequence[str]) -> dict[str, int]:
    """What went wrong with keys that should have come once or more, first each in the order of `expected`.

    lost: never came. disordered: came first behind one that belongs behind it. unknown: not expected.
    altered: came again with another body. repeated: came again, which is allowed.
    """
    bodies: dict[str, bytes] = {}
    altered = repeated = 0
    for each in received:
        repeated += each.key in bodies
        altered += bodies.setdefault(each.key, each.body) != each.body
    places = [expected.index(key) for key in bodies if key in expected]
    return {
        "lost": len(set(expected) - bodies.keys()),
        "disordered": sum(one > other for one, other in itertools.pairwise(places)),
        "unknown": len(bodies.keys() - set(expected)),
        "altered": altered,
        "repeated": repeated,
    }
