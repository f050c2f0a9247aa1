"""The one request that a chaos run needs and librdkafka lacks: move the replicas of partitions."""

from __future__ import annotations

import socket
import struct
from collections.abc import Mapping, Sequence

ALTER_PARTITION_REASSIGNMENTS = 45
SECONDS = 15.0


class Refused(Exception):
    """The cluster did not take a reassignment; the text has Kafka's error code and message."""


def reassign(server: str, replicas: Mapping[tuple[str, int], Sequence[int]]) -> None:
    """Ask `HOST:PORT` to give each (topic, partition) these replicas, the first of them the preferred leader.

    Raises Refused, OSError.
    """
    answer = _exchange(server, _request(replicas))
    code, text = _top_error(answer)
    if code:
        raise Refused(f"reassignment of {len(replicas)} partitions: error {code} {text}")


def _request(replicas: Mapping[tuple[str, int], Sequence[int]]) -> bytes:
    head = struct.pack(">hhih", ALTER_PARTITION_REASSIGNMENTS, 0, 1, 5) + b"chaos" + b"\0"
    topics: dict[str, bytes] = {}
    counts: dict[str, int] = {}
    for (topic, partition), nodes in replicas.items():
        entry = (
            struct.pack(">i", partition) + _length(len(nodes)) + b"".join(struct.pack(">i", n) for n in nodes) + b"\0"
        )
        topics[topic] = topics.get(topic, b"") + entry
        counts[topic] = counts.get(topic, 0) + 1
    body = struct.pack(">i", int(SECONDS * 1000)) + _length(len(topics))
    for topic, entries in topics.items():
        name = topic.encode()
        body += _length(len(name)) + name + _length(counts[topic]) + entries + b"\0"
    return head + body + b"\0"


def _length(number: int) -> bytes:
    """Return a compact length: one more than the number, 7 bits a byte."""
    number, out = number + 1, bytearray()
    while number > 0x7F:
        out.append((number & 0x7F) | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def _exchange(server: str, request: bytes) -> bytes:
    host, port = server.rsplit(":", 1)
    with socket.create_connection((host, int(port)), timeout=SECONDS) as connection:
        connection.sendall(struct.pack(">i", len(request)) + request)
        [size] = struct.unpack(">i", _read(connection, 4))
        return _read(connection, size)


def _read(connection: socket.socket, size: int) -> bytes:
    found = b""
    while len(found) < size:
        part = connection.recv(size - len(found))
        if not part:
            raise ConnectionError("the broker closed the connection")
        found += part
    return found


def _top_error(answer: bytes) -> tuple[int, str]:
    """Return code and message of the answer: correlation id, tags, throttle time, error code, compact message."""
    [code] = struct.unpack_from(">h", answer, 9)
    size = answer[11]
    return code, answer[12 : 12 + size - 1].decode() if size > 1 else ""
