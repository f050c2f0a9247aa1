"""What became of the flights, as labels: each is published when it is known, in the order of the departures."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

import numpy as np
import polars as pl

from examples.flights.data import Year

KNOWN_AFTER = timedelta(hours=12)  # the scheduled departure: by then the longest flight has landed, or never will


class Labels:
    """Publishes what is known at a moment of the year. send: takes rows of label.avsc. sent: how many labels so far."""

    def __init__(self, year: Year, send: Callable[[pl.DataFrame], object]) -> None:
        self._labels, self._send, self.sent = year.outcomes.select("flight_id", "late"), send, 0
        known = year.events["scheduled_departure"] + KNOWN_AFTER
        self._known = known.dt.epoch("ms").to_numpy()

    def until(self, moment: datetime) -> None:
        """Publish what has become known since the last call. moment: a time of the year's own clock, with its zone."""
        self._publish(int(np.searchsorted(self._known, moment.timestamp() * 1000, side="right")))

    def rest(self) -> None:
        """Publish all that is left."""
        self._publish(len(self._labels))

    def _publish(self, end: int) -> None:
        if end > self.sent:
            self._send(self._labels[self.sent : end])
            self.sent = end
