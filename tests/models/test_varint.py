"""LEB128 over arrays, against a loop that does one number at a time."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models import varint


def _slow(values: list[int]) -> bytes:
    out = bytearray()
    for value in values:
        while value > 127:
            out.append(value & 127 | 128)
            value >>= 7
        out.append(value)
    return bytes(out)


@given(st.lists(st.one_of(st.integers(0, 200), st.integers(0, 2**63 - 1))))
def test_packing_equals_the_slow_loop_and_unpacks_to_the_same(values: list[int]) -> None:
    packed = varint.pack(np.array(values, np.int64))
    assert packed == _slow(values)
    assert varint.unpack(packed).tolist() == values


@pytest.mark.parametrize("data", [b"\x80", b"\x01\x80", b"\xff" * 10 + b"\x01"])
def test_bytes_that_are_cut_off_or_too_long_are_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="number"):
        varint.unpack(data)
