"""Whether a row's outputs depend on the row alone: the same rows in random splits and orders, compared bit by bit.

A worker cuts the stream into batches as it comes, and a replay cuts it otherwise. Only a model whose outputs do not
depend on a row's neighbours can be verified later, and an inference that depends on them is wrong anyway.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Run = Callable[[Mapping[str, Array]], Sequence[Array]]

ROUNDS = 8
LARGEST_SPLIT = 70  # rows; with padding to 16 this meets every remainder
LARGEST_DIFFERENCE = 1e-3  # relative to values above 1; more is no rounding
MARGIN = 4.0  # the recorded tolerance is this much more than the largest difference seen


class RowsInteract(Exception):
    """The same row got different outputs in different company, or at different times."""


@dataclass(frozen=True, slots=True)
class Finding:
    """bitwise: every output had the same bits each time. tolerance: else the promised difference, relative above 1."""

    bitwise: bool
    tolerance: float
    rows: int
    rounds: int

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def examine_rows(run: Run, inputs: Mapping[str, Array], seed: int = 0, rounds: int = ROUNDS) -> Finding:
    """Score the rows as one batch, then `rounds` times in random order and splits, and compare.

    run: scores arrays and returns one array per output, rows first.
    Raises RowsInteract when outputs differ by more than rounding.
    """
    rows = len(next(iter(inputs.values())))
    rng = np.random.default_rng(seed)
    expected = list(run(inputs))
    bitwise, worst = True, 0.0
    for _ in range(rounds):
        order = rng.permutation(rows)
        pieces = [run({name: array[piece] for name, array in inputs.items()}) for piece in _splits(order, rng)]
        for place, whole in enumerate(expected):
            again = np.concatenate([piece[place] for piece in pieces])
            same, difference = _compare(whole[order], again)
            bitwise, worst = bitwise and same, max(worst, difference)
    if worst > LARGEST_DIFFERENCE:
        raise RowsInteract(
            "the same rows got other outputs in other batches "
            + (f"(difference {worst:.3g})" if np.isfinite(worst) else "(another label, or NaN instead of a number)")
        )
    return Finding(bitwise, 0.0 if bitwise else worst * MARGIN, rows, rounds)


def _splits(order: Array, rng: np.random.Generator) -> Iterator[Array]:
    start = 0
    while start < len(order):
        stop = start + int(rng.integers(1, LARGEST_SPLIT + 1))
        yield order[start:stop]
        start = stop


def _compare(expected: Array, actual: Array) -> tuple[bool, float]:
    """Whether the bits are the same, and the largest difference relative to max(1, |expected|)."""
    if expected.dtype.kind != "f":
        same = bool(np.array_equal(expected, actual))
        return same, 0.0 if same else np.inf
    if expected.tobytes() == actual.tobytes():
        return True, 0.0
    equal = (expected == actual) | (np.isnan(expected) & np.isnan(actual))
    with np.errstate(invalid="ignore", over="ignore"):
        difference = np.abs(expected - actual) / np.maximum(1.0, np.abs(expected))
    return False, float(np.max(np.where(equal, 0.0, np.nan_to_num(difference, nan=np.inf)), initial=0.0))
