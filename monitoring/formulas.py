"""Metrics of one's own: a declared expression over a prediction and its label, reckoned for whole columns.

A value that is missing is NaN, and so is what is made of it; it is not counted. What is counted is added up in fixed
point, as further numbers of labels are. Where bounds are declared, values are held to them, and their mean has an
interval.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import reduce
from typing import Any

import numpy as np

from monitoring.arrays import Doubles
from monitoring.cells import SPLIT
from schemas.expressions import Expression, name_of

Columns = dict[str, Doubles]  # "label.NAME" and "output.NAME"
Reckon = Callable[[Columns], Any]
_OPERATORS: dict[type[ast.AST], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: np.divide,
    ast.FloorDiv: np.floor_divide,
    ast.Mod: np.remainder,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}


@dataclass(frozen=True)
class Formula:
    """A metric. fields: of the label's extras, in their order; truth: the field that is the truth. outputs: likewise.

    low, high: that values are held to, both or neither.
    """

    name: str
    expression: Expression
    truth: str = ""
    fields: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    low: float | None = None
    high: float | None = None
    _reckon: Reckon = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        known = {self.truth, *self.fields}
        object.__setattr__(self, "_reckon", _compiled(self.expression.tree, known))

    @property
    def of_labels(self) -> bool:
        """Say whether no output is in it: then it is counted for who the event was assigned to alone."""
        return not self.expression.outputs({self.truth, *self.fields})

    @property
    def told(self) -> str:
        """The name of its counts, which has the bounds in it."""
        return self.name if self.low is None else SPLIT.join((self.name, repr(self.low), repr(self.high)))

    def values(self, said: Doubles, label: Doubles, truth: Doubles) -> Doubles:
        """Return its values; NaN where it has none. said, label: extras, shape (n, k) each. truth: shape (n,)."""
        columns = {f"output.{name}": said[:, at] for at, name in enumerate(self.outputs)}
        columns |= {f"label.{name}": label[:, at] for at, name in enumerate(self.fields)}
        columns[f"label.{self.truth}"] = truth
        with np.errstate(all="ignore"):
            found = np.array(np.broadcast_to(self._reckon(columns), truth.shape), np.float64)
        return found if self.low is None else np.clip(found, self.low, self.high)


def told_of(name: str) -> tuple[str, float | None, float | None]:
    """Return name and bounds from the name of the counts of a metric."""
    first, split, bounds = name.partition(SPLIT)
    if not split:
        return first, None, None
    low, _, high = bounds.partition(SPLIT)
    return first, float(low), float(high)


def _compiled(node: ast.expr, known: set[str]) -> Reckon:
    """Return what reckons a checked expression. known: fields of the label."""
    if (name := name_of(node)) is not None:
        side = name.side or ("label" if name.name in known else "output")
        key = f"{side}.{name.name}"
        return lambda columns: columns[key]
    if isinstance(node, ast.Constant):
        number = float(node.value)  # type: ignore[arg-type]
        return lambda columns: np.float64(number)
    if isinstance(node, ast.Compare):
        return _comparison(node, known)
    parts = [_compiled(each, known) for each in _parts(node)]
    made = _made(node)
    return lambda columns: made([part(columns) for part in parts])


def _parts(node: ast.expr) -> Sequence[ast.expr]:
    if isinstance(node, ast.BinOp):
        return node.left, node.right
    if isinstance(node, ast.UnaryOp):
        return (node.operand,)
    if isinstance(node, ast.BoolOp):
        return node.values
    if isinstance(node, ast.IfExp):
        return node.test, node.body, node.orelse
    assert isinstance(node, ast.Call)
    return node.args


def _made(node: ast.expr) -> Callable[[list[Any]], Any]:
    """Return what is made of the values of a node's parts."""
    if isinstance(node, ast.BinOp):
        of_two = _OPERATORS[type(node.op)]
        return lambda found: of_two(found[0], found[1])
    if isinstance(node, ast.UnaryOp):
        signs: dict[type[ast.AST], Callable[[Any], Any]] = {
            ast.USub: operator.neg,
            ast.UAdd: operator.pos,
            ast.Not: lambda found: _where_known(found == 0, found),
        }
        of_one = signs[type(node.op)]
        return lambda found: of_one(found[0])
    if isinstance(node, ast.BoolOp):
        of_all = np.logical_and if isinstance(node.op, ast.And) else np.logical_or
        return lambda found: _where_known(reduce(of_all, [each != 0 for each in found]), *found)
    if isinstance(node, ast.IfExp):
        return lambda found: _where_known(np.where(found[0] != 0, found[1], found[2]), found[0])
    assert isinstance(node, ast.Call)
    name = ast.unparse(node.func)
    if name == "abs":
        return lambda found: np.abs(found[0])
    least = np.minimum if name == "min" else np.maximum
    return lambda found: reduce(least, found)


def _comparison(node: ast.Compare, known: set[str]) -> Reckon:
    """Return what compares each value with the one behind it."""
    parts = [_compiled(each, known) for each in (node.left, *node.comparators)]
    operators = [_OPERATORS[type(each)] for each in node.ops]

    def reckon(columns: Columns) -> Any:
        found = [part(columns) for part in parts]
        held = [of_two(found[at], found[at + 1]) for at, of_two in enumerate(operators)]
        return _where_known(reduce(np.logical_and, held), *found)

    return reckon


def _where_known(found: Any, *among: Any) -> Any:
    """Return values as doubles; NaN where one of those that they were made of is."""
    return np.where(reduce(np.logical_or, [np.isnan(each) for each in among]), np.nan, found)
