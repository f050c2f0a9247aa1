"""What is sampled of a batch: the same keys whatever the batch, once for each arm, in the partition of the hash."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest
import xxhash
from hypothesis import given
from hypothesis import strategies as st

from models.samples import Samples
from models.sampling import hashes, sampled
from schemas.deployment import Deployment
from schemas.errors import LabelsUnusable
from schemas.values import OutputField
from streams.arms import Made
from streams.batch import Batch, batch_of
from streams.memory import StoredMessage
from streams.sampler import NO_KEY, TOO_LARGE, Sampled, Sampler, sampler_of
from streams.scorer import Scored
from tests.declared import ALL, SHADOW, deployment

ACTIVE = Made("active", "active", 0.9, "", "m", "v1")
CANARY = Made("canary", "canary", 0.1, "", "m", "v2")
STEPPED_IN = Made("active", "canary", 0.1, "model_failed", "m", "v1")
BESIDE = Made("trees", "trees", 1.0, "", "t", "v9")
NOW = 1_700_000_000_000


def message(partition: int, offset: int, key: bytes | None) -> Any:
    return StoredMessage((b"x", key, partition, offset, NOW + offset, None))


def batch(keys: list[bytes | None], partitions: int = 3) -> Batch:
    """An equal share of the messages in each partition, one partition after the other as a client hands them over."""
    share = -(-len(keys) // partitions)
    return batch_of([message(i // share, i % share, key) for i, key in enumerate(keys)])


def scored(rows: list[int] | None, count: int, made: tuple[Made, ...] = (ACTIVE,), made_of: Any = None) -> Scored:
    events = list(range(count)) if rows is None else rows
    frame = pl.DataFrame({"origin": [f"O{row % 3}" for row in events], "other": events})
    outputs = pl.DataFrame(
        {"p": [row + at / 1000 for at, row in enumerate(events)], "late": [row % 2 == 0 for row in events]}
    )
    index = None if rows is None else np.array(rows, np.int64)
    return Scored([b"i"] * len(events), index, [], frame, outputs, made, made_of)


def sampler(**changed: Any) -> Sampler:
    given: dict[str, Any] = {
        "deployment": "flights",
        "revision": 7,
        "topic": "in",
        "share": 1.0,
        "partitions": 4,
        "limit": 1 << 20,
        "roles": {"trees": "beside"},
        "outputs": ["p", "late"],
        "segments": {"origin": lambda series: series},
    }
    return Sampler(**{**given, **changed})


def rows(found: Sampled) -> list[tuple[Any, ...]]:
    """Each sampled row: arm, assigned, source partition, offset, key, output, segment, partition of the samples."""
    told = []
    for value, place in zip(found.values, found.partitions, strict=True):
        part = Samples.decode(value)
        for at, key in enumerate(part.keys):
            assert part.times[at] == NOW + part.offsets[at]
            told.append(
                (
                    *(part.maker.arm, part.maker.assigned, int(part.partitions[at]), int(part.offsets[at]), key),
                    *(part.outputs["p"][at], part.segments["origin"][at], place),
                )
            )
    return told


KEYS = st.lists(st.none() | st.binary(max_size=3), min_size=1, max_size=40)


@given(KEYS, st.sampled_from([1.0, 0.5, 0.05]), st.data())
def test_a_batch_gives_what_its_events_give_one_by_one(keys: list[bytes | None], share: float, data: Any) -> None:
    count = len(keys)
    kept = data.draw(st.none() | st.lists(st.integers(0, count - 1), min_size=1).map(sorted))
    events = list(range(count)) if kept is None else kept
    made = (ACTIVE, CANARY, STEPPED_IN)
    who = data.draw(st.lists(st.integers(0, 2), min_size=len(events), max_size=len(events)))
    made_of = np.array(who, np.int64)
    whole = batch(keys)
    found = sampler(share=share).sample(whole, scored(kept, count, made, made_of))
    due = []
    for at, row in enumerate(events):
        key = keys[row]
        if key is None or (xxhash.xxh64_intdigest(key) >> 11) >= share * 2**53:
            continue
        by = made[made_of[at]]
        place = xxhash.xxh64_intdigest(key) % 4
        source = int(whole.partitions[row]), int(whole.offsets[row])
        due.append((by.arm, by.assigned, *source, key, row + at / 1000, f"O{row % 3}", place))
    assert sorted(rows(found)) == sorted(due)
    assert sum(found.rows.values()) == len(due)
    assert found.left_out.get(NO_KEY, 0) == len({row for row in events if keys[row] is None})


def test_rows_of_a_record_are_of_one_maker_and_in_the_order_of_their_events() -> None:
    keys: list[bytes | None] = [b"%d" % i for i in range(300)]
    made_of = np.arange(300) % 2
    found = sampler().sample(batch(keys), scored(None, 300, (ACTIVE, CANARY), made_of))
    assert len(found.values) == 2 * 4
    for value in found.values:
        part = Samples.decode(value)
        places = list(zip(part.partitions.tolist(), part.offsets.tolist(), strict=True))
        assert places == sorted(places)
    assert found.rows == {"active": 150, "canary": 150}


def test_an_arm_beside_the_others_has_samples_of_its_own_with_its_role() -> None:
    both = scored([0, 0, 1, 1], 2, (ACTIVE, BESIDE), np.array([0, 1, 0, 1]))
    found = sampler().sample(batch([b"a", b"b"]), both)
    makers = {Samples.decode(value).maker for value in found.values}
    assert {(maker.arm, maker.role, maker.propensity, maker.version) for maker in makers} == {
        ("active", "assigned", 0.9, "v1"),
        ("trees", "beside", 1.0, "v9"),
    }
    assert found.rows == {"active": 2, "trees": 2}


def test_an_event_without_a_key_is_counted_once_however_many_arms_scored_it() -> None:
    both = scored([0, 0, 1, 1], 2, (ACTIVE, BESIDE), np.array([0, 1, 0, 1]))
    found = sampler(share=0.001).sample(batch([None, b"b"]), both)
    assert found.left_out == {NO_KEY: 1}


def test_the_times_that_were_asked_already_are_taken() -> None:
    one = batch([b"a"])
    (value,) = sampler().sample(one, scored(None, 1), np.array([5])).values
    assert Samples.decode(value).times.tolist() == [5]


def test_a_record_that_its_topic_would_not_take_is_several() -> None:
    keys: list[bytes | None] = [b"%d" % i * 100 for i in range(64)]
    whole = sampler().sample(batch(keys), scored(None, 64))
    limit = max(map(len, whole.values)) // 3
    parts = sampler(limit=limit).sample(batch(keys), scored(None, 64))
    assert max(map(len, parts.values)) <= limit
    assert sorted(rows(parts)) == sorted(rows(whole))
    assert parts.left_out == {}


def test_an_event_that_is_too_large_by_itself_is_left_out_alone_and_counted() -> None:
    found = sampler(limit=400).sample(batch([b"a", b"b" * 500, b"c"]), scored(None, 3))
    assert {key for *_, key, _, _, _ in rows(found)} == {b"a", b"c"}
    assert found.left_out == {TOO_LARGE: 1}
    assert found.rows == {"active": 2}


def test_a_key_is_in_or_out_for_every_arm() -> None:
    keys: list[bytes | None] = [b"%d" % i for i in range(2_000)]
    made_of = np.arange(2_000) % 2
    found = sampler(share=0.1).sample(batch(keys), scored(None, 2_000, (ACTIVE, CANARY), made_of))
    chosen = sampled(hashes([key or b"" for key in keys]), 0.1)
    assert {key for *_, key, _, _, _ in rows(found)} == {
        key for key, is_in in zip(keys, chosen.tolist(), strict=True) if is_in
    }


# ---- what a deployment declares

SCHEMA = {"type": "record", "name": "L", "fields": [{"name": "late", "type": "boolean"}]}
OUTPUTS = (
    OutputField("p", "scalar", "double"),
    OutputField("class", "label", "long"),
    OutputField("embedding", "vector", "double"),
)
COLUMNS: dict[str, pl.DataType] = {"origin": pl.String(), "wind": pl.Float64()}


def declared(**more: Any) -> Deployment:
    return deployment(ALL, SHADOW, **more)


def labels(**more: Any) -> dict[str, Any]:
    return {"topic": "l", "schema": SCHEMA, "value": "late", "output": "p", **more}


def test_who_declares_neither_labels_nor_segments_has_no_samples() -> None:
    assert sampler_of(declared(monitor={}), "active", 1, OUTPUTS, COLUMNS, None, 1000) is None


def test_plain_outputs_are_sampled_and_of_the_wide_ones_that_which_is_judged() -> None:
    made = sampler_of(declared(labels=labels()), "active", 1, OUTPUTS, COLUMNS, None, 1000)
    assert made is not None
    assert made.outputs == ["p", "class"]
    judged = sampler_of(declared(labels=labels(output="embedding")), "active", 1, OUTPUTS, COLUMNS, None, 1000)
    assert judged is not None
    assert judged.outputs == ["p", "class", "embedding"]


def test_roles_follow_the_declaration() -> None:
    active = sampler_of(declared(labels=labels()), "active", 1, OUTPUTS, COLUMNS, None, 1000)
    shadow = sampler_of(declared(labels=labels()), "shadow", 1, OUTPUTS, COLUMNS, None, 1000)
    assert active is not None
    assert shadow is not None
    assert active.roles == {"trees": "beside"}
    assert shadow.roles["shadow"] == "shadow"


def test_segments_alone_sample_every_key() -> None:
    made = sampler_of(declared(monitor={"segments": ["origin"]}), "active", 1, OUTPUTS, COLUMNS, None, 1000)
    assert made is not None
    assert (made.share, made.partitions, list(made.segments)) == (1.0, 4, ["origin"])


def test_labels_without_an_output_of_several_are_refused() -> None:
    with pytest.raises(LabelsUnusable, match="name the one to judge: p, class, embedding"):
        sampler_of(declared(labels=labels(output=None)), "active", 1, OUTPUTS, COLUMNS, None, 1000)
