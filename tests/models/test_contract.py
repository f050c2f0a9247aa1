"""Every mismatch between events and a model is found at once, and says what to do."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest

from models.bundle import Bundle
from models.contract import ACCEPTED, mismatches
from models.manifest import Manifest
from tests.models import graphs

GOOD = {
    "a_float": pl.Float64,
    "a_double": pl.Float32,
    "an_int": pl.Int32,
    "a_bool": pl.Boolean,
    "a_string": pl.Enum(["x", "y"]),
}


@pytest.fixture(scope="module")
def manifest() -> Manifest:
    return Bundle.build(name="types", model=graphs.many_types()).manifest


def test_fitting_columns_have_no_mismatch(manifest: Manifest) -> None:
    assert mismatches(GOOD, manifest, {"a_float": 0, "an_int": 1, "a_bool": True, "a_string": "x"}) == []


def test_an_avro_schema_is_checked_as_its_columns_are(manifest: Manifest) -> None:
    fields = [
        {"name": "a_float", "type": ["null", "double"]},
        {"name": "a_double", "type": "float"},
        {"name": "an_int", "type": "long"},
        {"name": "a_bool", "type": "boolean"},
        {"name": "a_string", "type": {"type": "enum", "name": "E", "symbols": ["x"]}},
    ]
    assert mismatches({"type": "record", "name": "R", "fields": fields}, manifest, {}) == []
    (found,) = mismatches({"type": "record", "name": "R", "fields": fields[1:]}, manifest, {})
    assert "'a_float' of input 'a_float' of model types is not a field of the event schema" in found


def test_every_mismatch_is_listed_at_once(manifest: Manifest) -> None:
    columns = {**GOOD, "an_int": pl.Float64, "a_string": pl.Int64, "a_boool": pl.Boolean}
    del columns["a_bool"], columns["a_float"]
    found = mismatches(columns, manifest, {"a_double": "high", "nonsense": 1})
    assert [text.split(" of ")[0] for text in found] == [
        "feature 'a_float'",
        "missing.a_double: 'high' cannot stand in for a double",
        "feature 'an_int'",
        "feature 'a_bool'",
        "feature 'a_string'",
        "missing.nonsense: the event schema has no such field",
    ]


@pytest.mark.parametrize(
    ("change", "missing", "said"),
    [
        ({"an_int": pl.Float64}, {}, "declare the field as int, long or boolean"),
        ({"a_bool": pl.Int64}, {}, "declare the field as boolean"),
        ({"a_string": pl.Binary}, {}, "declare the field as string or enum"),
        ({"a_float": pl.Datetime("ms", "UTC")}, {}, "declare the field as double, float, int, long or boolean"),
        ({"a_float": pl.List(pl.Float64)}, {}, "is a float tensor, but the event field is List"),
        ({}, {"an_int": 0.5}, "cannot stand in for a int64"),
        ({}, {"an_int": 2**63}, "9223372036854775808 is beyond what a int64 can hold"),
        ({}, {"an_int": -(2**63) - 1}, "is beyond what a int64 can hold"),
        ({}, {"an_int": 1e19}, "is beyond what a int64 can hold"),
        ({}, {"a_float": 1e39}, "1e\\+39 is beyond what a float can hold"),
        ({}, {"a_double": 10**309}, "is beyond what a double can hold"),
        ({}, {"a_bool": 1}, "cannot stand in for a bool"),
        ({}, {"a_string": 1}, "cannot stand in for a string"),
        ({}, {"a_string": "z"}, r"'z' is not a symbol of the enum \['x', 'y'\]"),
        ({}, {"a_flaot": 1}, "did you mean 'a_float'"),
    ],
)
def test_a_mismatch_says_what_to_do(
    manifest: Manifest, change: dict[str, Any], missing: dict[str, Any], said: str
) -> None:
    import re

    (found,) = mismatches({**GOOD, **change}, manifest, missing)
    assert re.search(said, found), found


def test_a_renamed_field_is_suggested(manifest: Manifest) -> None:
    columns: dict[str, Any] = {**GOOD, "an_integer": pl.Int64}
    del columns["an_int"]
    (found,) = mismatches(columns, manifest, {})
    assert found.endswith("did you mean 'an_integer'?")


def test_what_the_contract_accepts_the_runtime_can_cast() -> None:
    from models.runtimes.columns import POLARS

    samples: dict[Any, list[Any]] = {pl.Boolean: [True], pl.String: ["x"]}
    for tensor, accepted in ACCEPTED.items():
        for dtype in accepted:
            column = (
                pl.Series([*samples.get(dtype, [1])])
                if dtype is not pl.Enum
                else pl.Series(["x"], dtype=pl.Enum(["x"]))
            )
            assert column.cast(POLARS[tensor]).null_count() == 0


@pytest.mark.parametrize(
    "missing",
    [{"an_int": 2**63 - 1}, {"an_int": -(2**63)}, {"a_float": 3.4e38}, {"a_float": float("nan")}, {"a_double": 1e308}],
)
def test_a_stand_in_at_the_edge_of_its_range_fits(manifest: Manifest, missing: dict[str, Any]) -> None:
    assert mismatches(GOOD, manifest, missing) == []
