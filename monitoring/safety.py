"""When a candidate is taken back: harm that is seen, budgets that are exceeded, alerts that are about it. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from monitoring.cells import Lineage
from monitoring.evidence import Alarm, Candidate, too_many
from schemas.policy import Policy

BLAMELESS = ("feature", "group")  # kinds of alerts that tell of events, not of who scores them
Reason = tuple[str, dict[str, Any]]  # in words, and further evidence


def harm(found: Candidate, policy: Policy, alarms: Iterable[Alarm], now: int) -> Reason | None:
    """Return why a candidate must go; None where nothing speaks against it. now: ms.

    An arm of a bandit that is worse keeps its floor, and goes only where it is worse by more than is borne.
    """
    rule, exposure = policy.rollback, found.exposure
    if (alarm := against(alarms, found.lineage, found.beside, policy)) is not None:
        return f"an alert: {alarm.summary}", {"alert": alarm.id}
    budgets = rule.budgets
    if budgets.failed is not None and too_many(exposure.failed, exposure.events, budgets.failed):
        return f"it failed {exposure.failed:,} of {exposure.events:,} events; {budgets.failed:.2%} are allowed", {}
    if budgets.run_ms is not None and found.slow is not None and found.slow > budgets.run_ms:
        return f"its runs take {found.slow:,.0f} ms; {budgets.run_ms:,g} ms are allowed", {}
    borne = policy.bandit is not None and not rule.worse_by
    worse = found.trial.worse(rule.worse_by / policy.outcome.width)
    if worse >= math.log(1 / rule.level) and not borne:
        by = f" by more than {rule.worse_by:g}" if rule.worse_by else ""
        return f"it is worse{by}", {"log_e_value": worse}
    limit = policy.promotion.give_up
    if limit is not None and now - found.began > limit * 1000:
        return f"no evidence for it within {limit:,} s", {}
    return None


def against(alarms: Iterable[Alarm], lineage: Lineage, beside: Lineage | None, policy: Policy) -> Alarm | None:
    """Return the first open alarm about a version, less those that are about the other one as well."""
    open_ = sorted(alarms, key=lambda each: (each.at, each.id))
    shared = {alarm.about for alarm in open_ if alarm.lineage == beside}
    for alarm in open_:
        counts = alarm.severity in policy.rollback.alerts and alarm.about[1] not in BLAMELESS
        if counts and alarm.lineage == lineage and alarm.about not in shared:
            return alarm
    return None
