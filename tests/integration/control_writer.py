"""A writer of control in a process of its own, for tests that kill it: `python -m tests.integration.control_writer`.

Arguments: servers, prefix of the topics, its number, `note` or `apply`, and the transactional id's suffix for a control
that does not share it. It says `ready`, waits for a line, makes one change and says `done` and the entry's id.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

from schemas.control import Version, arms_of
from schemas.deployment import Deployment
from streams.control import ControlTopics
from streams.control_writer import Author, Writer
from streams.rollout import Change, World, applied, noted

NAME = "race"
READER: dict[str, Any] = {"type": "record", "name": "Event", "fields": [{"name": "a", "type": "double"}]}


@dataclass(frozen=True, slots=True)
class Unshared(ControlTopics):
    """Topics whose writers do not fence each other."""

    suffix: str = ""

    @property
    def transactional_id(self) -> str:
        return f"{self.prefix}.control.{self.suffix}"


def declared(number: int) -> Deployment:
    return Deployment.model_validate(
        {
            "name": NAME,
            "input": {"topic": "events", "schema": "event.avsc"},
            "output": {"topic": "inferences"},
            "latency_ms": number + 1,
            "arms": [{"role": "active", "model": "m@t"}],
        }
    )


def change(kind: str, number: int, world: World) -> Change | None:
    if kind == "note":
        return noted("m", "v", f"note {number}")
    deployment = declared(number)
    return applied(world, deployment, READER, arms_of(deployment, {"m@t": Version("m", "v", "d")}))


def main(servers: str, prefix: str, number: str, kind: str) -> None:
    writer = Writer({"bootstrap.servers": servers}, ControlTopics(prefix))
    print("ready", flush=True)
    sys.stdin.readline()
    written = writer.change(lambda world: change(kind, int(number), world), Author(f"writer {number}", "here"))
    assert written is not None
    print(f"done {written.entries[0].id}", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
