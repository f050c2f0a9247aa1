"""Low-rate records: what is encoded is read back, and what is not whole is refused."""

from __future__ import annotations

import contextlib
import random
from importlib import resources
from typing import Any

import pytest
from fastavro.utils import generate_one
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas import nodes, records
from schemas.errors import RecordInvalid
from schemas.wire import fingerprint

NAMES = sorted(
    file.name.removesuffix(".avsc")
    for file in resources.files("schemas").joinpath("avsc").iterdir()
    if file.name.endswith(".avsc")
)


def example(name: str, seed: int = 0) -> Any:
    random.seed(seed)
    return generate_one(records.schema(name))


@pytest.mark.parametrize("name", NAMES)
def test_every_committed_schema_is_one_that_penstock_reads(name: str) -> None:
    nodes.parse(records.schema(name))


@pytest.mark.parametrize("name", NAMES)
def test_what_is_encoded_is_read_back(name: str) -> None:
    for seed in range(20):
        data = records.encode(name, example(name, seed))
        assert data[:10].hex() == f"c301{fingerprint(records.schema(name))}"
        assert records.encode(name, records.decode(name, data)) == data


@pytest.mark.parametrize("name", NAMES)
def test_a_record_that_is_cut_or_too_long_is_refused(name: str) -> None:
    data = records.encode(name, example(name))
    with pytest.raises(RecordInvalid, match=f"the record {name} has trailing bytes"):
        records.decode(name, data + b"\0")
    for size in (0, 9, 10, len(data) - 1):
        with pytest.raises(RecordInvalid, match=f"the record {name}"):
            records.decode(name, data[:size])


def test_an_alert_of_the_release_before_is_read_with_defaults_for_what_it_lacks() -> None:
    before = example("alert.1")
    found = records.decode("alert", records.encode("alert.1", before))
    assert {name: found[name] for name in before} == {**before, **{name: found[name] for name in ("onset", "at")}}
    assert (found["number"], found["group"], found["worst"], found["members"]) == (0, "", "info", [])


def test_the_word_of_a_slot_of_the_release_before_is_read() -> None:
    for seed in range(20):  # some have vitals, others none
        before = example("status.1", seed)
        vitals = records.decode("status", records.encode("status.1", before))["vitals"]
        added = {"counts": {}, "circuits": [], "waits": [], "resources": {}}
        assert vitals == (before["vitals"] and {**before["vitals"], **added})


def test_a_slot_of_the_release_before_says_nothing_of_ages_and_resources() -> None:
    for seed in range(20):
        before = example("status.2", seed)
        found = records.decode("status", records.encode("status.2", before))
        assert found["vitals"] == (before["vitals"] and {**before["vitals"], "resources": {}})
        assert found["arms"] == [{**arm, "created_ms": None, "trained_ms": None} for arm in before["arms"]]


def test_a_record_of_another_schema_is_refused() -> None:
    with pytest.raises(RecordInvalid, match="not the record alert"):
        records.decode("alert", records.encode("profile", example("profile")))


def test_a_record_that_does_not_fit_is_not_encoded() -> None:
    with pytest.raises((ValueError, TypeError, KeyError)):
        records.encode("alert", {})


@given(st.data())
@settings(max_examples=300, deadline=None)
def test_damaged_bytes_are_refused_or_read_never_anything_else(data: st.DataObject) -> None:
    whole = bytearray(records.encode("alert", example("alert")))
    for _ in range(data.draw(st.integers(1, 3))):
        whole[data.draw(st.integers(10, len(whole) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(RecordInvalid):
        records.decode("alert", bytes(whole))
