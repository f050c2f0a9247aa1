"""What can go wrong in the composition root: configuration, command line, embedded broker."""

from __future__ import annotations

from schemas.errors import Explained


class PenstockError(Explained):
    """Base of every error of this package; its text says what, where and what to do."""


class ConfigError(PenstockError):
    """A setting is missing or wrong."""


class MissingExtra(PenstockError):
    """A command needs a library that an extra installs."""


class DownloadFailed(PenstockError):
    """A locked file could not be downloaded; nothing incomplete was kept."""


class FileAltered(PenstockError):
    """A downloaded or cached file is not the one that the lock names."""


class NothingToMeasure(PenstockError):
    """There are no events to measure a deployment with, or it scores none of them."""


class MeasurementFailed(PenstockError):
    """What was measured ended, or the cluster did not answer."""


class BrokerFailed(PenstockError):
    """The embedded broker did not start, or another one is in its way."""
