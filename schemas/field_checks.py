"""Declared checks of fields: a range, a set or a pattern, and what happens to an event that breaks one."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping

import polars as pl

from schemas.deployment import Check
from schemas.errors import DeploymentInvalid
from schemas.values import Rejection

Broken = Callable[[pl.Series], pl.Series]


class FieldChecks:
    """The checks of a deployment over its columns. Raises DeploymentInvalid that lists every check that cannot work."""

    def __init__(
        self, checks: Mapping[str, Check], columns: Mapping[str, pl.DataType], nullable: Mapping[str, bool]
    ) -> None:
        problems = [text for name, check in checks.items() for text in _problems(name, check, columns, nullable)]
        if problems:
            raise DeploymentInvalid(problems)
        self._checks = {name: (check, _broken(check, columns[name])) for name, check in checks.items()}
        self.counted: dict[str, int] = dict.fromkeys(checks, 0)  # rows that broke a check so far, whatever it does

    def again(self) -> FieldChecks:
        """Return the same checks, which count from 0 on."""
        other = copy.copy(self)
        other.counted = dict.fromkeys(self.counted, 0)
        return other

    def apply(self, frame: pl.DataFrame) -> tuple[pl.DataFrame, list[Rejection]]:
        """The frame with fields set to null where declared, and a rejection per row to drop (row = frame row)."""
        rejected: dict[int, Rejection] = {}
        for name, (check, broken) in self._checks.items():
            series = frame.get_column(name)
            mask = broken(series).fill_null(False)
            if not mask.any():
                continue
            self.counted[name] += int(mask.sum())
            if check.otherwise == "null":
                cleared = series.zip_with(~mask, pl.Series([None], dtype=series.dtype))
                frame = frame.with_columns(cleared.alias(name))
            elif check.otherwise == "dead_letter":
                for row in mask.arg_true().to_list():
                    detail = f"{name} is {_short(series[row])}, not {_words(check)}"
                    rejected.setdefault(row, Rejection(row, "check_failed", detail))
        return frame, [rejected[row] for row in sorted(rejected)]


def _problems(name: str, check: Check, columns: Mapping[str, pl.DataType], nullable: Mapping[str, bool]) -> list[str]:
    place = f"input.checks.{name}"
    if name not in columns:
        return [f"{place}: the event schema has no such column; it has {', '.join(columns)}"]
    dtype, found = columns[name], []
    if (check.min is not None or check.max is not None) and not dtype.is_numeric():
        found.append(f"{place}: min and max need a number, this column is {dtype}")
    if check.pattern is not None and not isinstance(dtype, pl.String | pl.Enum):
        found.append(f"{place}: pattern needs text, this column is {dtype}")
    elif check.pattern is not None:
        found += _pattern_problem(check.pattern, place)
    if check.one_of is not None and not all(_fits(value, dtype) for value in check.one_of):
        found.append(f"{place}: one_of {check.one_of} does not fit a column of {dtype}")
    if check.otherwise == "null" and not nullable.get(name, False):
        found.append(
            f'{place}: otherwise "null" needs a nullable field; make its type ["null", ...] in the event schema'
        )
    return found


def _pattern_problem(pattern: str, place: str) -> list[str]:
    """Columns are matched in linear time, by an engine without look-around and back references."""
    try:
        pl.Series([""]).str.contains(_whole(pattern))
    except pl.exceptions.PolarsError as error:
        return [f"{place}: pattern {pattern!r} cannot be used: {' '.join(str(error).split())}"]
    return []


def _whole(pattern: str) -> str:
    return f"^(?:{pattern})$"


def _fits(value: str | int | bool, dtype: pl.DataType) -> bool:
    if isinstance(value, bool):
        return dtype == pl.Boolean()
    return dtype.is_numeric() if isinstance(value, int) else isinstance(dtype, pl.String | pl.Enum)


def _broken(check: Check, dtype: pl.DataType) -> Broken:
    """Rows that break the check; null breaks none, NaN breaks every range."""

    def broken(series: pl.Series) -> pl.Series:
        bad = pl.zeros(len(series), dtype=pl.Boolean(), eager=True)
        if check.min is not None:
            bad = bad | (series < check.min)
        if check.max is not None:
            bad = bad | (series > check.max)
        if dtype.is_float() and (check.min is not None or check.max is not None):
            bad = bad | series.is_nan()
        text = series.cast(pl.String()) if isinstance(dtype, pl.Enum) else series
        if check.one_of is not None:
            wide = text.cast(pl.Int64()) if dtype.is_integer() else text
            bad = bad | ~wide.is_in(pl.Series(check.one_of, dtype=wide.dtype, strict=False))
        if check.pattern is not None:
            bad = bad | ~text.str.contains(_whole(check.pattern))
        return bad

    return broken


def _words(check: Check) -> str:
    parts = [] if check.min is None else [f"at least {check.min:g}"]
    parts += [] if check.max is None else [f"at most {check.max:g}"]
    parts += [] if check.one_of is None else [f"one of {check.one_of}"]
    parts += [] if check.pattern is None else [f"of the pattern {check.pattern}"]
    return " and ".join(parts)


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
