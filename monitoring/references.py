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


class Bundles(Protocol):
    """What is asked of the repository."""

    def load(self, ref: str) -> Bundle: ...


class Finder:
    """Finds references in a repository; see `monitoring.profiles.Find`."""

    def __init__(
        self,
        bundles: Bundles,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self._bundles, self._clock, self._sleep = bundles, clock, sleep

    def __call__(self, lineage: Lineage) -> Reference | None:
        """Return the reference, None where the repository has no such version or it has another reference.

        Blocks while the repository does not answer. Raises ReferenceUnavailable after PATIENCE.
        """
        deadline, ref = self._clock() + PATIENCE, f"{lineage.model}@{lineage.version}"
        while True:
            try:
                reference = _reference_of(self._bundles.load(ref))
            except RepositoryUnavailable as error:
                if self._clock() > deadline:
                    raise ReferenceUnavailable(f"the reference of {ref} cannot be fetched: {error}") from error
                log.warning("the reference of %s cannot be fetched now: %s; its profiles wait", ref, error)
            except ModelError as error:
                log.error("profiles of %s (arm %s) are passed over: %s", ref, lineage.arm, error)
                return None
            else:
                return self._checked(reference, lineage, ref)
            self._sleep(AGAIN_SECONDS)

    def _checked(self, reference: Reference | None, lineage: Lineage, ref: str) -> Reference | None:
        if reference is None or reference.digest != lineage.reference:
            log.error("profiles of %s (arm %s) are passed over: its bundle has another reference", ref, lineage.arm)
            return None
        log.info("watches %s in the arm %s from here on", ref, lineage.arm)
        return reference


def _reference_of(bundle: Bundle) -> Reference | None:
    return None if bundle.reference is None else Reference.from_bytes(bundle.reference)
