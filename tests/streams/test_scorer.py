from __future__ import annotations

import itertools

import pytest

from schemas.errors import SourceUnavailable
from streams.batch import Batch, batch_of
from streams.memory import StoredMessage
from streams.scorer import Scored
from tests.streams.fakes import CODEC, NumberDecoder, scorer


def batch(*values: bytes | None) -> Batch:
    return batch_of([StoredMessage((value, b"k", i % 2, i // 2, 5, None)) for i, value in enumerate(values)])


def doubles(scored: Scored) -> list[float]:
    return [CODEC.decode(value)["double"] for value in scored.inferences]


def test_every_message_becomes_an_inference_with_its_place() -> None:
    scored = scorer().score(batch(b"1", b"2", b"3"))
    records = [CODEC.decode(value) for value in scored.inferences]
    assert [r["double"] for r in records] == [2, 4, 6]
    assert [(r["source_partition"], r["source_offset"]) for r in records] == [(0, 0), (1, 0), (0, 1)]
    assert {r["event_schema"] for r in records} == {"abc"}
    assert scored.rows is None
    assert not scored.rejected


def test_what_decoder_and_model_refuse_is_named_by_its_message() -> None:
    scored = scorer().score(batch(b"1", b"x", None, b"-5", b"2"))
    assert doubles(scored) == [2, 4]
    assert scored.rows is not None
    assert scored.rows.tolist() == [0, 4]
    assert {(r.row, r.reason) for r in scored.rejected} == {(1, "malformed"), (2, "malformed"), (3, "missing_value")}


def test_rows_that_make_the_model_fail_are_found_by_halving() -> None:
    values = [b"%d" % i for i in range(200)]
    scored = scorer().score(batch(b"x", *values, b"-1"))
    assert {(r.row, r.reason) for r in scored.rejected} == {
        (0, "malformed"),
        (14, "model_failed"),
        (18, "model_timed_out"),
        (201, "missing_value"),
    }
    assert doubles(scored) == [i * 2 for i in range(200) if i not in (13, 17)]


def test_a_model_that_hangs_on_every_event_ends_before_the_group_loses_patience() -> None:
    seconds = itertools.count()
    hanging = scorer(clock=lambda: float(next(seconds)))
    scored = hanging.score(batch(b"1", *[b"17"] * 400))
    assert [(r.row, r.reason) for r in scored.rejected] == [(row, "model_timed_out") for row in range(1, 401)]
    assert doubles(scored) == [2]
    assert "was not tried" in scored.rejected[-1].detail
    assert next(seconds) < 300


@pytest.mark.parametrize("values", [[], [b"x"], [b"13"], [b"-1"], [None, b"17"]])
def test_a_batch_may_yield_nothing(values: list[bytes | None]) -> None:
    scored = scorer().score(batch(*values))
    assert scored.inferences == []
    assert len(scored.rejected) == len(values)


def test_an_inference_too_large_for_its_topic_costs_its_event_only() -> None:
    plain = scorer().score(batch(b"1", b"2"))
    limit = max(map(len, plain.inferences)) + len(b"k")
    assert not scorer(inference_bytes=limit).score(batch(b"1", b"2")).rejected
    scored = scorer(inference_bytes=limit - 1).score(batch(b"1", b"2"))
    assert [r.reason for r in scored.rejected] == ["oversize_inference"] * 2
    assert scored.inferences == []


def test_a_key_too_large_for_the_inferences_topic_costs_its_event_only() -> None:
    messages = [StoredMessage((b"%d" % i, b"k" * (5_000 * i) or None, 0, i, 5, None)) for i in range(3)]
    scored = scorer(inference_bytes=9_000).score(batch_of(messages))
    assert doubles(scored) == [0, 2]
    assert [(r.row, r.reason) for r in scored.rejected] == [(2, "oversize_inference")]


def test_an_unavailable_schema_source_loses_nothing() -> None:
    patient = scorer(NumberDecoder(down=1))
    with pytest.raises(SourceUnavailable):
        patient.score(batch(b"1"))
    assert doubles(patient.score(batch(b"1"))) == [2]
