"""Which keys are sampled and where they meet: the same for everyone, evenly, and a larger share keeps all keys."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import xxhash
from hypothesis import given
from hypothesis import strategies as st

from models.routing import Router
from models.sampling import hashes, places, sampled

VECTORS = json.loads((Path(__file__).parent / "sampling_vectors.json").read_text())
KEYS = [b"flight-%d" % i for i in range(40_000)]


def test_the_committed_vectors_hold() -> None:
    """They are for other languages, too: whoever changes one loses the pairs of samples and labels in between."""
    found = hashes([bytes.fromhex(each["key"]) for each in VECTORS])
    assert [f"{each:016x}" for each in found.tolist()] == [each["hash"] for each in VECTORS]
    assert places(found, 4).tolist() == [each["partition_of_4"] for each in VECTORS]
    assert places(found, 7).tolist() == [each["partition_of_7"] for each in VECTORS]
    assert sampled(found, 0.5).tolist() == [each["in_half"] for each in VECTORS]
    assert sampled(found, 0.01).tolist() == [each["in_hundredth"] for each in VECTORS]
    assert any(each["in_hundredth"] for each in VECTORS)
    assert sampled(found, 1.0).all()


@given(st.lists(st.binary(max_size=80)), st.integers(1, 50), st.floats(0, 1, exclude_min=True))
def test_it_is_the_algorithm_that_is_documented(keys: list[bytes], partitions: int, share: float) -> None:
    plain = [xxhash.xxh64_intdigest(key) for key in keys]
    found = hashes(keys)
    assert found.tolist() == plain
    assert places(found, partitions).tolist() == [each % partitions for each in plain]
    assert sampled(found, share).tolist() == [(each >> 11) < math.ceil(share * 2**53) for each in plain]


@pytest.mark.parametrize("share", [0.01, 0.3, 0.5])
def test_a_share_is_as_large_as_declared_in_every_partition(share: float) -> None:
    found = hashes(KEYS)
    chosen, where = sampled(found, share), places(found, 4)
    for partition in range(4):
        own = chosen[where == partition]
        assert len(own) == pytest.approx(10_000, abs=4 * math.sqrt(40_000 * 3 / 16))
        assert own.mean() == pytest.approx(share, abs=4 * math.sqrt(share * (1 - share) / len(own)))


def test_a_larger_share_keeps_the_keys_of_a_smaller_one() -> None:
    found = hashes(KEYS)
    assert not (sampled(found, 0.01) & ~sampled(found, 0.02)).any()


def test_arms_have_their_shares_of_the_sampled_keys() -> None:
    router = Router({"active": 70.0, "canary": 30.0}, "flights")
    arms = router.assign(KEYS, np.zeros(len(KEYS), np.int32), np.arange(len(KEYS)))
    own = arms[sampled(hashes(KEYS), 0.2)]
    assert own.mean() == pytest.approx(0.3, abs=4 * math.sqrt(0.21 / len(own)))
