"""Further sections of a report, from topics besides profiles and alerts: each is left out where it has nothing to tell.

A maker reads what it needs of a range and returns a section, or None. Its content goes into `--json` under its key; its
markup, made by `penstock.report.markup.tag`, goes into the page.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from monitoring.hindsight import Span
from penstock.report.markup import Markup
from streams.reading import TopicReader


@dataclass(frozen=True, slots=True)
class Section:
    """key: of the content in `--json`. content: plain values. markup: the same for the page, with its own heading."""

    key: str
    content: Mapping[str, Any]
    markup: Markup


Maker = Callable[[TopicReader, str, Span], Section | None]  # a reader, the deployment's name, the range
MAKERS: tuple[Maker, ...] = ()


def sections(reader: TopicReader, deployment: str, span: Span, makers: Sequence[Maker] = MAKERS) -> list[Section]:
    """Return what the makers have to tell of a deployment's range."""
    made = (make(reader, deployment, span) for make in makers)
    return [each for each in made if each is not None]
