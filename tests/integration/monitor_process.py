"""A monitor as a process of its own, for tests: `python -m tests.integration.monitor_process CONFIG.json [FLAG]`.

`--from-group-offsets` trusts Faust's committed offsets instead of the snapshots' positions and looks for no holes: a
negative control, which must lose profiles when it is killed. `--read-uncommitted` leaves Faust's consumer as it is: the
other control, which sees aborted profiles. `--forget-copies`
counts every copy of a label: one more. `--die-after-outputs` kills itself when its first alerts are acknowledged
and before it publishes the snapshot that remembers them.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from aiokafka.consumer.fetcher import READ_UNCOMMITTED
from prometheus_client import CollectorRegistry

from models.reference import Reference
from monitoring import app, exact, idle
from monitoring.copying import CopyFold, Copying
from monitoring.folds import Record
from monitoring.join_state import Joining
from monitoring.joining import JoinFold
from monitoring.ledger import Ledger
from monitoring.metrics import MonitorMetrics
from monitoring.profiles import ProfileFold
from monitoring.quality import Judging, QualityFold
from monitoring.settings import Settings
from monitoring.setup import Quality, Topics, Wiring, prepare
from monitoring.sources import PROFILES, Source
from penstock.logs import set_up
from schemas.decode import EventDecoder

LABEL = {
    "type": "record",
    "name": "Label",
    "fields": [{"name": "late", "type": "boolean"}, {"name": "revenue", "type": "double"}],
}


@dataclass(frozen=True, slots=True)
class Apart(Wiring):
    """A monitor in a group of its slots, which have a common name before their number; others of its deployment too."""

    @property
    def group(self) -> str:
        return f"penstock.{self.deployment}.{self.slot.rpartition('-')[0]}"


def wiring_of(config: Mapping[str, Any]) -> Wiring:
    topics, kind = config["wiring"].get("quality"), Apart if config.get("apart") else Wiring
    return kind(**{**config["wiring"], "quality": Quality(**topics) if topics else None})


def fold_of(config: Mapping[str, Any]) -> ProfileFold:
    reference = Reference.from_bytes(config["reference"].encode())
    settings = Settings(**config["settings"])
    topic = config["wiring"]["alerts"]
    return ProfileFold(
        config["wiring"]["deployment"], {reference.digest: reference}, config["sources"], settings, topic
    )


def sources_of(wiring: Wiring, topics: Topics, fold: Any) -> list[Source]:
    profiles = Source(PROFILES, wiring.profiles, fold, topics.profiles)
    return [profiles, *(quality_sources(wiring, wiring.quality, topics) if wiring.quality else [])]


def quality_sources(wiring: Wiring, quality: Quality, topics: Topics) -> list[Source]:
    """What joins samples and labels `{"late": true, "revenue": 1.0}`; a window of 20 s, ticks of 1 s."""
    labels, samples = topics.read[quality.labels], topics.read[quality.samples]
    decoder = EventDecoder(LABEL, writers=SimpleNamespace(), framing="json")  # type: ignore[arg-type]
    copying = Copying(
        wiring.deployment, quality.labels, quality.samples, quality.letters, "late", ("revenue",), 1.0, samples
    )
    joining = Joining(
        wiring.deployment,
        quality.quality,
        20,
        truth="boolean",
        numbers=("revenue",),
        labels=labels,
        grace_ms=1000,
        tick_ms=1000,
    )
    judging = Judging(wiring.deployment, samples, 20, topic=wiring.alerts)
    return [
        Source("labels", quality.labels, CopyFold(copying, decoder.decode), labels),
        Source("samples", quality.samples, JoinFold(joining), samples),
        Source("quality", quality.quality, QualityFold(judging), 1),
    ]


def forget_copies() -> None:
    """Break the recipe: count every copy of a label."""

    def copies(self: JoinFold, state: Any, head: Any, latest: int) -> int | None:
        state.taken.clear()
        return careful(self, state, head, latest)

    careful = JoinFold._copies
    JoinFold._copies = copies  # type: ignore[method-assign]


def trust_group_offsets() -> None:
    """Break the recipe: restore the states, but read from where the group committed."""

    async def seek(self: exact.Consumer) -> Mapping[Any, int]:
        await self.app.restorer.restore({(partition.topic, partition.partition) for partition in self.assignment()})
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
        if any(out.topic == self._wiring.alerts for out in batch):
            os.kill(os.getpid(), signal.SIGKILL)

    app.Monitor._send = send_and_die  # type: ignore[method-assign]


def main() -> None:
    config = json.loads(Path(sys.argv[1]).read_text())
    set_up("text", {"monitor": config["wiring"]["slot"]})
    if "--from-group-offsets" in sys.argv:
        trust_group_offsets()
    if "--read-uncommitted" in sys.argv:
        read_uncommitted()
    if "--forget-copies" in sys.argv:
        forget_copies()
    idle.EVERY = 3600.0  # record times are of the past here, and the clock is not
    if "--die-after-outputs" in sys.argv:
        die_after_outputs()
    wiring = wiring_of(config)
    topics = prepare(wiring)
    metrics = MonitorMetrics(CollectorRegistry(), wiring.deployment)
    app.run(app.build(wiring, topics, sources_of(wiring, topics, fold_of(config)), metrics))


if __name__ == "__main__":
    main()
