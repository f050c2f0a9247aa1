"""Every metric of a monitor, declared once."""

from __future__ import annotations

import logging
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge

from monitoring.folds import Figure
from monitoring.ledger import Cut, Ledger

log = logging.getLogger(__name__)
_WORTH_A_WARNING = {
    "poison": "profiles that cannot be read are passed over: who else writes to the profiles topic?",
    "foreign": "profiles of another deployment are passed over: two deployments share a profiles topic",
    "unknown_reference": "events are counted in the bins of a reference that the repository does not have: were the "
    "models removed, or is this another repository than that of the workers?",
    "late": "events were profiled after their tick had been closed, and are not tested: is a producer's clock wrong?",
    "forced": "ticks are closed although a source partition has not passed them: is a worker missing or far behind?",
}


class MonitorMetrics:
    """Metrics with the deployment bound at the start; what they say for the first time and should not is logged."""

    def __init__(self, registry: CollectorRegistry, deployment: str) -> None:
        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(f"penstock_monitor_{name}", text, ["deployment", *labels], registry=registry)

        def counter(name: str, text: str) -> Any:
            labels = ["deployment"]
            return Counter(f"penstock_monitor_{name}", text, labels, registry=registry).labels(deployment)

        self._deployment = deployment
        self._said: set[tuple[int, str]] = set()
        self._position = gauge("position", "Next offset of the profiles partition", "partition")
        self._state = gauge(
            "state", "Numbers of the fold: records, rows, late, unknown_reference, open_alerts ...", "partition", "what"
        )
        self._distance = gauge(
            "distance", "Of a column's last minute or two from its reference: psi, js, ks", *Figure._fields[:-1]
        )
        self._lost = gauge("lost_records", "Profiles that retention removed before they were folded")
        self._repeated = gauge("repeated_records", "Profiles read again after a restart and dropped")
        self._alerts = counter("alert_records", "Alert records published, repeats included")
        self._snapshots = counter("snapshots", "Snapshots published")

    def show(self, ledger: Ledger[Any], cut: Cut) -> None:
        """Take over the ledger's numbers after what was cut from it is published."""
        for partition, position in ledger.positions().items():
            self._position.labels(self._deployment, partition).set(position)
        for partition, facts in ledger.facts().items():
            for what, number in facts.items():
                if number and what in _WORTH_A_WARNING and (partition, what) not in self._said:
                    self._said.add((partition, what))
                    log.warning("%s: %s (first seen; the metrics count them)", what, _WORTH_A_WARNING[what])
                self._state.labels(self._deployment, partition, what).set(number)
        self._distance.clear()
        for *labels, value in ledger.figures():
            self._distance.labels(self._deployment, *labels).set(value)
        self._lost.labels(self._deployment).set(ledger.lost)
        self._repeated.labels(self._deployment).set(ledger.repeated)
        self._alerts.inc(len(cut.outs))
        self._snapshots.inc(len(cut.snapshots))
