"""Dead letters: an event byte for byte, with the reason in its headers, and the limit that stops a bad deploy."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from schemas.values import Rejection
from streams.batch import Batch, Headers

PREFIX = "penstock."
DETAIL_BYTES = 2_000  # of a reason's sentence: an error text must not make a letter that is too large


def headers_of(batch: Batch, rejection: Rejection, *, deployment: str, topic: str, now: float) -> Headers:
    """Return the event's own headers followed by Penstock's; `now` in seconds since 1970."""
    message = batch.messages[rejection.row]
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
    return [*(message.headers() or []), *((PREFIX + name, text.encode(errors="replace")) for name, text in own.items())]


def letters(
    batch: Batch, rejections: Sequence[Rejection], *, deployment: str, topic: str, now: float
) -> tuple[list[bytes | None], list[bytes | None], list[Headers]]:
    """Return values, keys and headers of the dead letters, in the order of the rejected messages."""
    ordered = sorted(rejections, key=lambda rejection: rejection.row)
    return (
        [batch.values[rejection.row] for rejection in ordered],
        [batch.keys[rejection.row] for rejection in ordered],
        [headers_of(batch, rejection, deployment=deployment, topic=topic, now=now) for rejection in ordered],
    )


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

    def reset(self) -> None:
        """Forget what was published: an operator said to go on."""
        self._recent.clear()
