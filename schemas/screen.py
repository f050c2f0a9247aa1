"""Which messages of a batch are well formed: a walk over all of them at once, before a columnar reader sees any.

The walk steps through the writer's schema once and moves a vector of positions, one per message. A message is good
when its position ends exactly at its own end. What it calls bad is only *not plainly good* (out of spec, or legal but
unusual, like arrays in several blocks): the strict path gives the verdict. What it calls good holds no union index,
boolean or enum out of range, so that a lax reader cannot make anything of it that a strict one would not.

Steps only go forward, and a step that finds something wrong goes FAR: a position once behind the end of its message
stays behind it, so nothing is checked on the way. What such a position reads is clipped to the data and means nothing.
A step costs a few calls of numpy whatever the number of messages, and in small batches these calls are all it costs:
where the first byte of a value says how many bytes to go, a step is one look into a table of 256.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import groupby

import numpy as np
import numpy.typing as npt

from schemas.nodes import Node

Positions = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]
Step = Callable[["Body", Positions, Mask | None], Positions]
WIDTH = {"null": 0, "float": 4, "double": 8}
PADDING = 16  # bytes to have behind the last message, so that any eight bytes from inside a message can be read
FAR = 1 << 40  # further than any message; so many steps of it as a schema can have do not leave 64 bits
LONGEST_LOOP = 64  # arrays with more items of varying size are left to the strict path
_HIGH = np.uint64(0x8080808080808080)
_SEVEN = np.uint64(0x7F)
_ONE = np.uint64(1)


class Body:
    """The bytes of a batch, readable at any position as a byte or as the eight bytes from there on."""

    def __init__(self, data: bytes) -> None:
        self.size = len(data)
        self._last = np.int64(len(data) - 8)
        self._bytes = np.frombuffer(data, dtype=np.uint8)
        self._words = np.ndarray((len(data) - 7,), dtype="<u8", buffer=data, strides=(1,))

    def bytes(self, at: Positions) -> npt.NDArray[np.uint8]:
        return self._bytes.take(at, mode="clip")

    def words(self, at: Positions) -> npt.NDArray[np.uint64]:
        found: npt.NDArray[np.uint64] = self._words[np.minimum(at, self._last)]
        return found


def compile_screen(writer: Node) -> Callable[[bytes, Positions, Positions], Mask]:
    """The walk of one schema: (bytes with PADDING, start and end of each message) -> mask of the good ones."""
    step = _step(writer)

    def screen(data: bytes, starts: Positions, ends: Positions) -> Mask:
        good: Mask = step(Body(data), starts, None) == ends
        return good

    return screen


def _step(node: Node) -> Step:
    if node.kind == "record":
        return _record(node)
    if node.kind in WIDTH or node.kind == "fixed":
        return _fixed(node.size if node.kind == "fixed" else WIDTH[node.kind])
    if node.kind == "boolean":
        return _first_byte({0: 1, 1: 1})
    if node.kind in ("int", "long"):
        return _longs(1)
    if node.kind in ("bytes", "string"):
        return _sized
    if node.kind == "enum":
        return _enum(len(node.symbols))
    if node.kind == "union":
        return _nullable(node)
    assert node.kind == "array"
    assert node.items is not None
    return _array(node.items)


def width_of(node: Node) -> int | None:
    """Bytes that every value takes; None where they vary or must be looked at."""
    if node.kind == "fixed":
        return node.size
    if node.kind == "record":
        widths = [width_of(part.type) for part in node.fields]
        return None if None in widths else sum(width or 0 for width in widths)
    return WIDTH.get(node.kind)


def _record(node: Node) -> Step:
    """Fields in order; neighbours of fixed width are one step, and so are neighbouring numbers."""
    steps: list[Step] = []
    for kind, run in groupby((part.type for part in node.fields), _neighbour):
        if kind == "fixed":
            steps.append(_fixed(sum(width_of(part) or 0 for part in run)))
        elif kind == "long":
            steps.append(_longs(len(list(run))))
        else:
            steps += map(_step, run)

    def record(body: Body, at: Positions, on: Mask | None) -> Positions:
        for step in steps:
            at = step(body, at, on)
        return at

    return record


def _neighbour(node: Node) -> str:
    if width_of(node) is not None:
        return "fixed"
    return "long" if node.kind in ("int", "long") else ""


def _fixed(width: int) -> Step:
    return lambda body, at, on: at + width


def _first_byte(steps: Mapping[int, int]) -> Step:
    """Values whose first byte says how many bytes to go; any other byte is wrong."""
    table = _table(steps)
    return lambda body, at, on: at + table.take(body.bytes(at))


def _table(entries: Mapping[int, int]) -> Positions:
    table = np.full(256, FAR, dtype=np.int64)
    table[list(entries)] = list(entries.values())
    return table


def _longs(count: int) -> Step:
    """Neighbouring numbers; at a time as many as stand whole in the next eight bytes of every message."""

    def longs(body: Body, at: Positions, on: Mask | None) -> Positions:
        left = count
        while left:
            stops = ~body.words(at) & _HIGH  # the high bit of each byte that ends a number
            whole = min(left, int(np.bitwise_count(stops).min(initial=8)))
            for _ in range(whole - 1):
                stops &= stops - _ONE  # without its lowest bit
            at = at + _length(stops) if whole else _long_end(body, at, stops)
            left -= whole or 1
        return at

    return longs


def _length(stops: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint8]:
    """Bytes up to the lowest stop; eight where there is none."""
    return np.bitwise_count(stops ^ (stops - _ONE)) >> np.uint8(3)


def _long_end(body: Body, at: Positions, stops: npt.NDArray[np.uint64]) -> Positions:
    """One number where some have nine or ten bytes; longer ones, and those above 64 bits, are not good."""
    end: Positions = at + _length(stops)
    rows = np.flatnonzero(stops == 0)
    ninth, tenth = body.bytes(at[rows] + 8), body.bytes(at[rows] + 9)
    end[rows] = np.where(ninth < 0x80, at[rows] + 9, np.where(tenth <= 1, at[rows] + 10, FAR))
    return end


_ONE_BYTE = _table({2 * i: i for i in range(64)})


def _number(body: Body, at: Positions) -> tuple[Positions, Positions]:
    """(value, end) of a length, count or index; negative and huge ones are FAR."""
    first = body.bytes(at)
    if first.max(initial=0) < 0x80:
        return _ONE_BYTE.take(first), at + 1
    words = body.words(at)
    stops = ~words & _HIGH
    length = _length(stops)
    kept = words & (stops ^ (stops - _ONE))
    value = np.zeros(len(at), dtype=np.uint64)
    for i in range(int(length.max(initial=1))):
        value |= (kept & (_SEVEN << np.uint64(8 * i))) >> np.uint64(i)
    wrong = (value & _ONE == 1) | (stops == 0)
    return np.where(wrong, FAR, np.minimum(value >> _ONE, FAR)).astype(np.int64), at + length


def _sized(body: Body, at: Positions, on: Mask | None) -> Positions:
    size, end = _number(body, at)
    return end + size


def _enum(symbols: int) -> Step:
    if symbols <= 64:  # an index takes one byte
        return _first_byte({2 * i: 1 for i in range(symbols)})

    def enum(body: Body, at: Positions, on: Mask | None) -> Positions:
        index, end = _number(body, at)
        return np.where(index < symbols, end, FAR)

    return enum


def _nullable(node: Node) -> Step:
    """A union of null and one other type; the index must take one byte."""
    null = [branch.kind for branch in node.branches].index("null")
    inner, _ = node.nullable()
    null_byte, value_byte = null * 2, (1 - null) * 2
    width = width_of(inner)
    if width is not None:
        return _first_byte({null_byte: 1, value_byte: 1 + width})
    index = _first_byte({null_byte: 1, value_byte: 1})
    step = _step(inner)

    def nullable(body: Body, at: Positions, on: Mask | None) -> Positions:
        present = body.bytes(at) == value_byte
        end = index(body, at, on)
        return np.where(present, step(body, end, present if on is None else present & on), end)

    return nullable


def _array(items: Node) -> Step:
    """One block of items and the end mark. Several blocks, or negative counts, are legal but not plainly good."""
    width = width_of(items)
    step = _step(items)

    def array(body: Body, at: Positions, on: Mask | None) -> Positions:
        rows = np.arange(len(at)) if on is None else np.flatnonzero(on)
        count, here = _number(body, at[rows])
        good = count <= (LONGEST_LOOP if width is None else body.size // width)
        fair = np.where(good, count, 0)
        here = _items(body, step, here, fair) if width is None else here + fair * width
        closed = (count == 0) | (body.bytes(here) == 0)
        end = at.copy()
        end[rows] = np.where(good & closed, here + (count > 0), FAR)
        return end

    return array


def _items(body: Body, step: Step, here: Positions, count: Positions) -> Positions:
    here = here.copy()
    left = count.copy()
    for _ in range(int(count.max(initial=0))):
        rows = np.flatnonzero(left > 0)
        here[rows] = np.minimum(step(body, here[rows], None), FAR)
        left[rows] -= 1
    return here
