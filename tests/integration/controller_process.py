"""The controller as a process of its own, for tests that kill it: `python -m tests.integration.controller_process`.

Arguments: servers, prefix of the topics of control, topic of rewards, the policies as JSON, and flags. `--die-in=N` and
`--die-after=N` kill it in the transaction of its Nth decision, and behind it.

Negative control: `--careless` writes a decision without a look whether it was written already or somebody changed the
deployment since.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from penstock.controller import acting, running
from penstock.controller.running import Controller, Reads, snapshots_of
from schemas.policy import Policy
from streams import control_writer
from streams.control import COMPACTED, ControlTopics
from streams.topics import Topics


def die_in(number: int, after: bool = False) -> None:
    publish, left = control_writer.Writer._publish, [number]

    def dying(self: Any, producer: Any, written: Any) -> None:
        decides = any(entry.subject_kind == "decision" for entry in written.entries)
        left[0] -= decides
        if decides and not left[0] and not after:
            producer.begin_transaction()
            for entry in written.entries:
                producer.produce(self._topics.audit, entry.encode(), entry.subject.encode())
            producer.flush(10)
            os.kill(os.getpid(), signal.SIGKILL)
        publish(self, producer, written)
        if decides and not left[0]:
            os.kill(os.getpid(), signal.SIGKILL)

    control_writer.Writer._publish = dying  # type: ignore[method-assign]


def careless(_: int) -> None:
    """Break the recipe: what is decided is written, whatever control holds."""
    change_of = acting.change_of

    def written(world: Any, decision: Any, resolve: Any) -> Any:
        state = world.states[decision.deployment]
        return change_of(replace(world, entries=()), replace(decision, revision=state.revision), resolve)

    running.change_of = written


FLAGS: dict[str, Callable[[int], None]] = {
    "--die-in": die_in,
    "--die-after": lambda number: die_in(number, after=True),
    "--careless": careless,
}


def main() -> None:
    servers, prefix, rewards, said, *flags = sys.argv[1:]
    for flag in flags:
        name, _, number = flag.partition("=")
        FLAGS[name](int(number or 0))
    policies = [Policy.model_validate(each) for each in json.loads(said)]
    kafka, topics = {"bootstrap.servers": servers}, ControlTopics(prefix)
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    rewarded = {policy.deployment: rewards for policy in policies}
    reads = Reads(topics, f"{prefix}.alerts", f"{prefix}.retraining", rewarded)
    running.SNAPSHOT_SECONDS = 1.0  # type: ignore[misc]
    controller = Controller(kafka, policies, reads, lambda decision, became: print(decision.id, became, flush=True))
    controller.snapshots = f"{prefix}.controller"
    Topics(kafka).ensure(controller.snapshots, 1, COMPACTED)
    controller.rule()
    print("ready", flush=True)
    controller.run(snapshots_of(kafka, controller.snapshots), stop.is_set)


if __name__ == "__main__":
    main()
