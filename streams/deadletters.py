"""Dead letters: an event byte for byte, with the reason in its headers, and the limit that stops a bad deploy."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from schemas.values import Rejection
from streams.batch import Batch, Headers, Message

PREFIX = "penstock."
DETAIL_BYTES = 2_000  # of a reason's sentence: an error text must not make a letter that is too large
OWN_HEADERS = 9  # at the end of a letter's headers


def headers_of(batch: Batch, rejection: Rejection, *, deployment: str, topic: str, now: float) -> Headers:
    """Return the event's own headers followed by Penstock's; `now` in seconds since 1970."""
    message = batch.messages[rejection.row]
    theirs, unreadable = _headers(message)
    own = {
        "reason": rejection.reason,
        "detail": rejection.detail[:DETAIL_BYTES],
        "exception": rejection.exception,
        "deployment": deployment,
        "source.topic": topic,
        "source.partition": str(message.partition()),
        "source.offset": str(message.offset()),
        "source.timestamp": str(message.timestamp()[1]),
        "time": datetime.fromtimestamp(now, UTC).isoformat(timespec="milliseconds"),
    }
    if unreadable:
        own["left_out"] = "headers, because a name is not UTF-8"
    return [*theirs, *((PREFIX + name, text.encode(errors="replace")) for name, text in own.items())]


def _headers(message: Message) -> tuple[Headers, bool]:
    """Return an event's headers; where a name is not UTF-8 confluent-kafka fails, and none can be read."""
    try:
        return message.headers() or [], False
    except (SystemError, UnicodeDecodeError):
        return [], True


Letter = tuple[bytes | None, bytes | None, Headers]  # value, key, headers


def letters(
    batch: Batch, rejections: Sequence[Rejection], *, deployment: str, topic: str, now: float, limit: int = 1 << 20
) -> tuple[list[bytes | None], list[bytes | None], list[Headers]]:
    """Return values, keys and headers of the dead letters, in the order of the rejected messages.

    limit: the largest letter in bytes that its topic takes.
    """
    ordered = sorted(rejections, key=lambda rejection: rejection.row)
    found = [
        _fitted(
            batch.values[rejection.row],
            batch.keys[rejection.row],
            headers_of(batch, rejection, deployment=deployment, topic=topic, now=now),
            limit,
        )
        for rejection in ordered
    ]
    return [value for value, _, _ in found], [key for _, key, _ in found], [headers for _, _, headers in found]


def _fitted(value: bytes | None, key: bytes | None, headers: Headers, limit: int) -> Letter:
    """Leave out what the topic cannot take: an event that was well compressed may be far larger than its topic's limit.

    Without this its letter would be refused for ever, and the events behind it would never be scored.
    """
    left_out = []
    for part in ("value", "key", "headers"):
        if _size(value, key, headers) <= limit:
            break
        if part == "value" and value:
            left_out.append(f"value of {len(value)} bytes")
            value = None
        elif part == "key" and key:
            left_out.append(f"key of {len(key)} bytes")
            key = None
        elif part == "headers":
            left_out.append("headers")
            headers = headers[-OWN_HEADERS:]
    if left_out:
        text = f"{', '.join(left_out)}, too large for this topic; the source offset has all of it"
        headers = [*headers, (f"{PREFIX}left_out", text.encode())]
    return value, key, headers


def _size(value: bytes | None, key: bytes | None, headers: Headers) -> int:
    total = len(value or b"") + len(key or b"")
    return total + sum(len(name) + len(text or b"") + 10 for name, text in headers)


class LetterLimit:
    """At most `per_minute` dead letters in any minute (0: any number), by an injected clock in seconds."""

    def __init__(self, per_minute: int, clock: Callable[[], float]) -> None:
        self._per_minute, self._clock = per_minute, clock
        self._recent: deque[tuple[float, int]] = deque()

    def allows(self, count: int) -> bool:
        """Say whether a batch with `count` dead letters may be published now."""
        while self._recent and self._recent[0][0] <= self._clock() - 60:
            self._recent.popleft()
        return not self._per_minute or sum(n for _, n in self._recent) + count <= self._per_minute

    def spend(self, count: int) -> None:
        """Count letters that were published."""
        if count and self._per_minute:
            self._recent.append((self._clock(), count))

    def refund(self, count: int) -> None:
        """Take back the newest letters that were counted: their batches were not committed and come again."""
        while count > 0 and self._recent:
            at, newest = self._recent.pop()
            if newest > count:
                self._recent.append((at, newest - count))
            count -= newest

    def reset(self) -> None:
        """Forget what was published: an operator said to go on."""
        self._recent.clear()
