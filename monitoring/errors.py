"""What can go wrong in the monitor."""

from __future__ import annotations

from schemas.errors import Explained


class MonitorError(Explained):
    """Base of every error of this package."""


class Hole(MonitorError):
    """Records were skipped between the end of the state and the next record; only a restart from the snapshot helps."""


class SnapshotInvalid(MonitorError):
    """A snapshot that this version cannot read."""


class SnapshotForeign(SnapshotInvalid):
    """A snapshot of another format than this release writes; nothing is wrong with it."""


class ReferenceUnavailable(MonitorError):
    """The repository does not say what the reference of a version is; the profile waits for the next start."""


class KafkaUnavailable(MonitorError):
    """The cluster did not answer, or refused what the monitor needs."""


class PartInvalid(MonitorError):
    """A record in the quality topic that is not what a monitor of this release writes."""
