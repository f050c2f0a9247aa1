"""How good a version is, from counts: every number that can be told from merged cells, and what intervals need."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from monitoring import judging
from monitoring.cells import SPLIT, Cells, Group, Tables
from monitoring.formulas import told_of
from monitoring.judging import BINS, FIXED, LOSS_MOST, SUMS, TOP

THRESHOLD = BINS // 2  # of 64: 0.5
ROWS = 10  # of a calibration table, at most
PRIOR = 20.0  # events as which a bin's own middle counts in the calibration of estimates
Numbers = dict[str, float]


class Share(NamedTuple):
    """Values between 0 and 1 of one tick: how many, their sum and sum of squares."""

    rows: int
    total: float
    squares: float


def threshold_of(value: float) -> int:
    """Return a threshold in 64ths. Raises ValueError where scores are not counted apart there."""
    found = value * BINS
    if not (0 < found < BINS and found.is_integer()):
        raise ValueError(f"{value:g} is no multiple of 1/64 between 0 and 1; scores are counted in 64 bins")
    return int(found)


def numbers_of(what: str, cells: Mapping[int, int], threshold: int = THRESHOLD) -> Numbers:
    """Return the numbers that cells of a kind tell; what cannot be told is left out."""
    if what == "binary":
        return _binary(cells, threshold)
    if what == "multiclass":
        return _multiclass(cells)
    if what == "regression":
        return _regression(cells)
    if what in ("number", "metric"):
        return _moments(cells)
    if what == "scored":
        return {"predicted": sum(cells.values())}
    if what == "predicted":
        found = _moments(cells)
        return {"predicted": found["count"], "mean_prediction": found["mean"]} if found else {}
    if what == "held" and cells.get(judging.COUNT, 0) > 0:
        count = cells[judging.COUNT] * FIXED
        return {"held_mae": cells.get(judging.ABS, 0) / count, "held_bias": cells.get(judging.SUM, 0) / count}
    return _divergence(cells) if what == "divergence" else {}


def shares_of(what: str, cells: Mapping[int, int], name: str = "") -> dict[str, Share]:
    """Return what a tick adds to the confidence sequences of the numbers that are means of values in a known range.

    name: of a metric, which has its range in it.
    """
    if what == "binary":
        tp, fp, fn, tn = _table(cells, THRESHOLD)
        return {
            "accuracy": _yes(tp + tn, tp + fp + fn + tn),
            "precision": _yes(tp, tp + fp),
            "recall": _yes(tp, tp + fn),
            "false_positive_rate": _yes(fp, fp + tn),
            "f1": _yes(tp, tp + fp + fn),  # the Jaccard index, of which F1 is a function
            **_losses(cells, tp + fp + fn + tn),
        }
    if what == "scored":
        rows, hits = rate_of(what, "selection_rate", cells)
        return {"selection_rate": _yes(hits, rows)}
    if what == "multiclass":
        right, count = _right(cells)
        scored = count - cells.get(2 * judging.UNSCORED, 0) - cells.get(2 * judging.UNSCORED + 1, 0)
        return {"accuracy": _yes(right, count), **(_losses(cells, scored) if judging.BRIER in cells else {})}
    if what == "divergence":
        agrees, differs = cells.get(judging.AGREES, 0), cells.get(judging.DIFFERS, 0)
        neither, second, first, both = (cells.get(judging.RIGHT + at, 0) for at in range(4))
        count, ahead, apart = neither + second + first + both, second - first, second + first
        difference = Share(count, (ahead + count) / 2, (apart + 2 * ahead + count) / 4)
        return {"agreement": _yes(agrees, agrees + differs), "accuracy_difference": difference}
    if what == "held":
        count, total, squares = (cells.get(cell, 0) for cell in (judging.COUNT, judging.SUM, judging.SUM_2))
        bias = Share(count, (total / FIXED + count) / 2, (squares / FIXED + 2 * total / FIXED + count) / 4)
        return {"held_mae": Share(count, cells.get(judging.ABS, 0) / FIXED, squares / FIXED), "held_bias": bias}
    return _held_mean(cells, *told_of(name)[1:]) if what == "metric" else {}


def _held_mean(cells: Mapping[int, int], low: float | None, high: float | None) -> dict[str, Share]:
    """Return the share of a metric whose values lie between bounds, moved to 0 to 1."""
    if low is None or high is None:
        return {}
    count, total, squares = (cells.get(cell, 0) for cell in (judging.COUNT, judging.SUM, judging.SUM_2))
    wide, sum_, sum_2 = high - low, total / FIXED, squares / FIXED**2
    return {"mean": Share(count, (sum_ - count * low) / wide, (sum_2 - 2 * low * sum_ + count * low * low) / wide**2)}


def placed(group: Group, number: float) -> float:
    """Return a bound in the units of what is told, from one in 0 to 1 or, of shares of a range, -1 to 1."""
    if group.what == "held":
        return number * float(group.name)
    _, low, high = told_of(group.name) if group.what == "metric" else ("", None, None)
    return number if low is None or high is None else low + number * (high - low)


def rate_of(what: str, rate: str, cells: Mapping[int, int], threshold: int = THRESHOLD) -> tuple[int, int]:
    """Return of how many events a rate is told, and how many of them it counts.

    what, rate: `scored` and `selection_rate`, or `binary` and `recall` or `false_positive_rate`.
    """
    if what == "scored":
        rows = {at: count for at, count in cells.items() if at <= TOP}
        return sum(rows.values()), sum(count for at, count in rows.items() if at > threshold)
    tp, fp, fn, tn = _table(cells, threshold)
    return (tp + fn, tp) if rate == "recall" else (fp + tn, fp)


def unscaled(metric: str, bounds: tuple[float, float]) -> tuple[float, float]:
    """Return the bounds of a number from those of the mean in 0 to 1 that it is a function of."""
    low, high = bounds
    if metric == "f1":
        return 2 * low / (1 + low), 2 * high / (1 + high)
    if metric == "log_loss":
        return low * LOSS_MOST, high * LOSS_MOST
    return (2 * low - 1, 2 * high - 1) if metric in ("accuracy_difference", "held_bias") else (low, high)


def estimated(scored: Mapping[int, int], labelled: Mapping[int, int]) -> Numbers:
    """Return the performance to be expected of scores whose labels are not known: CBPE of merged histograms.

    scored: cells of all predictions. labelled: cells of those with labels, by which scores are calibrated; a bin with
    few labels leans on its middle. Sees a change of the inputs, and is blind to one of what they mean.
    """
    total = sum(scored.values())
    tp = fp = fn = tn = 0.0
    for at, count in scored.items():
        if at > TOP:
            return {}
        right, wrong = labelled.get(2 * at + 1, 0), labelled.get(2 * at, 0)
        positive = (right + PRIOR * _middle(at)) / (right + wrong + PRIOR)
        if at > THRESHOLD:
            tp, fp = tp + count * positive, fp + count * (1 - positive)
        else:
            fn, tn = fn + count * positive, tn + count * (1 - positive)
    if total <= 0:
        return {}
    found = {"estimated_accuracy": (tp + tn) / total}
    if tp + fn > 0:
        found["estimated_recall"] = tp / (tp + fn)
    if tp + fp > 0:
        found |= {"estimated_precision": tp / (tp + fp), "estimated_f1": 2 * tp / (2 * tp + fp + fn)}
    return found


def calibration(cells: Mapping[int, int]) -> list[tuple[float, float, int]]:
    """Return the calibration table of cells `binary` or `multiclass`: mean score (of bins' middles), share, events."""
    rows: dict[int, list[float]] = {}
    for at in range(TOP + 1):
        right, wrong = cells.get(2 * at + 1, 0), cells.get(2 * at, 0)
        if right + wrong > 0:
            row = rows.setdefault(min(int(_middle(at) * ROWS), ROWS - 1), [0.0, 0, 0])
            row[0] += _middle(at) * (right + wrong)
            row[1] += right
            row[2] += right + wrong
    return [(score / count, right / count, int(count)) for _, (score, right, count) in sorted(rows.items())]


def per_class(tables: Mapping[Group, Cells]) -> Numbers:
    """Return precision, recall and F1 of classes, each class counting alike, from the groups `confusion`."""
    pairs = []
    for group, cells in tables.items():
        true, split, said = group.name.partition(SPLIT)
        if split:
            pairs.append((true, said, cells.get(0, 0)))
    classes = sorted({true for true, _, _ in pairs} | {said for _, said, _ in pairs})
    found: dict[str, list[float]] = {"precision": [], "recall": [], "f1": []}
    for name in classes:
        hit = sum(count for true, said, count in pairs if true == said == name)
        said_so = sum(count for _, said, count in pairs if said == name)
        was_so = sum(count for true, _, count in pairs if true == name)
        found["precision"].append(hit / said_so if said_so > 0 else 0.0)
        found["recall"].append(hit / was_so if was_so > 0 else 0.0)
        found["f1"].append(2 * hit / (said_so + was_so) if said_so + was_so > 0 else 0.0)
    return {name: math.fsum(values) / len(values) for name, values in found.items() if values}


def _middle(at: int) -> float:
    return 0.0 if at == 0 else 1.0 if at == TOP else (at - 0.5) / BINS


def _yes(hits: int, count: int) -> Share:
    return Share(count, hits, hits)


def _table(cells: Mapping[int, int], threshold: int) -> tuple[int, int, int, int]:
    """Return true and false positives, false and true negatives."""
    tp = fp = fn = tn = 0
    for cell, count in cells.items():
        if cell < SUMS:
            said, true = cell // 2 > threshold, cell % 2
            tp, fp = tp + count * (said and true), fp + count * (said and not true)
            fn, tn = fn + count * (not said and true), tn + count * (not said and not true)
    return tp, fp, fn, tn


def _losses(cells: Mapping[int, int], count: int) -> dict[str, Share]:
    brier, brier_2, loss, loss_2 = (cells.get(cell, 0) / FIXED for cell in range(SUMS, SUMS + 4))
    return {
        "brier": Share(count, brier, brier_2),
        "log_loss": Share(count, loss / LOSS_MOST, loss_2 / LOSS_MOST**2),
    }


def _binary(cells: Mapping[int, int], threshold: int) -> Numbers:
    tp, fp, fn, tn = _table(cells, threshold)
    count = tp + fp + fn + tn
    if count <= 0:
        return {}
    found: Numbers = {"labelled": count, "positives": (tp + fn) / count, "accuracy": (tp + tn) / count}
    if tp + fp > 0:
        found["precision"] = tp / (tp + fp)
    if tp + fn > 0:
        found["recall"] = tp / (tp + fn)
    if tp + fp + fn > 0:
        found["f1"] = 2 * tp / (2 * tp + fp + fn)
    if fp + tn > 0:
        found["false_positive_rate"] = fp / (fp + tn)
    found |= {
        "brier": cells.get(judging.BRIER, 0) / FIXED / count,
        "log_loss": cells.get(judging.LOSS, 0) / FIXED / count,
    }
    found["ece"] = _ece(cells, count)
    if (area := _auc(cells)) is not None:
        found["auc"] = area
    return found


def _ece(cells: Mapping[int, int], count: int) -> float:
    return math.fsum(abs(score - share) * rows for score, share, rows in calibration(cells)) / count


def _auc(cells: Mapping[int, int]) -> float | None:
    """Return the chance that a positive has a higher score than a negative; within a bin they count as ties."""
    below, area, positives = 0, 0.0, 0
    for at in range(TOP + 1):
        wrong, right = max(cells.get(2 * at, 0), 0), max(cells.get(2 * at + 1, 0), 0)
        area += right * (below + wrong / 2)
        below, positives = below + wrong, positives + right
    return area / below / positives if below and positives else None


def _right(cells: Mapping[int, int]) -> tuple[int, int]:
    counted = [(cell % 2, count) for cell, count in cells.items() if cell < SUMS]
    return sum(count for right, count in counted if right), sum(count for _, count in counted)


def _multiclass(cells: Mapping[int, int]) -> Numbers:
    right, count = _right(cells)
    if count <= 0:
        return {}
    found: Numbers = {"labelled": count, "accuracy": right / count}
    scored = count - cells.get(2 * judging.UNSCORED, 0) - cells.get(2 * judging.UNSCORED + 1, 0)
    if scored > 0 and judging.BRIER in cells:
        found |= {
            "brier": cells[judging.BRIER] / FIXED / scored,
            "log_loss": cells.get(judging.LOSS, 0) / FIXED / scored,
        }
        found["ece"] = _ece(cells, scored)
    return found


def _regression(cells: Mapping[int, int]) -> Numbers:
    count = cells.get(judging.COUNT, 0)
    if count <= 0:
        return {}
    squares, truth, truth_2 = (cells.get(cell, 0) for cell in (judging.SUM_2, judging.TRUE, judging.TRUE_2))
    found: Numbers = {
        "labelled": count,
        "bias": cells.get(judging.SUM, 0) / FIXED / count,
        "mae": cells.get(judging.ABS, 0) / FIXED / count,
        "rmse": math.sqrt(max(squares / count, 0)) / FIXED,
    }
    spread = truth_2 * count - truth * truth  # exact, in whole numbers
    if spread > 0:
        found["r2"] = 1 - squares * count / spread
    return found


def _moments(cells: Mapping[int, int]) -> Numbers:
    count, total, squares = (cells.get(cell, 0) for cell in (judging.COUNT, judging.SUM, judging.SUM_2))
    if count <= 0:
        return {}
    spread = max(squares * count - total * total, 0)
    return {
        "count": count,
        "mean": total / FIXED / count,
        "sd": math.sqrt(spread) / FIXED / count,
        "sum": total / FIXED,
    }


def _divergence(cells: Mapping[int, int]) -> Numbers:
    agrees, differs = cells.get(judging.AGREES, 0), cells.get(judging.DIFFERS, 0)
    if agrees + differs <= 0:
        return {}
    found: Numbers = {"compared": agrees + differs, "agreement": agrees / (agrees + differs)}
    neither, second, first, both = (cells.get(judging.RIGHT + at, 0) for at in range(4))
    if (count := neither + second + first + both) > 0:
        found |= {"labelled": count, "accuracy_difference": (second - first) / count}
        found |= {"only_first_right": first / count, "only_second_right": second / count}
    closer = [cells.get(judging.CLOSER + at, 0) for at in range(3)]
    if sum(closer) > 0:
        found |= {
            "labelled": sum(closer),
            "first_closer": closer[0] / sum(closer),
            "second_closer": closer[1] / sum(closer),
        }
    if cells.get(judging.DISTANCE, 0) > 0:
        found["mean_difference"] = cells.get(judging.DISTANCE + judging.SUM, 0) / FIXED / cells[judging.DISTANCE]
    return found


def of_one(tables: Tables) -> Iterator[tuple[Group, Tables]]:
    """Yield for each arm, version and value of a segment a group without `what`, and its tables by `what` and name."""
    found: dict[Group, Tables] = {}
    for group, cells in tables.items():
        found.setdefault(group._replace(what="", name=""), {})[group] = cells
    yield from sorted(found.items())
