"""The decoder agrees with strict fastavro on a million random and damaged messages."""

from __future__ import annotations

import resource
from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from schemas.decode import EventDecoder
from schemas.wire import fingerprint, single_object_header
from tests.schemas.fuzz import BATCH, Difference, Known, compare, encode, one_batch, run

MESSAGES = 1_000_000
GROWTH_KIB = 100 * 1024


@pytest.mark.timeout(600)
@pytest.mark.usefixtures("unmeasured")
def test_a_million_fuzzed_messages_differ_from_strict_fastavro_in_nothing_and_memory_does_not_grow() -> None:
    counts = run(50_000, 1)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    counts += run(MESSAGES - 50_000, 2)
    assert counts.total() >= MESSAGES
    assert counts["both accept"] > MESSAGES // 4
    assert counts["refused"] > MESSAGES // 20
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < GROWTH_KIB


def test_the_fuzzer_notices_a_decoder_that_mixes_up_neighbours(monkeypatch: pytest.MonkeyPatch) -> None:
    """The negative control: given a decoder whose rows are off by one, when fuzzed, then a difference is found."""
    honest = EventDecoder.decode

    def shifted(self: EventDecoder, values: Any) -> Any:
        decoded = honest(self, values)
        rows = np.arange(len(values)) if decoded.rows is None else decoded.rows
        return type(decoded)(decoded.frame[np.roll(np.arange(len(rows)), 1)], rows, decoded.rejected, (), None)

    monkeypatch.setattr(EventDecoder, "decode", shifted)
    with pytest.raises(Difference):
        run(20 * BATCH, 1)


KINDS: dict[str, Any] = {
    "double": st.floats(),
    "long": st.integers(-(1 << 63), (1 << 63) - 1),
    "int": st.integers(-(1 << 31), (1 << 31) - 1),
    "string": st.text(),
    "bytes": st.binary(),
    "boolean": st.booleans(),
}


@st.composite
def batches(draw: st.DrawFn) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    fields, values = [], {}
    for i in range(draw(st.integers(1, 5))):
        kind = draw(st.sampled_from(sorted(KINDS)))
        shape = draw(st.sampled_from(["plain", "nullable", "array"]))
        value = KINDS[kind]
        if shape == "nullable":
            fields.append({"name": f"f{i}", "type": ["null", kind]})
            values[f"f{i}"] = st.none() | value
        elif shape == "array":
            fields.append({"name": f"f{i}", "type": {"type": "array", "items": kind}})
            values[f"f{i}"] = st.lists(value, max_size=4)
        else:
            fields.append({"name": f"f{i}", "type": kind})
            values[f"f{i}"] = value
    records = draw(st.lists(st.fixed_dictionaries(values), min_size=1, max_size=8))
    return {"type": "record", "name": "Event", "fields": fields}, records


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(batches(), st.data())
def test_values_found_by_hypothesis_decode_as_strict_fastavro_decodes_them(
    batch: tuple[dict[str, Any], list[dict[str, Any]]], data: st.DataObject
) -> None:
    schema, records = batch
    datums = [encode(schema, record) for record in records]
    if data.draw(st.booleans()):
        spoiled = data.draw(st.integers(0, len(datums) - 1))
        datums[spoiled] = datums[spoiled][: data.draw(st.integers(0, len(datums[spoiled])))] + data.draw(st.binary())
    header = single_object_header(fingerprint(schema))
    decoded = EventDecoder(schema, writers=Known(schema)).decode([header + datum for datum in datums])
    compare(schema, schema, datums, decoded, Counter(), str(schema))


def test_a_batch_of_the_fuzzer_has_several_hundred_messages() -> None:
    counts: Counter[str] = Counter()
    one_batch(1, counts)
    assert counts.total() == BATCH
