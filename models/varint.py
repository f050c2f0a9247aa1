"""LEB128 over whole arrays: small counts, and small steps from value to value, cost a byte each and no call each."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

_BYTES = 9  # of 7 bits hold every non-negative int64
_LIMITS = 1 << (7 * np.arange(1, _BYTES, dtype=np.int64))
_LONGEST_STEP = 1 << 62
_FEW = 16  # numbers of more than a byte that are put in one by one


def pack(values: npt.NDArray[np.int64]) -> bytes:
    """Return the values one after the other, 7 bits a byte, lowest first, the top bit set while more follow."""
    if not len(values) or int(values.max()) < 128:
        return values.astype(np.uint8).tobytes()
    large = np.flatnonzero(values >= 128)
    if len(large) <= _FEW:
        return _spliced(values, large.tolist())
    lengths = np.searchsorted(_LIMITS, values, side="right") + 1
    places = np.arange(int(lengths.max()))
    digits = (values[:, None] >> (7 * places)) & 127
    digits |= (places < lengths[:, None] - 1) << 7
    packed: bytes = digits.astype(np.uint8)[places < lengths[:, None]].tobytes()
    return packed


def _spliced(values: npt.NDArray[np.int64], large: list[int]) -> bytes:
    small, start, pieces = values.astype(np.uint8).tobytes(), 0, []
    for at in large:
        pieces += [small[start:at], _one(int(values[at]))]
        start = at + 1
    return b"".join((*pieces, small[start:]))


def _one(value: int) -> bytes:
    digits = bytearray()
    while value > 127:
        digits.append(value & 127 | 128)
        value >>= 7
    digits.append(value)
    return bytes(digits)


def unpack(data: bytes) -> npt.NDArray[np.int64]:
    """Return the values. Raises ValueError when the last one is cut off or one does not fit int64."""
    digits = np.frombuffer(data, np.uint8)
    if not len(digits):
        return np.zeros(0, np.int64)
    if int(digits.max()) < 128:
        return digits.astype(np.int64)
    ends = np.flatnonzero(digits < 128)
    if not len(ends) or ends[-1] != len(digits) - 1:
        raise ValueError("the last number is cut off")
    starts = np.concatenate(([0], ends[:-1] + 1))
    lengths = ends - starts + 1
    if int(lengths.max()) > _BYTES:
        raise ValueError("a number does not fit 63 bits")
    shifts = np.arange(len(digits)) - np.repeat(starts, lengths)
    return np.add.reduceat((digits & 127).astype(np.int64) << (7 * shifts), starts)


def pack_deltas(values: npt.NDArray[np.int64]) -> bytes:
    """Return the steps from 0 to the first value and on to each next, as zigzag numbers.

    Raises ValueError for a step of 2^62 or more, up or down.
    """
    steps = values.copy()
    steps[1:] -= values[:-1]
    if len(steps) and (int(steps.max()) >= _LONGEST_STEP or int(steps.min()) <= -_LONGEST_STEP):
        raise ValueError("two neighbours are too far apart")
    return pack((steps << 1) ^ (steps >> 63))


def unpack_deltas(data: bytes) -> npt.NDArray[np.int64]:
    """Return the values that `pack_deltas` packed. Raises ValueError as `unpack` does."""
    steps = unpack(data)
    return np.cumsum((steps >> 1) ^ -(steps & 1), dtype=np.int64)


def unpack_parts(parts: Sequence[bytes], sizes: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return the values of many packed arrays end to end. sizes: how many each part has, shape (parts,).

    Raises ValueError where a part has not so many, and as `unpack` does.
    """
    data = b"".join(parts)
    lengths = np.fromiter(map(len, parts), np.int64, len(parts))
    last = np.frombuffer(data, np.uint8) < 128  # bytes of numbers
    ends = np.cumsum(lengths)
    ended = np.concatenate(([0], np.cumsum(last)))
    if (ended[ends] - ended[ends - lengths] != sizes).any() or not last[ends[lengths > 0] - 1].all():
        raise ValueError("a part has not as many numbers as it should have, or its last number is cut off")
    return unpack(data)


def unpack_deltas_parts(parts: Sequence[bytes], sizes: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return the values of many arrays that `pack_deltas` packed, end to end. Raises ValueError as `unpack_parts`."""
    steps = unpack_parts(parts, sizes)
    sums = np.concatenate(([0], np.cumsum((steps >> 1) ^ -(steps & 1), dtype=np.int64)))
    found: npt.NDArray[np.int64] = sums[1:] - np.repeat(sums[np.cumsum(sizes) - sizes], sizes)
    return found
