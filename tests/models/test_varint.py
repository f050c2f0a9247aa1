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


@given(st.lists(st.integers(100, 2**63 - 1), min_size=17, max_size=60))
def test_many_large_values_are_packed_alike(values: list[int]) -> None:
    packed = varint.pack(np.array(values, np.int64))
    assert packed == _slow(values)
    assert varint.unpack(packed).tolist() == values


@pytest.mark.parametrize("data", [b"\x80", b"\x01\x80", b"\xff" * 10 + b"\x01"])
def test_bytes_that_are_cut_off_or_too_long_are_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="number"):
        varint.unpack(data)


@given(st.lists(st.integers(-(2**61), 2**61 - 1)))
def test_steps_up_and_down_come_back(values: list[int]) -> None:
    assert varint.unpack_deltas(varint.pack_deltas(np.array(values, np.int64))).tolist() == values


def test_small_steps_take_a_byte_each_however_large_the_values() -> None:
    values = 1_700_000_000_000 + np.arange(0, 50_000, 50)
    assert len(varint.pack_deltas(values)) < len(values) + 9


def test_a_step_that_does_not_fit_is_refused_and_not_garbled() -> None:
    with pytest.raises(ValueError, match="too far apart"):
        varint.pack_deltas(np.array([-1, 2**62], np.int64))
