"""Quality as Prometheus metrics: every number of every version, of the last hour and of all its time."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Gauge

from monitoring import cells
from monitoring.quality import State
from monitoring.totals import Totals

_LABELS = ("deployment", "arm", "model", "version", "segment", "value", "of", "metric", "window")


class QualityMetrics:
    """Gauges that are set anew when a tick closes."""

    def __init__(self, registry: CollectorRegistry, deployment: str) -> None:
        self._deployment, self._closed = deployment, -1
        self._number = Gauge(
            "penstock_quality", "A number that tells how good a version is", _LABELS, registry=registry
        )
        self._low = Gauge("penstock_quality_low", "Lower bound of its interval", _LABELS, registry=registry)
        self._high = Gauge("penstock_quality_high", "Upper bound of its interval", _LABELS, registry=registry)

    def show(self, state: State) -> None:
        """Take over the numbers of a state."""
        if state.closed == self._closed:
            return
        self._closed = state.closed
        for gauge in (self._number, self._low, self._high):
            gauge.clear()
        recent = Totals(groups=state.totals.groups)
        for _, tables in sorted(state.recent.items()):
            cells.merge(recent.tables, tables)
        self._set(state.totals, "all")
        self._set(recent, "hour")

    def _set(self, totals: Totals, window: str) -> None:
        for told in totals.told():
            place = (self._deployment, *told[:7], window)
            self._number.labels(*place).set(told.number)
            if told.low is not None and told.high is not None:
                self._low.labels(*place).set(told.low)
                self._high.labels(*place).set(told.high)
