"""What a comparison found, as it lies in its JSON file, and the medians that are asked of it. Pure.

{"machine": {...}, "jobs": {job: {"options": {...}, "events": n, "contestants": {name: {"backlog": [run, ...],
"latency": {rate: [run, ...]}, "failed": text}}}}}; other commands put their parts beside "jobs".
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping
from typing import Any

Results = Mapping[str, Any]


def contestant(results: Results, job: str, name: str) -> Mapping[str, Any]:
    """Return what is known of a contestant in a job; nothing where it took no part."""
    found: Mapping[str, Any] = results["jobs"].get(job, {}).get("contestants", {}).get(name, {})
    return found


def median(results: Results, job: str, name: str, figure: str) -> float | None:
    """Return the median of a figure over the runs; None where it was not measured.

    figure: `rate`, `cpu`, `broker_cpu` or `rss` of the backlog, or `p50@RATE`, `p95@RATE`, `p99@RATE`, which is
    infinite for who does not keep up.
    """
    known = contestant(results, job, name)
    if "@" not in figure:
        runs = [run[figure] for run in known.get("backlog", []) if not math.isnan(run[figure])]
        return statistics.median(runs) if runs else None
    quantile, rate = figure.split("@")
    offered = known.get("latency", {}).get(rate, [])
    return statistics.median(run[quantile] for run in offered) if offered else None


def checked(results: Results, job: str, name: str) -> str:
    """Return what was wrong with its outputs in its worst run, `exact` for nothing; empty where it took no part."""
    runs = [run["checked"] for run in contestant(results, job, name).get("backlog", [])]
    return max(runs, key=lambda text: (text != "exact", len(text)), default="")
