"""Faust, one agent, at least once.

usage: python faust_app.py SERVERS JOB.json SOURCE TARGET GROUP MODEL SIZE
SIZE: how many events the agent takes at a time; 1: one by one, without take().
"""

from __future__ import annotations

import sys
import tempfile
from typing import Any

import faust
from faust.types import EventT, TopicT
from shared import Arguments, Job, output  # type: ignore[import-not-found]

WITHIN = 0.01  # seconds that take() waits for its events


def build(arguments: Arguments, size: int) -> faust.App:
    job = Job(arguments.job, arguments.model)
    app = faust.App(
        arguments.group,
        broker=f"kafka://{arguments.servers}",
        datadir=tempfile.mkdtemp(),  # else a folder beside the caller
        web_enabled=False,
        topic_disable_leader=True,
        topic_allow_declare=False,
        stream_wait_empty=False,
        consumer_auto_offset_reset="earliest",
        producer_compression_type="lz4",
        producer_linger=0.002,
    )
    source, target = raw(app, arguments.source), raw(app, arguments.target)

    async def send(event: EventT[Any], score: float) -> None:
        message = event.message
        value = output(score, message.partition, message.offset)
        await target.send(key=event.key, value=value, partition=message.partition)

    async def one_by_one(stream: Any) -> None:
        async for event in stream.events():
            await send(event, job.score(event.value))

    async def together(stream: Any) -> None:
        async for events in stream.take_events(size, within=WITHIN):
            for event, score in zip(events, job.score_all([event.value for event in events]), strict=True):
                await send(event, score)

    app.agent(source)(one_by_one if size == 1 else together)
    return app


def raw(app: faust.App, name: str) -> TopicT:
    """A topic of bytes."""
    return app.topic(name, key_type=bytes, value_type=bytes, key_serializer="raw", value_serializer="raw")


if __name__ == "__main__":
    application = build(Arguments(*sys.argv[1:7]), int(sys.argv[7]))
    sys.argv = [sys.argv[0], "worker", "--without-web", "-l", "error"]
    application.main()
