"""Were labels read to their end? A partition without labels must say how far it is, or windows would never end.

Nothing in the log tells that nothing comes, so this looks at the clock; what is found out is written into the log as a
progress record, and all that follows from it follows from the log.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from monitoring.errors import KafkaUnavailable
from monitoring.setup import Wiring, reading
from monitoring.sources import Ledgers, Place

EVERY = 10.0  # seconds between two looks
MARGIN_MS = 60_000  # a label may be written so much later than the record time it was given
_SECONDS = 10.0


def ended(
    wiring: Wiring, waiting: Mapping[Place, int], now: Callable[[], float] = time.time
) -> tuple[int, Mapping[Place, int]]:
    """Return a time, and those of the positions behind which no committed record was at that time.

    Blocks up to 10 s. Raises KafkaUnavailable.
    """
    at, found = int(now() * 1000), dict[Place, int]()
    if not waiting:
        return at, found
    consumer = Consumer(reading(wiring.kafka, wiring.group, "error"))
    try:
        consumer.assign([TopicPartition(topic, partition, offset) for (topic, partition), offset in waiting.items()])
        seen: set[Place] = set()
        deadline = time.monotonic() + _SECONDS
        while len(seen) < len(waiting) and time.monotonic() < deadline:
            for message in consumer.consume(100, timeout=0.5):
                place, error = (message.topic() or "", message.partition() or 0), message.error()
                if error is not None and error.code() != KafkaError._PARTITION_EOF:
                    raise KafkaUnavailable(f"{place[0]}, partition {place[1]}: {error.str()}")
                if place not in seen and error is not None:
                    found[place] = waiting[place]
                seen.add(place)
        return at, found
    except KafkaException as error:
        raise KafkaUnavailable(str(error)) from error
    finally:
        consumer.close()


def tell(ledgers: Ledgers, look: tuple[int, Mapping[Place, int]]) -> None:
    """Tell the ledgers what was found out."""
    at, found = look
    for (topic, partition), position in found.items():
        ledgers[topic].idle(partition, position, at - MARGIN_MS)
