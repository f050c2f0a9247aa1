"""What a monitor shows of itself."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from monitoring.folds import Record
from monitoring.ledger import Ledger
from monitoring.metrics import MonitorMetrics
from monitoring.profiles import ProfileFold
from tests.monitoring.traffic import DEPLOYMENT, Batches, profiler


def test_what_a_monitor_cannot_test_is_counted_and_said_once(caplog: pytest.LogCaptureFixture) -> None:
    registry = CollectorRegistry()
    metrics = MonitorMetrics(registry, DEPLOYMENT)
    ledger = Ledger(ProfileFold(DEPLOYMENT, {}, 4))
    ledger.own([0])
    ledger.restore(0, None, 0)
    for offset, value in enumerate(Batches(profiler()).batches(3)):
        ledger.accept(Record(0, offset, None, value), offset)
        metrics.show("profiles", ledger, ledger.cut())
    assert caplog.text.count("unknown_reference") == 1
    assert "were the models removed" in caplog.text
    text = generate_latest(registry).decode()
    assert (
        'penstock_monitor_state{deployment="flights",partition="0",source="profiles",what="unknown_reference"} 600.0'
        in text
    )
    assert 'penstock_monitor_snapshots_total{deployment="flights"} 12.0' in text
