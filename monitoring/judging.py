"""How the cells of counts are laid out, and which cell an event is counted in.

Scores are counted in 64 equal bins and their exact ends; squared errors and log losses are added up in fixed point, so
sums are exact in any order and a correction takes away exactly what was added.
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np

from monitoring.arrays import Doubles, Longs

Task = Literal["binary", "multiclass", "regression"]

BINS = 64
TOP = BINS + 1  # the bin of scores that are exactly 1; 0 is the bin of those that are exactly 0
UNSCORED = BINS + 2  # the bin of classes that were told without a probability
SUMS = 2 * (UNSCORED + 1)  # cells of sums begin here, in this order:
BRIER, BRIER_2, LOSS, LOSS_2 = range(SUMS, SUMS + 4)
FIXED = 1 << 20  # fixed point: of numbers, errors, and per event Brier scores and log losses
CLIP = 1e-6  # probabilities are held to CLIP .. 1 - CLIP in the log loss
LOSS_MOST = -math.log(CLIP)
COUNT, SUM, SUM_2, ABS, TRUE, TRUE_2 = range(6)  # of regressions and numbers: ... |error|, sums of the truth
ERRORS = 1000  # cells of errors, and of divergences of numbers: an exact 0, and half octaves either side
_OCTAVES = (-40, 80)  # smallest and largest half octave
_HALF = math.sqrt(0.5)
DIFFERS, AGREES, BOTH, DISTANCE = 0, 1, 2, 6  # of divergences: agreement; four cells a * 2 + b; distances of numbers
DIFFERENCE = 100  # cells of differences of scores, 64 either side of an exact 0
RIGHT = 300  # four cells: first right * 2 + second right
CLOSER = 310  # first, second, neither


def score_bins(scores: Doubles) -> Longs:
    """Return the bins of scores from 0 to 1; shape (n,)."""
    inside = 1 + (scores * BINS).astype(np.int64)
    return np.where(scores <= 0.0, 0, np.where(scores >= 1.0, TOP, inside))


def error_cells(errors: Doubles) -> Longs:
    """Return the cell of each error: its sign and half octave."""
    low, high = _OCTAVES
    mantissas, exponents = np.frexp(np.abs(errors))
    halves = 2 * exponents.astype(np.int64) - 2 + (mantissas >= _HALF)
    places = np.clip(halves, low, high) - low + 1
    return np.where(errors == 0, ERRORS, ERRORS + places + np.where(errors > 0, 0, high - low + 1))


def differences(distances: Doubles) -> Longs:
    """Return the cell of each difference of two scores."""
    places = np.minimum((np.abs(distances) * BINS).astype(np.int64), BINS - 1) + 1
    found: Longs = DIFFERENCE + BINS + np.sign(distances).astype(np.int64) * places
    return found


def error_size(cell: int) -> float:
    """Return the lower end of the absolute errors that a cell of errors counts."""
    low, high = _OCTAVES
    place = (cell - ERRORS - 1) % (high - low + 1)
    return 0.0 if cell == ERRORS else 2.0 ** ((place + low) / 2)


def task_of(declared: str, truth: str, said: str, width: int) -> Task:
    """Return the task of a label and an output by their kinds; see schemas/avsc/labels.avsc for the kinds."""
    if declared in ("binary", "multiclass", "regression"):
        return declared  # type: ignore[return-value]
    if truth == "boolean":
        return "binary"
    number = said in ("float", "double") and width == 1
    return "regression" if number and truth != "text" else "multiclass"
