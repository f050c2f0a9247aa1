"""Expressions that users declare: a small part of Python's, parsed and checked here, reckoned elsewhere.

Numbers, names, `+ - * / // %`, comparisons, `and or not`, `A if B else C`, `abs`, `min` and `max`. A name is a field of
the label or an output of the model; `label.NAME` and `output.NAME` say which. Nothing is ever run as Python.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

LONGEST = 500  # characters
DEEPEST = 100  # parts within parts
FUNCTIONS = {"abs": 1, "min": 2, "max": 2}  # and the least number of their arguments
Side = Literal["label", "output"]
_SIDES: tuple[Side, ...] = ("label", "output")
_OPERATORS = (ast.Add, ast.Sub, ast.Mult, ast.Div, ast.FloorDiv, ast.Mod)
_COMPARISONS = (ast.Lt, ast.LtE, ast.Gt, ast.GtE, ast.Eq, ast.NotEq)
_PLAIN = (ast.BoolOp, ast.IfExp, ast.And, ast.Or, ast.Load, *_OPERATORS, *_COMPARISONS, ast.UAdd, ast.USub, ast.Not)


@dataclass(frozen=True, slots=True)
class Name:
    """A name in an expression. side: where it is said to be, None where it is not."""

    name: str
    side: Side | None = None

    def __str__(self) -> str:
        return self.name if self.side is None else f"{self.side}.{self.name}"


@dataclass(frozen=True)
class Expression:
    """A checked expression. Raises ValueError that says what in it is not known, and what is."""

    text: str

    def __post_init__(self) -> None:
        if _depth(self.tree) > DEEPEST:
            raise ValueError(f"{self.text!r}: more than {DEEPEST} parts lie within each other")
        for problem in _problems(self.tree):
            raise ValueError(f"{self.text!r}: {problem}")

    @cached_property
    def tree(self) -> ast.expr:
        """What the text says. Raises ValueError where it is no expression."""
        if len(self.text) > LONGEST:
            raise ValueError(f"an expression of {len(self.text)} characters; {LONGEST} are the most")
        try:
            return ast.parse(self.text.strip(), mode="eval").body
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            why = f"{error.msg} at character {error.offset}" if isinstance(error, SyntaxError) else str(error)
            raise ValueError(f"{self.text!r} is no expression: {why}") from None

    @cached_property
    def names(self) -> list[Name]:
        """The names in it, each once, in order."""
        return sorted({name for node in _operands(self.tree) if (name := name_of(node))}, key=str)

    def fields(self, known: set[str]) -> set[str]:
        """Return the fields of the label that it needs. known: those there are; other plain names are outputs."""
        return {each.name for each in self.names if each.side == "label" or (each.side is None and each.name in known)}

    def outputs(self, known: set[str]) -> set[str]:
        """Return the outputs that it needs. known: fields of the label, see `fields`."""
        return {
            each.name for each in self.names if each.side == "output" or (each.side is None and each.name not in known)
        }


def _depth(tree: ast.expr) -> int:
    deepest, level = 0, list[ast.AST]([tree])
    while level:
        deepest, level = deepest + 1, [child for node in level for child in ast.iter_child_nodes(node)]
    return deepest


def name_of(node: ast.AST) -> Name | None:
    """Return the name that a node is; None for others."""
    if isinstance(node, ast.Name):
        return Name(node.id)
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        return next((Name(node.attr, side) for side in _SIDES if side == node.value.id), None)
    return None


def _operands(node: ast.expr) -> Iterator[ast.AST]:
    """Yield every node, without what a name or a call is made of."""
    yield node
    if name_of(node) is None:
        children = node.args if isinstance(node, ast.Call) else list(ast.iter_child_nodes(node))
        for child in children:
            yield from _operands(child)  # type: ignore[arg-type]


def _problems(tree: ast.expr) -> Iterator[str]:
    for node in _operands(tree):
        if name_of(node) is not None or isinstance(node, _PLAIN):
            continue
        if isinstance(node, ast.Constant):
            if not isinstance(node.value, int | float):
                yield f"{node.value!r} is no number; expressions take numbers, True and False"
            elif abs(node.value) > 1e15:
                yield f"{node.value!r} is too large; numbers up to 1e15 are added up"
        elif isinstance(node, ast.BinOp | ast.UnaryOp):
            if not isinstance(node.op, _PLAIN):
                hint = " (write x * x for x ** 2)" if isinstance(node.op, ast.Pow) else ""
                yield f"{ast.unparse(node)}: this operator is not known; there are + - * / // %{hint}"
        elif isinstance(node, ast.Compare):
            if not all(isinstance(each, _COMPARISONS) for each in node.ops):
                yield f"{ast.unparse(node)}: this comparison is not known; there are < <= > >= == !="
        elif isinstance(node, ast.Call):
            yield from _call_problems(node)
        else:
            known = "numbers, names, operators, A if B else C, abs, min and max"
            yield f"{ast.unparse(node)} is not known; there are {known}"


def _call_problems(node: ast.Call) -> Iterator[str]:
    name = ast.unparse(node.func)
    if name not in FUNCTIONS:
        yield f"there is no function {name}; there are {', '.join(FUNCTIONS)}"
    elif node.keywords or any(isinstance(each, ast.Starred) for each in node.args):
        yield f"{name} takes values only"
    elif len(node.args) < FUNCTIONS[name] or (name == "abs" and len(node.args) > 1):
        yield f"{name} takes {'one value' if name == 'abs' else 'two values or more'}"
