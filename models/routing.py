"""Which arm scores an event: sticky by its key, by weighted rendezvous hashing. Pure; docs/arms.md has the algorithm.

    key's hash   h = XXH64(key, seed = XXH64(salt, seed = 0)), salt in UTF-8
    without key  the event's place stands in: its partition (int32) and offset (int64), little-endian
    arm's hash   a = XXH64(arm's name in UTF-8, seed = 0)
    draw         u = (mix(h xor a) >> 11) + 0.5, divided by 2^53: evenly between 0 and 1
    score        weight / -ln(u): the arm with the highest score has the event

mix is the finalizer of splitmix64. An arm's share is its weight divided by the sum of all. An arm whose weight changes
changes its own score only, so that no key moves between two others. Where shares are percentages, two change at least:
with a third arm a few keys more move than the shares ask for.
(Efraimidis and Spirakis 2006 for the weights, Thaler and Ravishankar 1998 for the hashing.)
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
from xxhash import xxh64_intdigest

PLACE = struct.Struct("<iq")
Hashes = npt.NDArray[np.uint64]


class Router:
    """Assigns events to arms.

    weights: of each arm by its name, any positive numbers. salt: another one assigns every key anew.
    """

    def __init__(self, weights: Mapping[str, float], salt: str) -> None:
        self.names = list(weights)
        total = sum(weights.values())
        self.propensities = [weight / total for weight in weights.values()]
        self._seed = xxh64_intdigest(salt.encode())
        self._hashes = [np.uint64(xxh64_intdigest(name.encode())) for name in self.names]

    def assign(
        self, keys: Sequence[bytes | None], partitions: npt.NDArray[np.int32], offsets: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.int64]:
        """Return for each event the index of its arm in `names`; shape (n,).

        keys, partitions, offsets: one an event.
        """
        hashes = self._keys(keys, partitions, offsets)
        # -ln(u) / weight is smallest where weight / -ln(u) is largest
        costs = [
            -np.log(draw(hashes, arm)) / weight for arm, weight in zip(self._hashes, self.propensities, strict=True)
        ]
        found: npt.NDArray[np.int64] = np.argmin(np.stack(costs), axis=0).astype(np.int64)
        return found

    def _keys(
        self, keys: Sequence[bytes | None], partitions: npt.NDArray[np.int32], offsets: npt.NDArray[np.int64]
    ) -> Hashes:
        seed, digest = self._seed, xxh64_intdigest
        if None not in keys:
            found = [digest(key, seed) for key in keys]  # type: ignore[arg-type]
        else:
            places = zip(keys, partitions.tolist(), offsets.tolist(), strict=True)
            found = [digest(PLACE.pack(p, o) if key is None else key, seed) for key, p, o in places]
        return np.array(found, np.uint64)


def draw(hashes: Hashes, arm: np.uint64) -> npt.NDArray[np.float64]:
    """Return a number between 0 and 1, both excluded, for each key's hash and the arm; shape (n,)."""
    mixed = hashes ^ arm
    mixed ^= mixed >> np.uint64(30)
    mixed *= np.uint64(0xBF58476D1CE4E5B9)
    mixed ^= mixed >> np.uint64(27)
    mixed *= np.uint64(0x94D049BB133111EB)
    mixed ^= mixed >> np.uint64(31)
    even: npt.NDArray[np.float64] = ((mixed >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53
    return even
