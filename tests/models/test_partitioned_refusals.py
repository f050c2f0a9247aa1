"""A hierarchy of models that does not fit its events, or cannot be loaded, is refused before anything is scored."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest

from models.bundle import Bundle
from models.contract import mismatches
from models.errors import BundleInvalid, ContractBroken, ModelRefused
from models.runtimes import onnx
from models.runtimes.partitioned import LEAF
from tests.models import graphs
from tests.models.hierarchies import COLUMNS, built, linear, opened


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"country": None}, "field 'country', by which model hierarchy is partitioned, is not a field of the event"),
        ({"city": pl.Int64}, "field 'city', .*has values of string, but the event field is Int64"),
    ],
)
def test_events_that_do_not_tell_the_leaves_apart_are_refused(columns: dict[str, Any], said: str) -> None:
    kept = {name: kind for name, kind in {**COLUMNS, **columns}.items() if kind is not None}
    with pytest.raises(ContractBroken, match=said):
        opened(columns=kept)
    assert mismatches(kept, built().manifest, {})
    assert not mismatches(COLUMNS, built().manifest, {})


def test_a_hierarchy_whose_first_model_cannot_be_loaded_is_refused() -> None:
    broken = graphs.model(
        [graphs.helper.make_node("MatMul", ["x", "absent"], ["score"])],
        [graphs.floats("x", 3)],
        [graphs.floats("score")],
    )
    with pytest.raises(ModelRefused, match=r"cannot be loaded: .*absent"):
        opened(built(model=broken))


def test_loading_warms_up_some_leaves_in_the_sandbox() -> None:
    hungry = graphs.hungry()
    with pytest.raises(ModelRefused, match="leaf DE: it needs more than 2048 MiB of memory"):
        onnx.load(
            Bundle.build(name="h", model=small_hungry(), features=["x"], partition_by="k", leaves={"DE": hungry}),
            {"x": pl.Float64, "k": pl.String},
        )


def small_hungry() -> bytes:
    return graphs.hungry().replace(np.int64(2**32).tobytes(), np.int64(2**10).tobytes())


def test_no_input_can_have_the_name_of_the_leaves() -> None:
    with pytest.raises(BundleInvalid):
        Bundle.build(name="m", model=linear(0, name=LEAF), features=["a", "b", "c"])
