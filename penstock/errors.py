"""What can go wrong in the composition root: configuration, command line, embedded broker."""

from __future__ import annotations


class PenstockError(Exception):
    """Base of every error of this package; its text says what, where and what to do."""


class ConfigError(PenstockError):
    """A setting is missing or wrong."""
