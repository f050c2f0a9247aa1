"""How a deployment is watched: which detector, how strictly, and when ticks are closed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from monitoring.drift import Shift
from monitoring.episodes import Manners
from monitoring.seasons import Season
from monitoring.tilts import Zone

DetectorName = Literal["windows", "e_detector", "adwin", "page_hinkley", "kswin"]


@dataclass(frozen=True, slots=True)
class Settings:
    """Of one deployment; each detector takes what is its own."""

    detector: DetectorName = "e_detector"
    false_alarms: float = 1.0  # of the e-detector, a week, at most and on average
    budget: Literal["column", "deployment"] = "column"  # what they are counted for
    weights: Mapping[str, float] = field(default_factory=dict)  # of columns in the budget; 1 for others, 0: not tested
    arms: int = 1  # that share the deployment's budget
    design_effect: float | None = None  # events that tell as much as one independent event; None: learned
    zone: Zone = field(default_factory=Zone)  # changes that are not looked for
    rolling: int | None = None  # days of the past that are the reference; None: the bundle's
    season: Season = "none"  # of the past, by which its references are kept apart
    window_rows: int = 5000  # a window is as many closed ticks as hold this many events
    opens: float = 0.2  # PSI beyond chance at which a column deviates
    closes: float = 0.1  # PSI beyond chance below which it is calm
    patience: int = 2  # deviating windows in a row that open an episode
    rest: int = 3  # calm windows in a row that close it
    shift: Shift = field(default_factory=Shift)
    shift_rest: int = 10  # windows without another shift that close its episode
    grace_ms: int = 2000  # a partition has passed a tick when its watermark is this far beyond the tick's end
    open_ticks: int = 600  # of one version; the oldest is closed, and counted, when a partition holds more back
    idle_ms: int = 3_600_000  # a version without events for this long is forgotten, its episodes are closed
    manners: Manners = field(default_factory=Manners)  # when people are told of what
