"""The head of an inference is read without its schema, and whatever else is given is refused with an error."""

from __future__ import annotations

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.heads import read_lineage, read_position
from schemas.inference import InferenceCodec
from schemas.values import Lineage, OutputField

CODEC = InferenceCodec("d", [OutputField("score", "scalar", "double")], [])
LINEAGE = Lineage("d", 7, "active", "m", "v1", "0123456789abcdef", "in", "canary", 0.05, "missing_value")


def encoded(lineage: Lineage = LINEAGE) -> bytes:
    rows = {"source_partition": [3], "source_offset": [2**40], "event_time": [None], "score": [0.5]}
    frame = pl.DataFrame(rows, schema=CODEC.dtypes)
    return CODEC.encode(frame, CODEC.prefix(lineage))[0]


@given(st.text(max_size=300), st.floats(0, 1), st.integers(0, 2**62))
def test_what_was_written_is_read(text: str, propensity: float, revision: int) -> None:
    lineage = Lineage(text, revision, text, text, "v", "", "in", text, propensity, text)
    value = encoded(lineage)
    found, at = read_lineage(value)
    assert found == lineage
    assert read_position(value, at) == (3, 2**40)


def test_a_record_that_is_cut_is_refused() -> None:
    value = encoded()
    _, whole = read_lineage(value)
    for length in range(whole + 1):
        with pytest.raises((IndexError, ValueError)):
            read_position(value[:length], read_lineage(value[:length])[1])


@given(st.binary(max_size=200))
def test_other_bytes_are_read_or_refused_and_never_anything_else(value: bytes) -> None:
    try:
        _, at = read_lineage(value)
        read_position(value, at)
    except (IndexError, ValueError):
        pass
