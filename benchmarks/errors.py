"""What can go wrong with a benchmark before it measured anything."""

from __future__ import annotations

from schemas.errors import Explained


class EnvironmentFailed(Explained):
    """The environment of a peer could not be made; the run goes on without the peer, and says why."""


class NoCompiler(Explained):
    """No JDK compiles the Java contestants; the run goes on without them, and says so."""


class OtherMachine(Explained):
    """A file of figures was measured on another machine, or with other packages."""


class StandFailed(Explained):
    """What a measurement of swaps needs around it did not work: a command of the product failed, or events vanished."""
