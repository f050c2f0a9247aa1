"""What applications import: produce events, subscribe to inferences.

>>> from penstock.client import Producer, Subscriber
>>> schema = {
...     "type": "record",
...     "name": "Flight",
...     "fields": [{"name": "flight", "type": "string"}, {"name": "distance", "type": ["null", "double"]}],
... }
>>> with Producer(bootstrap_servers, "flights.events", schema, key="flight") as producer:
...     producer.send({"flight": "UA1545", "distance": 1400.0})
>>> with Subscriber(bootstrap_servers, "flights.inferences", start="earliest") as inferences:
...     for inference in inferences:
...         print(inference["late_probability"], inference.model, inference.source_offset)
...         break
0.25 flights 0

A value that does not fit the schema is refused before anything is sent:

>>> with Producer(bootstrap_servers, "flights.events", schema) as producer:
...     producer.send({"flight": "UA1545", "distance": "far"})
Traceback (most recent call last):
penstock.client.errors.EventInvalid: field 'distance': expected null or double, found 'far' (str)
"""

from penstock.client.errors import (
    ClientError,
    ConnectionFailed,
    DeliveryFailed,
    EventInvalid,
    FlushTimedOut,
    NoSuchTopic,
    RecordUnreadable,
    SchemaInvalid,
)
from penstock.client.inference import Inference, Position
from penstock.client.producer import Producer
from penstock.client.subscriber import Subscriber

__all__ = [
    "ClientError",
    "ConnectionFailed",
    "DeliveryFailed",
    "EventInvalid",
    "FlushTimedOut",
    "Inference",
    "NoSuchTopic",
    "Position",
    "Producer",
    "RecordUnreadable",
    "SchemaInvalid",
    "Subscriber",
]
