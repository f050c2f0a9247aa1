"""What can go wrong on the hot path, by what the worker does about it; and with a change of control."""

from __future__ import annotations

from schemas.errors import Explained


class StreamError(Explained):
    """Base of every error of this package."""


class Refused(StreamError):
    """The worker cannot start or go on as declared; the text says what, where and what to do. Nothing was lost."""


class Unanswered(Refused):
    """No broker answered in time what had to be known; asked again, one may."""


class Fenced(StreamError):
    """Another worker runs under the same slot; this one must end."""


class Outgrown(StreamError):
    """The slot has more memory than its quota and ended in order, to be started again. Nothing was lost."""


class Rewind(StreamError):
    """A transaction was aborted whole; the batch is read again from the committed offsets."""


class Abandoned(Rewind):
    """A model took long over a batch while another revision waited: the batch is read again, and scored by that one."""


class StartOver(StreamError):
    """A transaction's outcome is unknown, or a client is broken: new clients go on from the committed offsets."""


class ProducerFenced(StartOver):
    """This slot's transaction was aborted after a pause, or another worker took the slot: the group tells which."""


class ControlError(StreamError):
    """Base of what can go wrong with the control topic and its audit."""


class ChangeRefused(ControlError):
    """A change that cannot be made as asked: an unknown deployment or arm, or nothing to go back to."""


class RevisionMoved(ChangeRefused):
    """Somebody else changed the deployment since the revision that was expected."""


class ChainBroken(ControlError):
    """The control topic and the end of the audit do not belong together: nothing is written onto them."""


class ControlUnavailable(ControlError):
    """The brokers did not take a change in time; the text says whether that leaves its outcome unknown."""
