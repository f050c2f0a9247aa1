"""What can go wrong for an application: events that do not fit, deliveries that fail, records that cannot be read."""

from __future__ import annotations

from typing import Any

from schemas.errors import Explained


class ClientError(Explained):
    """Base of every error of this package; its text says what, where and what to do."""


class ConnectionFailed(ClientError):
    """The cluster did not answer, or refused: the text carries the address and Kafka's own reason."""


class NoSuchTopic(ClientError):
    """The topic does not exist, or the user may not see it."""


class EventInvalid(ClientError):
    """An event does not fit the schema; nothing of it was sent.

    field: dotted path of the field; value: what was found; expected: the type in words; place: file, line or row.
    """

    def __init__(self, field: str, value: Any, expected: str, *, place: str = "", found: str | None = None) -> None:
        self.field, self.value, self.expected, self.place = field, value, expected, place
        self.found = found or f"found {_shorten(value)} ({type(value).__name__})"
        super().__init__(f"{place + ': ' if place else ''}field {field!r}: expected {expected}, {self.found}")

    def at(self, place: str) -> EventInvalid:
        """The same finding with its place in front."""
        return EventInvalid(self.field, self.value, self.expected, place=place, found=self.found)


class SchemaInvalid(ClientError):
    """The schema given to a producer cannot be used."""


class FileInvalid(ClientError):
    """A file of events cannot be read: the text names file, line and column."""


class DeliveryFailed(ClientError):
    """Kafka did not take messages that were handed over before; count of them and the first reason are in the text."""

    def __init__(self, topic: str, count: int, reason: str) -> None:
        self.topic, self.count, self.reason = topic, count, reason
        super().__init__(
            f"{count:,} message(s) to {topic!r} were not delivered; the first because: {reason}. "
            "They are not in the topic: send them again once the cause is gone"
        )


class FlushTimedOut(ClientError):
    """Messages were still under way when the time for a flush was up; they go on being sent until `close`."""

    def __init__(self, topic: str, left: int, seconds: float) -> None:
        self.topic, self.left, self.seconds = topic, left, seconds
        super().__init__(
            f"{left:,} message(s) to {topic!r} were not acknowledged within {seconds:g} s; "
            "call flush() again to go on waiting"
        )


class RecordUnreadable(ClientError):
    """A record of a subscribed topic could not be decoded; iterate on to get the one behind it."""

    def __init__(self, topic: str, partition: int, offset: int, reason: str) -> None:
        self.topic, self.partition, self.offset, self.reason = topic, partition, offset, reason
        super().__init__(f"{topic}/{partition}/{offset} is not a readable record: {reason}")


def _shorten(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
