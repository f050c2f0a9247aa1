"""How good the scores were: the area under the ROC curve, for training and for the account at the end of the demo."""

from __future__ import annotations

import polars as pl


def auc(scores: pl.Series, late: pl.Series) -> float:
    """Probability that a late flight scores higher than another one; ties count half; NaN where one kind is absent."""
    positives = int(late.sum())
    negatives = len(late) - positives
    if not positives or not negatives:
        return float("nan")
    rank_sum = float(scores.rank("average").filter(late).sum())
    return (rank_sum - positives * (positives + 1) / 2) / (positives * negatives)


def auc_by_month(scored: pl.DataFrame) -> dict[int, float]:
    """AUC of each month. scored: one row per flight with `month`, `late` and `late_probability`."""
    months = scored.partition_by("month", as_dict=True)
    return {int(month): auc(rows["late_probability"], rows["late"]) for (month,), rows in sorted(months.items())}
