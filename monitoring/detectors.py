"""Which detector a deployment's settings ask for."""

from __future__ import annotations

from models.reference import Reference
from monitoring.detector import Detector
from monitoring.rivers import Rivers
from monitoring.settings import Settings
from monitoring.watch import Columns, Watch, columns_of
from monitoring.windows import Windows


class Detectors:
    """Makes the detector of each lineage. What the e-detector bets on is made once for each reference."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._columns: dict[str, Columns] = {}  # by reference

    def new(self, reference: Reference, tick_ms: int) -> Detector:
        """Return a detector that has seen nothing yet."""
        settings = self._settings
        if settings.detector == "windows":
            return Windows(reference, tick_ms, settings)
        if settings.detector != "e_detector":
            return Rivers(settings.detector, reference, tick_ms)
        if reference.digest not in self._columns:
            self._columns[reference.digest] = columns_of(reference, settings.zone)
        return Watch(reference, self._columns[reference.digest], tick_ms, settings)
