"""What a lineage has looked like of late, and how far that is from its reference."""

from __future__ import annotations

import json

import numpy as np
from prometheus_client import CollectorRegistry, generate_latest

from models.reference import Tally
from monitoring.folds import Record
from monitoring.ledger import Ledger
from monitoring.metrics import MonitorMetrics
from monitoring.profiles import ProfileFold
from monitoring.recent import Recent
from tests.monitoring.traffic import DEPLOYMENT, Batches, profiler, reference


def _tally(rows: int) -> Tally:
    return Tally(rows, np.array([rows, 0]))


def test_it_holds_this_minute_and_the_one_before() -> None:
    recent = Recent(1000)
    assert recent.tally is None
    for tick in range(150):
        recent.add(tick, _tally(1))
    assert recent.tally == _tally(90)
    recent.add(1000, _tally(5))
    assert recent.tally == _tally(5)


def test_it_survives_its_dump() -> None:
    recent, again = Recent(1000), Recent(1000)
    for tick in range(100):
        recent.add(tick, _tally(2))
    again.load(json.loads(json.dumps(recent.dump())))
    recent.add(125, _tally(1))
    again.add(125, _tally(1))
    assert again.tally == recent.tally == _tally(81)


def test_the_metrics_tell_how_far_each_column_is_from_its_reference() -> None:
    fold = ProfileFold(DEPLOYMENT, {reference().digest: reference()}, 4)
    ledger, registry = Ledger(fold), CollectorRegistry()
    ledger.own([0])
    ledger.restore(0, None, 0)
    source = Batches(profiler())
    for at, value in enumerate(source.batches(20, shift=1.0)):
        ledger.accept(Record(0, at, None, value), at)
    MonitorMetrics(registry, DEPLOYMENT).show("profiles", ledger, ledger.cut())
    text = generate_latest(registry).decode()

    def told(column: str, measure: str) -> float:
        labels = {"deployment": DEPLOYMENT, "arm": "active", "version": "v1", "column": column, "measure": measure}
        value = registry.get_sample_value("penstock_monitor_distance", labels)
        assert value is not None, text
        return value

    assert told("wind", "psi") > 0.5 > 0.1 > told("rain", "psi") > 0
    assert told("wind", "ks") > 0.3 > 0.1 > told("rain", "ks")
    assert told("wind", "js") > 0.2 > told("rain", "js")
