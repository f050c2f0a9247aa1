"""What one prediction adds to the counts, alone, beside its label, and beside another arm's prediction of the event.

Scores are counted in 64 equal bins and their exact ends; squared errors and log losses are added up in fixed point, so
sums are exact in any order and a correction takes away exactly what was added.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

from monitoring.cells import Group
from monitoring.judging import (
    ABS,
    AGREES,
    BINS,
    BOTH,
    BRIER,
    BRIER_2,
    CLIP,
    CLOSER,
    COUNT,
    DIFFERENCE,
    DIFFERS,
    DISTANCE,
    ERRORS,
    FIXED,
    LOSS,
    LOSS_2,
    RIGHT,
    SUM,
    SUM_2,
    TOP,
    TRUE,
    TRUE_2,
    UNSCORED,
    Task,
)
from monitoring.ticks import Ticks

Value = float | int | str | bool | tuple[float, ...] | None
Counted = Iterator[tuple[str, str, int, int]]  # what, name, cell, by how much

_OCTAVES = (-40, 80)  # smallest and largest half octave
_LARGEST = 1e15  # numbers beyond it are not usable


def score_bin(score: float) -> int:
    """Return the bin of a score from 0 to 1."""
    if score <= 0.0:
        return 0
    return TOP if score >= 1.0 else 1 + int(score * BINS)


def add(ticks: Ticks, time: int, group: Group, found: Iterable[tuple[int, int]], sign: int = 1) -> None:
    """Add counts to the tick of a time, or to the oldest that is open."""
    tick = time // ticks.tick_ms
    if tick * ticks.tick_ms < ticks.closed:
        tick = ticks.closed // ticks.tick_ms
        ticks.count("moved")
    ticks.put(tick, group, [(cell, sign * by) for cell, by in found])


def error_cell(error: float) -> int:
    """Return the cell of an error: its sign and half octave."""
    if error == 0:
        return ERRORS
    low, high = _OCTAVES
    place = min(max(math.floor(2 * math.log2(abs(error))), low), high) - low + 1
    return ERRORS + (place if error > 0 else high - low + 1 + place)


def scored(task: Task, said: Value) -> Counted:
    """Yield what a prediction counts before its label is known."""
    if task == "regression":
        if (number := _number(said)) is None:
            yield "unusable", "", 0, 1
            return
        yield from (("predicted", "", cell, by) for cell, by in _moments(number))
    elif (probability := _top(task, said)) is not None:
        yield "scored", "", score_bin(probability), 1
    else:
        yield ("scored", "", UNSCORED, 1) if said is not None else ("unusable", "", 0, 1)


def judged(task: Task, said: Value, truth: Value, error_range: float | None = None) -> Counted:
    """Yield what a prediction and its label count. error_range: that errors of numbers are held to for intervals."""
    if task == "binary":
        yield from _binary(said, truth)
    elif task == "multiclass":
        yield from _multiclass(said, truth)
    else:
        yield from _regression(said, truth)
        if error_range is not None:
            yield from _held(said, truth, error_range)


def counted(name: str, number: float) -> Counted:
    """Yield what a further number of a label counts."""
    found = _number(number)
    if found is not None:
        yield from (("number", name, cell, by) for cell, by in _moments(found))


def compared(task: Task, first: Value, second: Value, name: str) -> Counted:
    """Yield what two predictions of one event count; name: whose the second is."""
    if task == "regression":
        one, other = _number(first), _number(second)
        if one is not None and other is not None:
            yield "divergence", name, AGREES if one == other else DIFFERS, 1
            yield from (("divergence", name, DISTANCE + cell, by) for cell, by in _moments(other - one))
            yield "divergence", name, error_cell(other - one), 1
        return
    left, right = _class(task, first), _class(task, second)
    if left is None or right is None:
        return
    yield "divergence", name, AGREES if left == right else DIFFERS, 1
    if task == "binary":
        yield "divergence", name, BOTH + 2 * int(left) + int(right), 1
        yield "divergence", name, _difference(float(_top(task, second) or 0.0) - float(_top(task, first) or 0.0)), 1


def won(task: Task, first: Value, second: Value, truth: Value, name: str) -> Counted:
    """Yield who was right about one event."""
    if task == "regression":
        one, other, real = _number(first), _number(second), _number(truth)
        if one is not None and other is not None and real is not None:
            near, far = abs(one - real), abs(other - real)
            yield "divergence", name, CLOSER + (2 if near == far else int(far < near)), 1
        return
    left, right, true = _class(task, first), _class(task, second), _truth(task, truth)
    if left is not None and right is not None and true is not None:
        yield "divergence", name, RIGHT + 2 * int(left == true) + int(right == true), 1


def _binary(said: Value, truth: Value) -> Counted:
    score, real = _top("binary", said), _truth("binary", truth)
    if score is None or real is None:
        yield "unusable", "", 1, 1
        return
    outcome = int(real)
    yield "binary", "", 2 * score_bin(score) + outcome, 1
    yield from _losses("binary", (score - outcome) ** 2, score if outcome else 1.0 - score)


def _multiclass(said: Value, truth: Value) -> Counted:
    found, real = _class("multiclass", said), _truth("multiclass", truth)
    if found is None or real is None:
        yield "unusable", "", 1, 1
        return
    top = _top("multiclass", said)
    yield "multiclass", "", 2 * (UNSCORED if top is None else score_bin(top)) + int(found == real), 1
    yield "confusion", f"{real}\x1f{found}", 0, 1
    if isinstance(said, tuple):
        place = int(real) if str(real).isdecimal() and int(real) < len(said) else None
        true = said[place] if place is not None else 0.0
        brier = sum(each * each for each in said) - 2 * true + 1
        yield from _losses("multiclass", min(max(brier / 2, 0.0), 1.0), true)


def _losses(what: str, brier: float, probability: float) -> Counted:
    """Yield fixed-point sums of the Brier score (0 to 1) and the log loss, and of their squares."""
    loss = -math.log(min(max(probability, CLIP), 1.0 - CLIP))
    for cell, value in ((BRIER, brier), (BRIER_2, brier * brier), (LOSS, loss), (LOSS_2, loss * loss)):
        yield what, "", cell, round(value * FIXED)


def _regression(said: Value, truth: Value) -> Counted:
    number, real = _number(said), _number(truth)
    if number is None or real is None:
        yield "unusable", "", 1, 1
        return
    error, true = round((number - real) * FIXED), round(real * FIXED)
    cells = {COUNT: 1, SUM: error, SUM_2: error * error, ABS: abs(error), TRUE: true, TRUE_2: true * true}
    cells[error_cell(number - real)] = 1
    yield from (("regression", "", cell, by) for cell, by in cells.items())


def _held(said: Value, truth: Value, most: float) -> Counted:
    """Yield counts of errors held to a range, in shares of it: sums of the error, its size, and their squares."""
    number, real = _number(said), _number(truth)
    if number is not None and real is not None:
        share = min(max((number - real) / most, -1.0), 1.0)
        cells = {COUNT: 1, SUM: round(share * FIXED), SUM_2: round(share * share * FIXED)}
        cells[ABS] = abs(cells[SUM])
        yield from (("held", repr(most), cell, by) for cell, by in cells.items())


def _moments(number: float) -> Iterator[tuple[int, int]]:
    fixed = round(number * FIXED)
    yield from ((COUNT, 1), (SUM, fixed), (SUM_2, fixed * fixed))


def _number(value: Value) -> float | None:
    if isinstance(value, str | tuple) or value is None:
        return None
    return float(value) if math.isfinite(value) and abs(value) <= _LARGEST else None


def _top(task: Task, said: Value) -> float | None:
    """Return the probability that was told: of the positive class, or of the class that was chosen."""
    if task == "binary":
        if isinstance(said, tuple):
            said = said[-1] if len(said) == 2 else None
        number = _number(said)
        return number if number is not None and 0.0 <= number <= 1.0 else None
    return min(max(said), 1.0) if isinstance(said, tuple) and said and min(said) >= 0.0 else None


def _class(task: Task, said: Value) -> str | bool | None:
    """Return the class that was chosen; None where there is none."""
    if task == "binary":
        score = _top(task, said)
        return None if score is None else score >= 0.5
    if isinstance(said, tuple):
        return str(said.index(max(said))) if said and not any(math.isnan(each) for each in said) else None
    return _name(said)


def _truth(task: Task, truth: Value) -> str | bool | None:
    if task == "binary":
        return bool(truth) if isinstance(truth, bool | int | float) and truth in (0, 1) else None
    return _name(truth)


def _name(value: Value) -> str | None:
    """Return the name of a class: 2 and 2.0 are one, True is 1."""
    if isinstance(value, float):
        return None if not math.isfinite(value) else str(int(value)) if value.is_integer() else str(value)
    return None if value is None or isinstance(value, tuple) else str(int(value) if isinstance(value, bool) else value)


def _difference(distance: float) -> int:
    if distance == 0:
        return DIFFERENCE + BINS
    place = min(int(abs(distance) * BINS), BINS - 1) + 1
    return DIFFERENCE + BINS + (place if distance > 0 else -place)
