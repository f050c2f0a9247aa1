"""What a further section of a report is, and who makes one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from monitoring.hindsight import Span
from penstock.report.markup import Markup
from schemas.deployment import Deployment
from streams.reading import TopicReader


@dataclass(frozen=True, slots=True)
class Section:
    """key: of the content in `--json`. content: plain values. markup: the same for the page, with its own heading."""

    key: str
    content: Mapping[str, Any]
    markup: Markup


Maker = Callable[[TopicReader, Deployment, Span], Sequence[Section]]  # a reader, the deployment, the range
