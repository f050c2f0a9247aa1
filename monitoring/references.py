"""Finds the reference of a version when the first profile of it comes: a swap needs no restart of the monitor.

A reference is named by its sha256, so what is found follows from the log and not from when it was looked for. While the
repository does not answer the profile waits: passed over now and tested after a restart, it would give other alerts.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Protocol

from models.bundle import Bundle
from models.errors import ModelError, RepositoryUnavailable
from models.reference import Reference
from monitoring.errors import ReferenceUnavailable
from monitoring.profiles import Lineage

log = logging.getLogger(__name__)

PATIENCE = 20.0  # seconds; then the process starts over, which waits as well and lets others have its partitions
AGAIN_SECONDS = 1.0
ACCURACY = "accuracy"  # among the metrics of a bundle


class Bundles(Protocol):
    """What is asked of the repository."""

    def load(self, ref: str) -> Bundle: ...


class _Fetcher:
    """Asks the repository for bundles, and waits while it does not answer."""

    def __init__(
        self,
        bundles: Bundles,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self._bundles, self._clock, self._sleep = bundles, clock, sleep

    def _bundle(self, ref: str, what: str, otherwise: str) -> Bundle | None:
        """Return a version's bundle, None where the repository has none. Raises ReferenceUnavailable after PATIENCE.

        what: is wanted of it. otherwise: what becomes of its records without.
        """
        deadline = self._clock() + PATIENCE
        while True:
            try:
                return self._bundles.load(ref)
            except RepositoryUnavailable as error:
                if self._clock() > deadline:
                    raise ReferenceUnavailable(f"{what} of {ref} cannot be fetched: {error}") from error
                log.warning("%s of %s cannot be fetched now: %s; it is waited for", what, ref, error)
            except ModelError as error:
                log.error("%s: %s", otherwise, error)
                return None
            self._sleep(AGAIN_SECONDS)


class Finder(_Fetcher):
    """Finds references in a repository; see `monitoring.profiles.Find`."""

    def __call__(self, lineage: Lineage) -> Reference | None:
        """Return the reference, None where the repository has no such version or it has another reference.

        Blocks while the repository does not answer. Raises ReferenceUnavailable after PATIENCE.
        """
        ref = f"{lineage.model}@{lineage.version}"
        otherwise = f"profiles of {ref} (arm {lineage.arm}) are passed over"
        bundle = self._bundle(ref, "the reference", otherwise)
        if bundle is None:
            return None
        reference = None if bundle.reference is None else Reference.from_bytes(bundle.reference)
        if reference is None or reference.digest != lineage.reference:
            log.error("%s: its bundle has another reference", otherwise)
            return None
        log.info("watches %s in the arm %s from here on", ref, lineage.arm)
        return reference


class Stated(_Fetcher):
    """Finds what bundles state of their versions' accuracy, in `metrics`."""

    def __call__(self, model: str, version: str) -> float | None:
        """Return the share of predictions that is wrong, None where it is not stated, or makes no sense.

        Blocks while the repository does not answer. Raises ReferenceUnavailable after PATIENCE.
        """
        ref = f"{model}@{version}"
        otherwise = f"how good {ref} is as usual is learned from its first labels"
        bundle = self._bundle(ref, "the accuracy", otherwise)
        stated = None if bundle is None else bundle.manifest.metrics.get(ACCURACY)
        if stated is None or not 0 < stated < 1:
            log.info("%s: its bundle states no accuracy between 0 and 1", otherwise)
            return None
        return 1.0 - stated
