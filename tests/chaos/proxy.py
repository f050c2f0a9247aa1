"""The network between workers and a broker, on loopback: it can delay, throttle, swallow and cut.

One event loop on a thread of its own serves every proxy. A fault holds for what is on its way when it begins.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any

CHUNK = 64 << 10
IN_FLIGHT = 64  # chunks between reading and writing: what a network holds


class ProxyLoop:
    """An event loop on a daemon thread."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxies", daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Run a coroutine there and return its result."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(20)

    def close(self) -> None:
        """End the thread; proxies are closed before."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._loop.close()


@dataclass(slots=True)
class Weather:
    """What one direction suffers. delay: seconds; rate: bytes a second, 0: no limit; swallow: nothing goes through.

    free_at: when the bytes that all connections have sent at that rate are through, on the loop's clock.
    """

    delay: float = 0.0
    rate: float = 0.0
    swallow: bool = False
    free_at: float = 0.0


class Proxy:
    """Forwards 127.0.0.1:port to 127.0.0.1:target."""

    def __init__(self, loop: ProxyLoop, port: int, target: int) -> None:
        self.port, self._target, self._loop = port, target, loop
        self._up, self._down = Weather(), Weather()
        self._refusing = False
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()

    def open(self) -> None:
        """Begin to listen."""

        async def serve() -> None:
            self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)

        self._loop.run(serve())

    def close(self) -> None:
        """Listen no more and close every connection."""

        async def end() -> None:
            assert self._server is not None
            self._server.close()
            await self._drop()
            others = asyncio.all_tasks() - {asyncio.current_task()}
            if others:
                await asyncio.wait(others, timeout=5)

        if self._server is not None:
            self._loop.run(end())

    # ---- faults; each holds until `clear`

    def delay(self, seconds: float) -> None:
        """Let every chunk take longer in both directions."""
        self._up.delay = self._down.delay = seconds

    def throttle(self, rate: float) -> None:
        """Let through so many bytes a second in each direction."""
        self._up.rate = self._down.rate = rate

    def blackhole(self, direction: str = "both") -> None:
        """Swallow what goes `up` to the broker, `down` from it, or both; connections stay open."""
        self._up.swallow |= direction in ("up", "both")
        self._down.swallow |= direction in ("down", "both")

    def cut(self) -> None:
        """Close every connection and refuse new ones."""
        self._refusing = True
        self._loop.run(self._drop())

    def clear(self) -> None:
        """End the fault. Connections that lost bytes are closed: TCP would never go on after a hole."""
        holed = self._up.swallow or self._down.swallow
        self._up, self._down, self._refusing = Weather(), Weather(), False
        if holed:
            self._loop.run(self._drop())

    # ---- connections

    async def _drop(self) -> None:
        for writer in list(self._open):
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._refusing:
            writer.transport.abort()
            return
        try:
            target = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            writer.transport.abort()
            return
        ends = {writer, target[1]}
        self._open |= ends
        try:
            await asyncio.gather(self._pump(reader, target[1], True), self._pump(target[0], writer, False))
        finally:
            self._open -= ends
            for end in ends:
                end.transport.abort()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, up: bool) -> None:
        """Carry one direction until either end closes."""
        queue: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(IN_FLIGHT)
        sender = asyncio.create_task(self._send(queue, writer, up))
        now = asyncio.get_running_loop().time
        with contextlib.suppress(OSError):
            while data := await reader.read(CHUNK):
                weather = self._up if up else self._down
                if not weather.swallow:
                    await queue.put((now() + weather.delay, data))
        await queue.put((0.0, b""))
        await sender

    async def _send(self, queue: asyncio.Queue[tuple[float, bytes]], writer: asyncio.StreamWriter, up: bool) -> None:
        now = asyncio.get_running_loop().time
        while True:
            due, data = await queue.get()
            if not data:
                writer.transport.abort()
                return
            if due > now():
                await asyncio.sleep(due - now())
            weather = self._up if up else self._down
            if weather.swallow:
                continue
            with contextlib.suppress(OSError):
                writer.write(data)
                await writer.drain()
            if weather.rate:
                weather.free_at = max(weather.free_at, now()) + len(data) / weather.rate
                await asyncio.sleep(weather.free_at - now())
