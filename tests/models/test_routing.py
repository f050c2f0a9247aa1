"""Sticky assignment: the same key goes to the same arm wherever it is computed, and weights move few keys."""

from __future__ import annotations

import json
import math
import struct
from pathlib import Path

import numpy as np
import pytest
import xxhash

from models.routing import Router, draw

VECTORS = json.loads((Path(__file__).parent / "routing_vectors.json").read_text())
KEYS = [b"flight-%d" % i for i in range(40_000)]
PLACES = np.zeros(len(KEYS), np.int32), np.arange(len(KEYS), dtype=np.int64)


def assigned(weights: dict[str, float], salt: str = "flights") -> np.ndarray:
    router = Router(weights, salt)
    return np.array(router.names)[router.assign(KEYS, *PLACES)]


def plainly(weights: dict[str, float], salt: str, key: bytes) -> str:
    """The algorithm as the documentation tells it, one key at a time, in plain integers."""
    h = xxhash.xxh64_intdigest(key, xxhash.xxh64_intdigest(salt.encode()))
    scores = {}
    for name, weight in weights.items():
        z = h ^ xxhash.xxh64_intdigest(name.encode())
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) % 2**64
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) % 2**64
        z ^= z >> 31
        scores[name] = weight / -math.log(((z >> 11) + 0.5) / 2**53)
    return max(scores, key=lambda name: scores[name])


@pytest.mark.parametrize("case", VECTORS, ids=lambda case: case["about"])
def test_the_committed_vectors_hold(case: dict) -> None:
    """They are for other languages, too: whoever changes one moves the keys of all running experiments."""
    router = Router(case["weights"], case["salt"])
    keys = [None if each["key"] is None else bytes.fromhex(each["key"]) for each in case["events"]]
    partitions = np.array([each["partition"] for each in case["events"]], np.int32)
    offsets = np.array([each["offset"] for each in case["events"]], np.int64)
    found = [router.names[index] for index in router.assign(keys, partitions, offsets)]
    assert found == [each["arm"] for each in case["events"]]


def test_it_is_the_algorithm_that_is_documented() -> None:
    weights = {"active": 70.0, "canary": 5.0, "challenger": 25.0}
    assert assigned(weights)[:2_000].tolist() == [plainly(weights, "flights", key) for key in KEYS[:2_000]]


def test_shares_are_those_declared() -> None:
    found = assigned({"active": 60.0, "canary": 10.0, "challenger": 30.0})
    for name, share in {"active": 0.6, "canary": 0.1, "challenger": 0.3}.items():
        assert np.mean(found == name) == pytest.approx(share, abs=4 * math.sqrt(0.25 / len(KEYS)))


def test_changing_weights_moves_no_more_keys_than_the_shares_ask_for() -> None:
    before, after = assigned({"a": 50.0, "b": 50.0}), assigned({"a": 60.0, "b": 40.0})
    moved = before != after
    assert set(before[moved]) == {"b"}
    assert np.mean(moved) == pytest.approx(0.1, abs=0.01)


def test_a_router_that_cuts_a_line_into_shares_would_move_more() -> None:
    """The control: with three arms side by side on a line, a larger first one pushes keys from the second to the
    third."""

    def cut(weights: dict[str, float]) -> np.ndarray:
        bounds = np.cumsum(list(weights.values())) / sum(weights.values())
        u = draw(np.array([xxhash.xxh64_intdigest(key) for key in KEYS], np.uint64), np.uint64(0))
        return np.array(list(weights))[np.searchsorted(bounds, u)]

    old, new = {"a": 20.0, "b": 40.0, "c": 40.0}, {"a": 40.0, "b": 30.0, "c": 30.0}
    assert ((cut(old) == "b") & (cut(new) == "c")).any() or ((cut(old) == "c") & (cut(new) == "b")).any()
    assert not ((assigned(old) == "b") & (assigned(new) == "c")).any()
    assert not ((assigned(old) == "c") & (assigned(new) == "b")).any()
    assert np.mean(assigned(old) != assigned(new)) < np.mean(cut(old) != cut(new))


def test_an_arm_that_comes_takes_keys_and_gives_none_to_others() -> None:
    before, after = assigned({"active": 100.0}), assigned({"active": 90.0, "canary": 10.0})
    assert set(before) == {"active"}
    assert set(after[before != after]) == {"canary"}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"active": 75.0, "canary": 5.0, "challenger": 20.0}, {"active": 70.0, "canary": 10.0, "challenger": 20.0}),
        ({"active": 80.0, "challenger": 20.0}, {"active": 75.0, "challenger": 20.0, "canary": 5.0}),
    ],
    ids=["a canary grows", "a canary comes"],
)
def test_beside_a_third_arm_some_more_keys_move_as_documented(
    before: dict[str, float], after: dict[str, float]
) -> None:
    old, new = assigned(before), assigned(after)
    assert np.mean(old != new) == pytest.approx(0.059, abs=0.004)
    assert not ((old == "canary") & (new != "canary")).any()
    assert not (new[old != "active"] == "active").any()
    gone, come = (old == "challenger") & (new == "canary"), (old == "active") & (new == "challenger")
    assert np.mean(gone) / 0.2 == pytest.approx(0.05, abs=0.01)
    assert np.mean(come) == pytest.approx(np.mean(gone), abs=0.002)


def test_another_salt_assigns_anew() -> None:
    weights = {"a": 50.0, "b": 50.0}
    assert np.mean(assigned(weights) != assigned(weights, "another")) == pytest.approx(0.5, abs=0.02)


def test_events_without_a_key_go_by_their_place() -> None:
    router = Router({"a": 50.0, "b": 50.0}, "flights")
    partitions, offsets = np.array([3, 3, 4], np.int32), np.array([7, 8, 7], np.int64)
    without = router.assign([None, None, None], partitions, offsets)
    keys = [struct.pack("<iq", p, o) for p, o in zip(partitions.tolist(), offsets.tolist(), strict=True)]
    assert without.tolist() == router.assign(keys, partitions, offsets).tolist()
    mixed = router.assign([b"", None, b"x"], partitions, offsets)
    assert mixed.tolist() == [
        router.assign([b""], partitions[:1], offsets[:1])[0],
        without[1],
        router.assign([b"x"], partitions[2:], offsets[2:])[0],
    ]


def test_propensities_are_the_shares() -> None:
    assert Router({"active": 95.0, "canary": 5.0}, "s").propensities == [0.95, 0.05]
