"""A monitor as a process of its own, for tests: `python -m tests.integration.monitor_process CONFIG.json [FLAG]`.

`--from-group-offsets` trusts Faust's committed offsets instead of the snapshots' positions and looks for no holes: a
negative control, which must lose profiles when it is killed. `--read-uncommitted` leaves Faust's consumer as it is: the
other control, which sees aborted profiles. `--die-after-outputs` kills itself when its first alerts are acknowledged
and before it publishes the snapshot that remembers them.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aiokafka.consumer.fetcher import READ_UNCOMMITTED
from prometheus_client import CollectorRegistry

from models.reference import Reference
from monitoring import app, exact
from monitoring.folds import Record
from monitoring.ledger import Ledger
from monitoring.metrics import MonitorMetrics
from monitoring.profiles import ProfileFold
from monitoring.settings import Settings
from monitoring.setup import Wiring, prepare
from penstock.logs import set_up


def wiring_of(config: Mapping[str, Any]) -> Wiring:
    return Wiring(**config["wiring"])


def fold_of(config: Mapping[str, Any]) -> ProfileFold:
    reference = Reference.from_bytes(config["reference"].encode())
    settings = Settings(**config["settings"])
    topic = config["wiring"]["alerts"]
    return ProfileFold(
        config["wiring"]["deployment"], {reference.digest: reference}, config["sources"], settings, topic
    )


def trust_group_offsets() -> None:
    """Break the recipe: restore the states, but read from where the group committed."""

    async def seek(self: exact.Consumer) -> Mapping[Any, int]:
        await self.app.restorer.restore({partition.partition for partition in self.assignment()})
        return await super(exact.Consumer, self).seek_to_committed()

    def accept(self: Ledger[Any], record: Record, follows: int | None) -> None:
        careless(self, record, self._foldings[record.partition].position)

    careless = Ledger.accept
    exact.Consumer.seek_to_committed = seek
    Ledger.accept = accept


def read_uncommitted() -> None:
    """Break the recipe: see what was aborted."""

    def create(self: exact.Thread, transport: Any) -> Any:
        self._positions = {}
        return super(exact.Thread, self)._create_worker_consumer(transport)

    exact.Thread._create_worker_consumer = create
    exact.READ_COMMITTED = READ_UNCOMMITTED


def die_after_outputs() -> None:
    send = app.Monitor._send

    async def send_and_die(self: app.Monitor, batch: list[Any]) -> None:
        await send(self, batch)
        if any(topic == self._wiring.alerts for topic, *_ in batch):
            os.kill(os.getpid(), signal.SIGKILL)

    app.Monitor._send = send_and_die  # type: ignore[method-assign]


def main() -> None:
    config = json.loads(Path(sys.argv[1]).read_text())
    set_up("text", {"monitor": config["wiring"]["slot"]})
    if "--from-group-offsets" in sys.argv:
        trust_group_offsets()
    if "--read-uncommitted" in sys.argv:
        read_uncommitted()
    if "--die-after-outputs" in sys.argv:
        die_after_outputs()
    wiring = wiring_of(config)
    topics = prepare(wiring)
    metrics = MonitorMetrics(CollectorRegistry(), wiring.deployment)
    app.run(app.build(wiring, topics, fold_of(config), metrics))


if __name__ == "__main__":
    main()
