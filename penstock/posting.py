"""One request to a webhook: urllib without redirects, ended when its time is over, however slowly it is answered."""

from __future__ import annotations

import contextlib
import http.client
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

from penstock.cloudevents import Event
from penstock.webhooks import Answer, Webhook, headers_of

SAID_BYTES = 500  # of the answer's body, for the log


def post(webhook: Webhook, event: Event, seconds: float, now: Callable[[], float] = time.time) -> Answer:
    """Post the event and return what came of it; see `send`."""
    return send(webhook.url, event.value, headers_of(event, webhook.secrets, int(now())), seconds, now)


def send(
    url: str, body: bytes, headers: Mapping[str, str], seconds: float, now: Callable[[], float] = time.time
) -> Answer:
    """Post a body and return what came of it; whatever goes wrong is an answer without a status.

    seconds: the limit for the whole request (each address of a host is tried for as long), answer included.
    """
    request = urllib.request.Request(url, body, dict(headers), method="POST")
    opened: list[socket.socket] = []
    with _ended_after(seconds, opened) as over:
        try:
            with _opener(opened).open(request, timeout=seconds) as response:
                if over.is_set():  # what came may be cut: half a head is no answer
                    raise TimeoutError
                return Answer.of(response.status, response.headers, _beginning(response), now())
        except (OSError, http.client.HTTPException, ValueError) as error:  # URLError is an OSError
            reason = error.reason if isinstance(error, urllib.error.URLError) else error
            late = over.is_set() or isinstance(reason, TimeoutError)
            said = f"no answer within {seconds:g} s" if late else f"{type(reason).__name__}: {reason}"
            return Answer(None, said)


def _beginning(response: Any) -> str:
    """The first bytes of an answer's body: what the other side says about the status that came before it."""
    with contextlib.suppress(OSError, http.client.HTTPException, ValueError):
        return bytes(response.read(SAID_BYTES)).decode(errors="replace")
    return ""


@contextlib.contextmanager
def _ended_after(seconds: float, opened: list[socket.socket]) -> Iterator[threading.Event]:
    """Shut the sockets down once the time is over; the event then is set. A socket's own timeout is for each read."""
    done, over = threading.Event(), threading.Event()

    def watch() -> None:
        if done.wait(seconds):
            return
        over.set()
        while not done.wait(0.1):  # again: it may be connecting still
            for each in opened:
                with contextlib.suppress(OSError):
                    socket.socket.shutdown(each, socket.SHUT_RDWR)  # that of TLS would take its state from the reader

    watcher = threading.Thread(target=watch, name="webhook-limit", daemon=True)
    watcher.start()
    try:
        yield over
    finally:
        done.set()
        watcher.join()


def _opener(opened: list[socket.socket]) -> urllib.request.OpenerDirector:
    """An opener that gives every status as an answer, follows no redirect, obeys proxies, and notes its sockets."""
    director = urllib.request.OpenerDirector()
    for handler in (urllib.request.ProxyHandler(), _HttpHandler(opened), _HttpsHandler(opened)):
        director.add_handler(handler)
    return director


class _Http(http.client.HTTPConnection):
    def __init__(self, *arguments: Any, opened: list[socket.socket], **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._opened = opened

    def connect(self) -> None:
        super().connect()
        self._opened.append(self.sock)


class _Https(http.client.HTTPSConnection):
    def __init__(self, *arguments: Any, opened: list[socket.socket], **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._opened = opened

    def connect(self) -> None:
        super().connect()
        self._opened.append(self.sock)


class _HttpHandler(urllib.request.HTTPHandler):
    def __init__(self, opened: list[socket.socket]) -> None:
        super().__init__()
        self._opened = opened

    def http_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(partial(_Http, opened=self._opened), req)


class _HttpsHandler(urllib.request.HTTPSHandler):
    def __init__(self, opened: list[socket.socket]) -> None:
        super().__init__()
        self._opened = opened

    def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(partial(_Https, opened=self._opened), req)
