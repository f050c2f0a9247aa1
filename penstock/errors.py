"""What can go wrong in the composition root: configuration, command line, embedded broker."""

from __future__ import annotations

from schemas.errors import Explained


class PenstockError(Explained):
    """Base of every error of this package; its text says what, where and what to do."""


class ConfigError(PenstockError):
    """A setting is missing or wrong."""


class VersionWanted(PenstockError):
    """A version that is not removed, because deployments under control have it or would go back to it."""


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


class WebhookInvalid(PenstockError):
    """An address or a secret that no webhook can be called with."""


class EventsRefused(PenstockError):
    """`penstock events` cannot go on: rights are missing, a topic takes no such record, or the audit was replaced."""


class AlertUnknown(PenstockError):
    """An id that no alert has, or more than one."""


class DecisionUnknown(PenstockError):
    """A number that no decision has."""


class TopicUnreadable(PenstockError):
    """A topic that the controller needs cannot be read."""


class NothingRecorded(PenstockError):
    """There are no outcomes that a policy could be tried on."""


class TakenOver(PenstockError):
    """Another process publishes the same events now; this one must end."""


class Undelivered(PenstockError):
    """With `--once`: events were not taken in time; they stay undelivered until the next run."""


class TrainingRowsInvalid(PenstockError):
    """Files of training rows that cannot be read, or lack a column."""


class BrokerFailed(PenstockError):
    """The embedded broker did not start, or another one is in its way."""
