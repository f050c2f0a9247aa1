"""Further sections of a report, from topics besides profiles and alerts: each is left out where it has nothing to tell.

A maker reads what it needs of a range and returns its sections. Their content goes into `--json` under their keys;
their markup, made by `penstock.report.markup.tag`, goes into the page.
"""

from __future__ import annotations

from collections.abc import Sequence

from monitoring.hindsight import Span
from penstock.report import aftermath, policies, quality
from penstock.report.section import Maker, Section
from schemas.deployment import Deployment
from streams.reading import TopicReader

MAKERS: tuple[Maker, ...] = (quality.sections, policies.sections, aftermath.sections)


def sections(
    reader: TopicReader, deployment: Deployment, span: Span, makers: Sequence[Maker] = MAKERS
) -> list[Section]:
    """Return what the makers have to tell of a deployment's range."""
    return [section for make in makers for section in make(reader, deployment, span)]
