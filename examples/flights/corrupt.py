"""What can be wrong with an event, done to good ones on request: each of these must end as a dead letter."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping
from typing import Any

from penstock.client.events import EventEncoder

Damage = Callable[[EventEncoder, Mapping[str, Any], bytes], bytes | None]
SEED = 2013


def _text(event: Mapping[str, Any], **changed: Any) -> bytes:
    plain = {name: value for name, value in event.items() if name != "scheduled_departure"}
    milliseconds = int(event["scheduled_departure"].timestamp() * 1000)
    return json.dumps({**plain, "scheduled_departure": milliseconds, **changed}).encode()


DAMAGES: Mapping[str, Damage] = {
    "cut off": lambda _, event, value: value[:-5],
    "bytes left over": lambda _, event, value: value + b"\0\0",
    "empty": lambda _, event, value: None,
    "unknown schema": lambda _, event, value: value[:2] + b"\x13" * 8 + value[10:],
    "not Avro at all": lambda _, event, value: b"\xfe\xed" + value[2:],
    "broken JSON": lambda _, event, value: _text(event)[:-9],
    "a word for a number": lambda _, event, value: _text(event, distance="far"),
    "no distance": lambda encoder, event, value: encoder.encode({**event, "distance": 0}),
}


class Corrupter:
    """Decides, seeded, which events are followed by a corrupt copy of themselves, and makes it.

    percent: of the events; done: how often each damage was done.
    """

    def __init__(self, encoder: EventEncoder, percent: float) -> None:
        self._encoder, self._share = encoder, percent / 100
        self._random = random.Random(SEED)
        self.done = dict.fromkeys(DAMAGES, 0)

    @property
    def total(self) -> int:
        """Number of corrupt events made."""
        return sum(self.done.values())

    def copy(self, event: Callable[[], Mapping[str, Any]], value: bytes) -> tuple[bool, bytes | None]:
        """Whether a corrupt copy follows this event, and its bytes (None is an empty message).

        event: gives the event's fields, asked for only where a copy follows; value: its encoded form.
        """
        if self._random.random() >= self._share:
            return False, None
        name = self._random.choice(list(DAMAGES))
        self.done[name] += 1
        return True, DAMAGES[name](self._encoder, event(), value)
