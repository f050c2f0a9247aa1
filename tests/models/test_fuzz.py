"""Altered models and bundles end as errors of ours: no crash, no other exception."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.bundle import Bundle
from models.errors import ModelError
from models.graph import examine
from models.manifest import Manifest
from models.runtimes.onnx import load
from tests.models import graphs


def altered(content: bytes, rng: random.Random) -> bytes:
    data = bytearray(content)
    for _ in range(rng.randint(1, 4)):
        place = rng.randrange(len(data))
        match rng.randrange(4):
            case 0:
                data[place] = rng.randrange(256)
            case 1:
                del data[place : place + rng.randint(1, 9)]
            case 2:
                data[place:place] = data[max(0, place - 9) : place]
            case _:
                data[place] ^= 1 << rng.randrange(8)
        data = data or bytearray(b"\0")
    return bytes(data)


def survives(read: Callable[[bytes], Any], content: bytes) -> bool:
    try:
        read(content)
    except ModelError:
        return False
    return True


@pytest.mark.parametrize("model", [graphs.linear(), graphs.zipmap(), graphs.looping(), graphs.many_types()])
def test_an_altered_model_is_examined_or_refused(model: bytes) -> None:
    rng = random.Random(3)
    outcomes = {survives(examine, altered(model, rng)) for _ in range(1500)}
    assert outcomes == {True, False}


@pytest.mark.parametrize("read", [Bundle.read, Manifest.from_json])
def test_an_altered_zip_or_manifest_is_read_or_refused(read: Callable[[bytes], Any]) -> None:
    bundle, rng = graphs.linear_bundle(), random.Random(4)
    content = bundle.to_zip() if read == Bundle.read else bundle.parts["manifest.json"]
    outcomes = {survives(read, altered(content, rng)) for _ in range(1500)}
    assert outcomes == {True, False}


NUMBERS = st.none() | st.floats() | st.floats(-1e3, 1e3)
MODELS = {
    policy: load(
        graphs.linear_bundle(missing={"b": 2.0, "c": float("nan")}, not_finite=policy),
        dict.fromkeys("abc", pl.Float64),
        {},
        bounds=None,
    )
    for policy in ("refuse", "pass")
}


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(NUMBERS, NUMBERS, NUMBERS), max_size=40), st.sampled_from(["refuse", "pass"]))
def test_each_row_is_taken_or_refused_as_it_would_be_by_itself(rows: list[tuple[Any, ...]], policy: str) -> None:
    frame = pl.DataFrame(rows, schema=dict.fromkeys("abc", pl.Float64), orient="row")
    prepared = MODELS[policy].prepare(frame)
    taken = list(range(len(rows))) if prepared.rows is None else prepared.rows.tolist()
    assert sorted([*taken, *(refused.row for refused in prepared.refused)]) == list(range(len(rows)))
    for at, row in zip(taken, prepared.inputs["x"], strict=True):
        expected = [
            given if given is not None else other for given, other in zip(rows[at], (0, 2, np.nan), strict=True)
        ]
        with np.errstate(over="ignore"):
            np.testing.assert_array_equal(row, np.array(expected, "f8").astype("f4"))
    with np.errstate(over="ignore"):
        wild = [any(v is not None and not np.isfinite(np.float32(v)) for v in row) for row in rows]
    refused = [row[0] is None or (policy == "refuse" and wild[at]) for at, row in enumerate(rows)]
    assert [row.row for row in prepared.refused] == [at for at, is_refused in enumerate(refused) if is_refused]
