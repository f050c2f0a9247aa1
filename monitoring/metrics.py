"""Every metric of a monitor, declared once."""

from __future__ import annotations

import logging
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge

from monitoring import quality
from monitoring.folds import Figure
from monitoring.ledger import Cut, Ledger
from monitoring.quality_metrics import QualityMetrics
from monitoring.sources import PROFILES

log = logging.getLogger(__name__)
ALERTING = (PROFILES, "quality")  # the sources whose folds put out alerts
_WORTH_A_WARNING = {
    "profiles": {
        "poison": "profiles that cannot be read are passed over: who else writes to the profiles topic?",
        "foreign": "profiles of another deployment are passed over: two deployments share a profiles topic",
        "unknown_reference": "events are counted in the bins of a reference that the repository does not have: were "
        "the models removed, or is this another repository than that of the workers?",
        "late": "events were profiled after their tick had been closed, and are not tested: is a producer's clock "
        "wrong?",
        "forced": "ticks are closed although a source partition has not passed them: is a worker missing or far "
        "behind?",
    },
    "labels": {
        "dead_letters": "labels that cannot be read become dead letters: see their headers",
    },
    "samples": {
        "poison": "records that cannot be read are passed over: who else writes to the topic of samples?",
        "gaps": "copies of labels that follow a lost one are left until they come again: did a monitor die just now?",
        "late_events": "predictions came after their window had ended, and are not judged: is a worker far behind?",
        "expired_labels": "labels came after their window had ended, and are not joined: was the monitor away so long?",
        "without_output": "a model has not the output that labels.output names: is it declared rightly?",
        "forced": "ticks are closed before all labels are in: is the monitor far behind?",
    },
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
        self._said: set[tuple[str, int, str]] = set()
        self._position = gauge("position", "Next offset of a partition of what is folded", "source", "partition")
        self._state = gauge(
            "state",
            "Numbers of the fold: records, rows, late, unknown_reference, open_alerts ...",
            "source",
            "partition",
            "what",
        )
        self._distance = gauge(
            "distance", "Of a column's last minute or two from its reference: psi, js, ks", *Figure._fields[:-1]
        )
        self._lost = gauge("lost_records", "Records that retention removed before they were folded", "source")
        self._repeated = gauge("repeated_records", "Records read again after a restart and dropped", "source")
        self._alerts = counter("alert_records", "Alert records published, repeats included")
        self._snapshots = counter("snapshots", "Snapshots published")
        self._quality = QualityMetrics(registry, deployment)

    def show(self, role: str, ledger: Ledger[Any], cut: Cut) -> None:
        """Take over the numbers of a source's ledger after what was cut from it is published."""
        for partition, position in ledger.positions().items():
            self._position.labels(self._deployment, role, partition).set(position)
        for partition, facts in ledger.facts().items():
            for what, number in facts.items():
                if number and what in _WORTH_A_WARNING.get(role, {}) and (role, partition, what) not in self._said:
                    self._said.add((role, partition, what))
                    log.warning("%s: %s (first seen; the metrics count them)", what, _WORTH_A_WARNING[role][what])
                self._state.labels(self._deployment, role, partition, what).set(number)
        if role == PROFILES:
            self._distance.clear()
            for *labels, value in ledger.figures():
                self._distance.labels(self._deployment, *labels).set(value)
        self._lost.labels(self._deployment, role).set(ledger.lost)
        self._repeated.labels(self._deployment, role).set(ledger.repeated)
        for state in ledger.states():
            if isinstance(state, quality.State):
                self._quality.show(state)
        self._alerts.inc(len(cut.outs) if role in ALERTING else 0)
        self._snapshots.inc(len(cut.snapshots))
