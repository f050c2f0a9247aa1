"""Penstock: streaming publish/subscribe inference on Kafka."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from models.bundle import Bundle

__all__ = ["Bundle"]


def __getattr__(name: str) -> object:
    """`penstock.Bundle` is imported when it is asked for, so that the client and the command line stay light."""
    if name == "Bundle":
        from models.bundle import Bundle

        return Bundle
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
