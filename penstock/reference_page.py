"""A reference for a person: every column with its bins and their shares, as text or as one JSON object."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from models.binning import Numbers
from models.reference import Reference, Slice
from penstock.errors import ConfigError
from penstock.pages import clean, shortened

BAR = 40  # characters of the longest bar
LABEL = 32  # characters of a bin's name


def chosen(reference: Reference, names: Sequence[str]) -> list[Slice]:
    """Return the columns of these names, in the reference's order; none named: all. Raises ConfigError."""
    known = [part.name for part in reference.slices]
    if unknown := [name for name in names if name not in known]:
        raise ConfigError(f"the reference has no column {unknown[0]!r}; it has {', '.join(known)}")
    return [part for part in reference.slices if not names or part.name in names]


def content(reference: Reference, names: Sequence[str] = ()) -> dict[str, Any]:
    """Return what the reference holds as plain values. Raises ConfigError for a column that it has not."""
    columns = []
    for part in chosen(reference, names):
        counts = reference.tally.cells[part.start : part.end].tolist()
        rows = max(sum(counts), 1)
        bins = [{"bin": part.bins.label(at), "count": count, "share": count / rows} for at, count in enumerate(counts)]
        kind = "number" if isinstance(part.bins, Numbers) else "category"
        columns.append({"kind": part.kind, "name": part.name, "type": kind, "bins": bins})
    return {"digest": reference.digest, "rows": reference.tally.rows, "columns": columns}


def text(reference: Reference, names: Sequence[str] = ()) -> str:
    """Return the same as lines. Raises ConfigError for a column that the reference has not."""
    told = content(reference, names)
    head = f"reference {told['digest']} of {told['rows']:,} rows, {len(told['columns'])} columns"
    return "\n".join([head, *(line for column in told["columns"] for line in _lines(column))]) + "\n"


def _lines(column: dict[str, Any]) -> Iterator[str]:
    yield ""
    yield f"{column['kind']} {clean(column['name'])} ({column['type']})"
    most = max(each["share"] for each in column["bins"]) or 1.0
    for each in column["bins"]:
        bar = "#" * round(BAR * each["share"] / most)
        label = shortened(clean(each["bin"]), LABEL)
        yield f"  {label:<{LABEL}} {each['share']:>8.3%} {each['count']:>14,}  {bar}".rstrip()
