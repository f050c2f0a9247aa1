from __future__ import annotations

import io

import fastavro
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.longs import read_long, write_long


@given(st.integers(-(2**63), 2**63 - 1), st.binary(max_size=3))
def test_a_long_is_written_as_fastavro_writes_it_and_read_back(number: int, before: bytes) -> None:
    out = io.BytesIO()
    fastavro.schemaless_writer(out, "long", number)
    assert write_long(number) == out.getvalue()
    assert read_long(before + write_long(number) + b"\x01", len(before)) == (number, len(before) + len(out.getvalue()))


def test_a_long_that_is_cut_off_is_refused() -> None:
    with pytest.raises(IndexError):
        read_long(b"\x80", 0)
