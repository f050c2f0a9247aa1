"""Which messages of a batch are well formed: a walk over all of them at once, before a columnar reader sees any.

The walk steps through the writer's schema once and moves a vector of positions, one per message. A message is good
when its position ends exactly at its own end. What it calls bad is only *not plainly good* (out of spec, or legal but
unusual, like arrays in several blocks): the strict path gives the verdict. What it calls good holds no union index,
boolean or enum out of range, so that a lax reader cannot make anything of it that a strict one would not.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from schemas.nodes import Node

Positions = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]
Step = Callable[["Body", Positions, Mask | None], Positions]
WIDTH = {"null": 0, "float": 4, "double": 8}
PADDING = 16
LONGEST_LOOP = 64  # arrays with more items of varying size are left to the strict path
_HIGH = np.uint64(0x8080808080808080)
_SEVEN = np.uint64(0x7F)
_ONE = np.uint64(1)


class Body:
    """The bytes of a batch, readable at any position as a byte or as the eight bytes from there on."""

    def __init__(self, data: bytes) -> None:
        padded = data + bytes(PADDING)
        self.dead = len(data) + 1  # where messages go that are not good: behind the end of every message
        self.bytes = np.frombuffer(padded, dtype=np.uint8)
        self.words = np.ndarray((len(padded) - 7,), dtype="<u8", buffer=padded, strides=(1,))

    def clamp(self, at: Positions) -> Positions:
        return np.minimum(at, self.dead)


def compile_screen(writer: Node) -> Callable[[bytes, Positions, Positions], Mask]:
    """The walk of one schema: (bytes, start and end of each message) -> mask of the good ones."""
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
        return _boolean
    if node.kind in ("int", "long"):
        return _long
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
    """Fields in order; neighbours of fixed width are one step."""
    steps: list[Step] = []
    run = 0
    for part in node.fields:
        width = width_of(part.type)
        if width is not None:
            run += width
            continue
        if run:
            steps.append(_fixed(run))
            run = 0
        steps.append(_step(part.type))
    if run:
        steps.append(_fixed(run))

    def record(body: Body, at: Positions, on: Mask | None) -> Positions:
        for step in steps:
            at = step(body, at, on)
        return at

    return record


def _fixed(width: int) -> Step:
    return lambda body, at, on: at + width


def _boolean(body: Body, at: Positions, on: Mask | None) -> Positions:
    at = body.clamp(at)
    return np.where(body.bytes[at] > 1, body.dead, at + 1)


def _long(body: Body, at: Positions, on: Mask | None) -> Positions:
    at = body.clamp(at)
    if body.bytes[at].max(initial=0) < 0x80:
        return at + 1
    words = body.words[at]
    stop = ~words & _HIGH
    end = at + _length(stop)
    return end if stop.all() else _long_end(body, at, end, stop)


def _long_end(body: Body, at: Positions, end: Positions, stop: npt.NDArray[np.uint64]) -> Positions:
    """Numbers of nine and ten bytes; longer ones, and those above 64 bits, are not good."""
    rows = np.flatnonzero(stop == 0)
    ninth, tenth = body.bytes[at[rows] + 8], body.bytes[at[rows] + 9]
    end[rows] = np.where(ninth < 0x80, at[rows] + 9, np.where(tenth <= 1, at[rows] + 10, body.dead))
    return end


def _length(stop: npt.NDArray[np.uint64]) -> Positions:
    lowest = stop & (~stop + _ONE)
    length: Positions = ((np.bitwise_count(lowest - _ONE) + 1) >> 3).astype(np.int64)
    return length


def _number(body: Body, at: Positions) -> tuple[Positions, Positions]:
    """(value, end) of a length, count or index at clamped positions; negative and huge ones are -1."""
    first = body.bytes[at]
    if first.max(initial=0) < 0x80:
        raw = first.astype(np.int64)
        return np.where(raw & 1, -1, raw >> 1), at + 1
    words = body.words[at]
    stop = ~words & _HIGH
    length = _length(stop)
    kept = words & ((stop & (~stop + _ONE)) - _ONE)
    value = np.zeros(len(at), dtype=np.uint64)
    for i in range(int(length.max(initial=1))):
        value |= (kept & (_SEVEN << np.uint64(8 * i))) >> np.uint64(i)
    signed = value.astype(np.int64)
    return np.where((signed & 1 == 1) | (stop == 0), -1, signed >> 1), at + length


def _sized(body: Body, at: Positions, on: Mask | None) -> Positions:
    size, end = _number(body, body.clamp(at))
    return np.where((size < 0) | (size > body.dead), body.dead, end + size)


def _enum(symbols: int) -> Step:
    def enum(body: Body, at: Positions, on: Mask | None) -> Positions:
        index, end = _number(body, body.clamp(at))
        return np.where((index < 0) | (index >= symbols), body.dead, end)

    return enum


def _nullable(node: Node) -> Step:
    """A union of null and one other type; the index must take one byte."""
    null = [branch.kind for branch in node.branches].index("null")
    inner, _ = node.nullable()
    null_byte, value_byte = null * 2, (1 - null) * 2
    width = width_of(inner)
    step = _step(inner)

    def nullable(body: Body, at: Positions, on: Mask | None) -> Positions:
        at = body.clamp(at)
        index = body.bytes[at]
        present = index == value_byte
        end: Positions = at + 1
        if width is not None:
            end = end + width * present
        else:
            end = np.where(present, step(body, at + 1, present if on is None else present & on), at + 1)
        if index.max(initial=0) > 2 or (index == 1).any():
            end = np.where(present | (index == null_byte), end, body.dead)
        return end

    return nullable


def _array(items: Node) -> Step:
    """One block of items and the end mark. Several blocks, or negative counts, are legal but not plainly good."""
    width = width_of(items)
    step = _step(items)

    def array(body: Body, at: Positions, on: Mask | None) -> Positions:
        rows = np.arange(len(at)) if on is None else np.flatnonzero(on)
        count, here = _number(body, body.clamp(at[rows]))
        good = (count >= 0) & (count <= body.dead)
        if width is not None:
            here = body.clamp(here + np.where(good, count, 0) * width)
        else:
            good &= count <= LONGEST_LOOP
            here = _items(body, step, here, np.where(good, count, 0))
        empty = count == 0
        closed = empty | (body.bytes[here] == 0)
        end = at.copy()
        end[rows] = np.where(good & closed, here + np.where(empty, 0, 1), body.dead)
        return end

    return array


def _items(body: Body, step: Step, here: Positions, count: Positions) -> Positions:
    left = count.copy()
    for _ in range(int(count.max(initial=0))):
        rows = np.flatnonzero(left > 0)
        here[rows] = body.clamp(step(body, here[rows], None))
        left[rows] -= 1
    return body.clamp(here)
