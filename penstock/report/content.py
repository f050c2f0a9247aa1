"""What a report says, as plain values: the page and `--json` are made of the same numbers; pure.

Times are ms since 1970, shares 0 to 1, evidence natural logarithms, and what is not known is null.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from models.binning import Categories
from models.reference import Slice
from models.unusual import KIND, beyond
from monitoring.course import Course, Grid
from monitoring.distances import distances
from monitoring.drift import moved_bins, noise
from monitoring.hindsight import Span
from monitoring.profiles import Lineage
from monitoring.tilts import Floats
from penstock.report.episodes import Episode
from penstock.report.words import plain

FORMAT = 1


@dataclass(frozen=True, slots=True)
class Found:
    """What was read of a range. counts: of the fold. against: names what is compared with, by reference digest.

    skipped: events of versions beyond those that are told in detail.
    """

    deployment: str
    span: Span
    grid: Grid
    courses: Mapping[Lineage, Course]
    counts: Mapping[str, int]
    episodes: Sequence[Episode]
    more_episodes: int = 0
    against: Span | None = None
    compared: frozenset[str] = frozenset()
    skipped: Mapping[Lineage, int] | None = None


def content(found: Found) -> dict[str, Any]:
    """Return everything that a report says."""
    courses = sorted(found.courses.items(), key=lambda each: (each[0].arm != "active", each[0].arm, each[1].first))
    return {
        "format": FORMAT,
        "deployment": found.deployment,
        "begin": found.span.begin,
        "end": found.span.end,
        "against": asdict(found.against) if found.against else None,
        "bin_ms": found.grid.width,
        "times": found.grid.starts(),
        "traffic": {
            "events": sum(int(course.rows.sum()) for course in found.courses.values()),
            **{name: found.counts.get(name, 0) for name in ("late", "clamped", "unknown_reference", "poison")},
        },
        "versions": [_version(found, lineage, course) for lineage, course in courses],
        "skipped": [{**lineage._asdict(), "events": rows} for lineage, rows in sorted((found.skipped or {}).items())],
        "episodes": [asdict(each) for each in found.episodes],
        "more_episodes": found.more_episodes,
    }


def _version(found: Found, lineage: Lineage, course: Course) -> dict[str, Any]:
    """Return what there is to say of one version in one arm; its columns the worst first."""
    mine = [each for each in found.episodes if (each.arm, each.version) == (lineage.arm, lineage.version)]
    columns = [_column(course, at, part, mine) for at, part in enumerate(course.reference.slices)]
    return {
        **lineage._asdict(),
        "events": int(course.rows.sum()),
        "first": course.first,
        "last": course.last,
        "rows": course.rows.tolist(),
        "compared_with": "range" if lineage.reference in found.compared else "training",
        "reference_rows": course.reference.tally.rows,
        "alarm": course.alarm,
        "unusual": _unusual(course),
        "columns": sorted(columns, key=_worst_first),
    }


def _unusual(course: Course) -> dict[str, float | None] | None:
    """Return the shares of events more unusual than 99.9 % of the training rows; None where that is not counted."""
    part = course.reference.slices[-1]
    if part.kind != KIND:
        return None
    was = course.reference.tally.cells[part.start : part.end]
    return {"reference": plain(beyond(was)), "now": plain(beyond(course.total(part)))}


def _column(course: Course, at: int, part: Slice, episodes: Iterable[Episode]) -> dict[str, Any]:
    expected, observed = course.reference.tally.cells[part.start : part.end], course.total(part)
    labels = [part.bins.label(each) for each in range(part.bins.size)]
    was, now = _shares(expected), _shares(observed)
    mine = [each.id for each in episodes if (each.kind, each.name) == (part.kind, part.name)]
    gravity = max((each.gravity for each in episodes if each.id in mine), default=-1)
    evidence = course.evidence[:, at]
    return {
        "kind": part.kind,
        "name": part.name,
        "segment": part.segment,
        "value": part.value,
        "type": "category" if isinstance(part.bins, Categories) else "number",
        "events": int(observed.sum()),
        **_rounded(distances(expected, observed)._asdict()),
        "chance": plain(noise(expected, observed)),
        "missing": {"reference": plain(was[-1]), "now": plain(now[-1])},
        "evidence": plain(float(_peak(evidence))),
        "gravity": gravity,
        "episodes": mine,
        "bins": [
            {"bin": label, "reference": plain(p), "now": plain(q), "events": count}
            for label, p, q, count in zip(labels, was, now, observed.tolist(), strict=True)
        ],
        "moved": moved_bins(expected, observed, labels) if observed.any() else [],
        "over_time": {
            "psi": _numbers(course.psi(part)),
            "missing": _numbers(course.missing(part)),
            "evidence": _numbers(evidence),
        },
    }


def _worst_first(column: Mapping[str, Any]) -> tuple[float, ...]:
    """Order by the gravest episode, then the highest evidence, then what of the PSI is beyond chance."""
    beyond = (column["psi"] or 0.0) - (column["chance"] or 0.0)
    return (-column["gravity"], -(column["evidence"] or 0.0), -beyond)


def _peak(values: Floats) -> float:
    return max((value for value in values.tolist() if not math.isnan(value)), default=math.nan)


def _shares(counts: Any) -> list[float]:
    total = max(int(counts.sum()), 1)
    return [count / total for count in counts.tolist()]


def _numbers(values: Floats) -> list[float | None]:
    return [plain(value) for value in values.tolist()]


def _rounded(values: Mapping[str, float]) -> dict[str, float | None]:
    return {name: plain(value) for name, value in values.items()}
