"""The declared segments of events as text: by their values quality is told, so they must be few and short.

Text stays as it is, cut to its first characters; a number becomes the label of its bin in the reference of the model
that scores, for no label is told by single numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import polars as pl

from models.binning import Numbers, as_floats
from models.frames import chosen
from models.reference import Reference
from schemas.errors import DeploymentInvalid

CHARACTERS = 100  # of a text that are kept
Texts = Callable[[pl.Series], pl.Series]  # null where the value is missing


def segments_of(
    names: Sequence[str], columns: Mapping[str, pl.DataType], reference: Reference | None
) -> dict[str, Texts]:
    """Return what turns each field into text. columns: of the events. reference: of the model whose bins are taken.

    Raises DeploymentInvalid that lists every field that cannot be a segment, and why.
    """
    bins = {each.name: each for each in reference.features if isinstance(each, Numbers)} if reference else {}
    if problems := [text for name in names if (text := _problem(name, columns, bins))]:
        raise DeploymentInvalid(problems)
    return {name: _texts(columns[name], bins.get(name)) for name in names}


def _problem(name: str, columns: Mapping[str, pl.DataType], bins: Mapping[str, Numbers]) -> str | None:
    place = "monitor.segments"
    if name not in columns:
        return f"{place}: the event schema has no column {name!r}; it has {', '.join(columns)}"
    dtype = columns[name]
    if dtype.is_numeric() and name not in bins:
        return (
            f"{place}: {name} is a number, and the reference of the model has no bins for it: add it to the reference, "
            "or take a field of text"
        )
    if not dtype.is_numeric() and not isinstance(dtype, pl.String | pl.Enum | pl.Categorical | pl.Boolean):
        return f"{place}: {name} is {dtype}; segments are text, booleans, or numbers of the model's reference"
    return None


def _texts(dtype: pl.DataType, bins: Numbers | None) -> Texts:
    if dtype.is_numeric():
        assert bins is not None
        return _binned(bins)
    if isinstance(dtype, pl.Boolean):
        return lambda series: series.cast(pl.String)
    return lambda series: series.cast(pl.String).str.head(CHARACTERS)


def _binned(bins: Numbers) -> Texts:
    edges, missing = np.array(bins.edges), bins.size - 1
    labels = pl.Series([*(bins.label(at) for at in range(missing)), None], dtype=pl.String)

    def texts(series: pl.Series) -> pl.Series:
        values = as_floats(series)
        places = np.searchsorted(edges, values, side="right")
        return chosen(labels, np.where(np.isnan(values), missing, places)).alias(series.name)

    return texts
