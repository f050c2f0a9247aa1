"""Which topics no deployment may name for its records: those that are Penstock's or Kafka's own."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import BaseModel

RESERVED = ("penstock.", "__")  # how their names begin: the prefix, for releases to come have more of them


def is_reserved(topic: str) -> bool:
    """Say whether a topic is one of Penstock's (`penstock.control`, ...) or of Kafka's (`__consumer_offsets`, ...)."""
    return topic.startswith(RESERVED)


def topics_of(declared: BaseModel) -> Iterator[str]:
    """Yield every topic that a declaration names, in whatever section: the values of keys called `topic`."""
    for name in type(declared).model_fields:
        value = getattr(declared, name)
        if name == "topic" and isinstance(value, str):
            yield value
        for each in value if isinstance(value, list) else [value]:
            if isinstance(each, BaseModel):
                yield from topics_of(each)
