"""Which keys are sampled, and in which partition their samples and labels meet. Pure; docs/quality.md tells it.

    hash        h = XXH64(key, seed = 0)
    partition   h mod the number of partitions of the topic of samples
    sampled     the upper 53 bits of h, as a number, are below share x 2^53

Java's clients and librdkafka place the same key in different partitions, and nobody knows who wrote the labels: so
both samples and labels are placed by this hash. A key that is sampled at one share is sampled at every larger one. The
arms are assigned by the hash under another seed: a sample has of each arm what the arm has of all events.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from xxhash import xxh64_digest

Hashes = npt.NDArray[np.uint64]
_LOW = np.uint64(11)  # bits that the share does not look at: doubles have 53


def hashes(keys: Sequence[bytes]) -> Hashes:
    """Return the hash of each key; shape (n,)."""
    return np.frombuffer(b"".join(map(xxh64_digest, keys)), ">u8").astype(np.uint64)


def sampled(hashes: Hashes, share: float) -> npt.NDArray[np.bool_]:
    """Say of each key whether it falls into a share (above 0, at most 1) of all keys; shape (n,)."""
    chosen: npt.NDArray[np.bool_] = (hashes >> _LOW) < np.uint64(math.ceil(share * 2.0**53))
    return chosen


def places(hashes: Hashes, partitions: int) -> npt.NDArray[np.int64]:
    """Return the partition of each key in a topic of samples of so many partitions; shape (n,)."""
    return (hashes % np.uint64(partitions)).astype(np.int64)
