"""What quality is added up from: sparse counts under names, which merge by addition in any order, signed and exact.

A correction is a count of -1 beside one of +1, so totals say what is known now, however often it changed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from monitoring.errors import PartInvalid

Cells = dict[int, int]
SPLIT = "\x1f"  # between the parts of a name
Lineage = tuple[str, str, str]  # arm, model, version


class Group(NamedTuple):
    """Whose counts: of one version in one arm, of all its events or those of one value of a segment.

    what: how the cells are laid out (monitoring.judging). name: what of it, such as a number's name; else empty.
    """

    arm: str
    model: str
    version: str
    segment: str  # name of the event field, empty for all events
    value: str
    what: str
    name: str = ""


Tables = dict[Group, Cells]


def add(tables: Tables, group: Group, cells: Iterable[tuple[int, int]]) -> None:
    """Add counts; cells that come to 0 are left out, so equal tables are equal values."""
    mine = tables.setdefault(group, {})
    for cell, by in cells:
        now = mine.get(cell, 0) + by
        if now:
            mine[cell] = now
        else:
            mine.pop(cell, None)
    if not mine:
        del tables[group]


def merge(into: Tables, other: Mapping[Group, Cells]) -> None:
    """Add all counts of another table."""
    for group, cells in other.items():
        add(into, group, cells.items())


def pack(cells: Mapping[int, int]) -> bytes:
    """Return the cells in order as LEB128 numbers: distance from the cell before, then the count in zigzag."""
    out, last = bytearray(), 0
    for cell, count in sorted(cells.items()):
        _write(out, cell - last)
        _write(out, count << 1 if count >= 0 else (-count << 1) - 1)
        last = cell
    return bytes(out)


def unpack(data: bytes) -> Cells:
    """Return what was packed; counts may have any size. Raises PartInvalid."""
    numbers, cells, last = list(_read(data)), Cells(), 0
    if len(numbers) % 2:
        raise PartInvalid("a cell without its count; the record was not written by a monitor of this release")
    for distance, count in zip(numbers[::2], numbers[1::2], strict=True):
        last += distance
        cells[last] = count >> 1 if not count & 1 else -((count + 1) >> 1)
    return cells


def _write(out: bytearray, number: int) -> None:
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)


def _read(data: bytes) -> Iterator[int]:
    number, shift = 0, 0
    for byte in data:
        number |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            yield number
            number, shift = 0, 0
    if shift:
        raise PartInvalid("a number is cut off; the record was not written by a monitor of this release")
