"""The short set of chaos on real brokers: what `scripts/chaos --short` runs, one test a scenario."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from tests.chaos.account import page
from tests.chaos.catalogue import catalogue
from tests.chaos.cluster import Cluster
from tests.chaos.run import shape
from tests.chaos.runner import run
from tests.chaos.scenario import Scenario

SEED = int(os.environ.get("PENSTOCK_CHAOS_SEED", "1"))
SHORT = sorted((scenario for scenario in catalogue(SEED) if scenario.short), key=shape)

PATIENCE = 4.0  # no test measures time: limits that a machine of its own keeps are four times as long here

pytestmark = [pytest.mark.timeout(600), pytest.mark.usefixtures("unmeasured")]


class Clusters:
    """One cluster at a time: a scenario that needs another kind ends the last one."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._stack = folder, ExitStack()
        self._shape: tuple[int, bool] | None = None
        self._cluster: Cluster | None = None

    def of(self, scenario: Scenario) -> Cluster:
        if self._cluster is None or self._shape != shape(scenario):
            self.close()
            self._shape = brokers, proxied = shape(scenario)
            folder = self._folder / f"cluster-{brokers}-{'proxied' if proxied else 'direct'}"
            self._cluster = self._stack.enter_context(Cluster(folder, brokers, proxied=proxied))
        self._cluster.heal()
        return self._cluster

    def close(self) -> None:
        self._stack.close()


@pytest.fixture(scope="module")
def clusters(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clusters]:
    made = Clusters(tmp_path_factory.mktemp("chaos"))
    yield made
    made.close()


@pytest.mark.parametrize("scenario", SHORT, ids=lambda scenario: scenario.name)
def test_the_promise_holds_or_the_control_shows_what_is_broken(
    scenario: Scenario, clusters: Clusters, tmp_path: Path
) -> None:
    scenario = replace(scenario, expect=scenario.expect.patient(PATIENCE))
    outcome = run(scenario, clusters.of(scenario), tmp_path / scenario.name)
    print(page(outcome))
    assert outcome.passed, page(outcome)
