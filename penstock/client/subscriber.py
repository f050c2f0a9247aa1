"""Subscribe to inferences: typed values one by one, asynchronously, or as frames."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import TYPE_CHECKING, Any

from confluent_kafka import Message

from penstock.client.errors import RecordUnreadable
from penstock.client.inference import Inference
from penstock.client.records import RecordDecoder, RecordReader, Start, position, unreadable
from schemas.errors import SourceUnavailable

if TYPE_CHECKING:
    import polars as pl

_READ_AHEAD, _POLL_SECONDS = 500, 0.2


class Subscriber:
    """Iterates over the inferences of a topic, read_committed: what an aborted transaction wrote is never seen.

    bootstrap_servers, topic: where; start: `latest` (what comes from now on) or `earliest`, where no offset was ever
    committed; until_end: stop when every partition was read to its end, instead of waiting for more.
    group: without one, every subscriber sees every inference and nothing is committed. With one, Kafka shares the
    partitions among the group's members and remembers how far it is: an inference counts as dealt with when the next
    is asked for (or the subscriber is closed after it), so after a crash at most the last few come again, none is lost.
    Further keywords are librdkafka settings, with underscores for dots.

    It is an iterator and an asynchronous iterator; `batches` gives frames. Use one of the three, in one thread.
    A record that is no inference raises RecordUnreadable; iterate on to get the one behind it.
    Raises NoSuchTopic, ConnectionFailed at construction.
    """

    def __init__(
        self,
        bootstrap_servers: str,
        topic: str,
        group: str | None = None,
        *,
        start: Start = "latest",
        until_end: bool = False,
        **kafka: Any,
    ) -> None:
        self._reader = RecordReader(bootstrap_servers, topic, group, start=start, **kafka)
        self._decoder = RecordDecoder(self._reader.configuration)
        self._until_end = until_end
        self._ahead: deque[Message] = deque()
        self._handed_out: Message | None = None
        self._lock = threading.Lock()  # an abandoned asynchronous wait may still be reading
        self._thread: ThreadPoolExecutor | None = None
        self._closed = False

    def __iter__(self) -> Subscriber:
        return self

    def __next__(self) -> Inference:
        while not self._closed:
            ready = self._take(_POLL_SECONDS)
            if ready is not None:
                return ready
            if self._finished():
                break
        raise StopIteration

    def __aiter__(self) -> Subscriber:
        return self

    async def __anext__(self) -> Inference:
        self._thread = self._thread or ThreadPoolExecutor(1, thread_name_prefix="penstock-subscriber")
        loop = asyncio.get_running_loop()
        while not self._closed:
            if not self._ahead:
                await loop.run_in_executor(self._thread, self._fill, _POLL_SECONDS)
            ready = self._take(0.0)
            if ready is not None:
                return ready
            if self._finished():
                break
        raise StopAsyncIteration

    def batches(self, rows: int = 2000, seconds: float = 1.0) -> Iterator[pl.DataFrame]:
        """Frames of up to `rows` inferences, at least one, whatever came within `seconds`; needs polars.

        Columns: the inference record's fields, and `_key` (Binary), `_partition`, `_offset`, `_timestamp` of the
        message. A frame counts as dealt with when the next one is asked for. Where the topic holds inferences of
        several schemas, a frame has the columns of all of them, null where a row has no such field. Records that are
        no inferences are left out of the frame; RecordUnreadable is raised behind it; call `batches` again to go on.
        """
        from penstock.client.batches import FrameDecoder

        decoder = FrameDecoder(self._decoder)
        while not self._closed:
            self._mark_done()
            messages = self._reader.read(rows, seconds)
            if messages:
                frame, wrong = decoder.decode(messages)
                if len(frame):
                    yield frame
                for message in _last_of_each_partition(messages):
                    self._reader.done(message)
                if wrong:
                    raise wrong[0]
            elif self._finished():
                return

    def close(self) -> None:
        """Commit what was dealt with and leave; the inference handed out last counts as dealt with."""
        if self._closed:
            return
        self._closed = True
        if self._thread is not None:
            self._thread.shutdown(wait=True)
        with self._lock:
            self._mark_done()
            self._reader.close()
            self._decoder.close()

    def __enter__(self) -> Subscriber:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self._handed_out = None  # what was being dealt with failed: the group gets it again
        self.close()

    async def __aenter__(self) -> Subscriber:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.to_thread(self.__exit__, kind, error, trace)

    def _take(self, seconds: float) -> Inference | None:
        """The next inference, or None when none came within `seconds`."""
        self._mark_done()
        if not self._ahead:
            if seconds == 0.0:
                return None
            self._fill(seconds)
            if not self._ahead:
                return None
        message = self._ahead[0]
        try:
            record, schema = self._decoder.decode(message)
            inference = Inference.of(record, schema, position(message))
        except SourceUnavailable:
            raise  # the message stays in front: ask again once the schemas can be read
        except RecordUnreadable:
            self._hand_out()
            raise
        except KeyError as error:
            self._hand_out()
            raise unreadable(message, f"an inference has a field {error}, this record does not") from None
        self._hand_out()
        return inference

    def _hand_out(self) -> None:
        self._handed_out = self._ahead.popleft()

    def _mark_done(self) -> None:
        if self._handed_out is not None:
            self._reader.done(self._handed_out)
            self._handed_out = None

    def _fill(self, seconds: float) -> None:
        with self._lock:
            if not self._ahead and not self._closed:
                self._ahead.extend(self._reader.read(_READ_AHEAD, seconds))

    def _finished(self) -> bool:
        return self._closed or (self._until_end and not self._ahead and self._reader.at_end)


def _last_of_each_partition(messages: list[Message]) -> list[Message]:
    return list({message.partition(): message for message in messages}.values())
