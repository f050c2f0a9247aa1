"""A run of the monitor as a scenario of `scripts/chaos`, on a broker of its own that may be killed too."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from pathlib import Path

from tests.chaos import monitor_run
from tests.chaos.cluster import Cluster
from tests.chaos.monitor_run import Ground
from tests.chaos.runner import Outcome
from tests.chaos.scenario import Scenario
from tests.chaos.verifier import Findings


def run_monitor(scenario: Scenario, cluster: Cluster, folder: Path, say: Callable[[str], None]) -> Outcome:
    """Run a scenario of the monitor on a started cluster."""
    assert scenario.hurts is not None
    prefix, began = f"{scenario.name}.{secrets.token_hex(3)}", time.monotonic()

    def topic(partitions: int, name: str, **config: str) -> str:
        return cluster.topic(partitions, f"{prefix}.{name}", **config)

    def kill_broker(seconds: float) -> None:
        cluster.kill(0)
        time.sleep(seconds)
        cluster.start(0)

    ground = Ground({"bootstrap.servers": cluster.servers}, topic, folder, say, kill_broker)
    judged = monitor_run.run(ground, scenario.hurts)
    told, problems = [*judged.lines, *_shown(scenario, judged.differences)], judged.problems
    findings, seconds = Findings(events=judged.events), time.monotonic() - began
    return Outcome(scenario, findings, judged.happened, seconds=seconds, problems=problems, told=told)


def _shown(scenario: Scenario, differences: list[str]) -> list[str]:
    """Return what a control has shown, in short."""
    return [f"shown       {text[:200]}" for text in differences[:4]] if scenario.expect.broken else []
