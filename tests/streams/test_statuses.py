"""What the slots said, judged against what control asks for."""

from __future__ import annotations

from dataclasses import replace

import pytest

from schemas.control import ArmState, State, Status
from streams.statuses import ENDED_SECONDS, FORGOTTEN_SECONDS, GONE_SECONDS, SILENT_SECONDS, rows, unmanned

NOW = 1_000_000.0
STATE = State("flights", 3, "{}", "{}", ())
FINE = Status("flights", "0", "penstock.flights", "here", 7, int(NOW * 1000), 3, 3, (), "running")
REFUSED = replace(FINE, revision=2, refused=3, detail="does not load")
ENDED = replace(REFUSED, revision=None, state="refused")


def ago(status: Status, seconds: float) -> Status:
    return replace(status, at_ms=int((NOW - seconds) * 1000))


@pytest.mark.parametrize(
    ("status", "verdict", "fine"),
    [
        (FINE, "as wanted", True),
        (ago(FINE, SILENT_SECONDS + 1), "silent for 31 s", False),
        (ago(FINE, GONE_SECONDS - 1), "silent for 3,599 s", False),
        (ago(FINE, GONE_SECONDS + 1), "gone", True),  # it was scaled away, and whoever is there has its partitions
        (replace(FINE, revision=2), "behind: revision 3 is wanted", False),
        (REFUSED, "refuses revision 3: does not load", False),
        (replace(REFUSED, refused=2), "behind: revision 3 is wanted (does not load)", False),
        (replace(FINE, state="stopped"), "stopped", True),
        (ENDED, "ended, for it refuses revision 3: does not load", False),
        (ago(ENDED, ENDED_SECONDS - 1), "ended, for it refuses revision 3: does not load", False),
        (ago(ENDED, ENDED_SECONDS + 1), "stopped", True),  # nobody starts it again
        (replace(ENDED, refused=2), "stopped", True),
    ],
)
def test_a_slot_is_as_wanted_or_it_is_said_what_is_otherwise(status: Status, verdict: str, fine: bool) -> None:
    (row,) = rows([status], {"flights": STATE}, NOW)
    assert (row.verdict, row.fine) == (verdict, fine)


def test_slots_of_a_deployment_that_control_has_not_are_told_of_while_they_speak() -> None:
    (row,) = rows([FINE], {}, NOW)
    assert (row.verdict, row.fine) == ("not in control", False)
    silent = [replace(FINE, state="stopped"), ago(FINE, SILENT_SECONDS + 1), ENDED]
    assert rows(silent, {}, NOW) == []
    assert len(rows(silent, {"flights": STATE}, NOW)) == 3


@pytest.mark.parametrize(
    ("status", "seconds", "told"),
    [
        (replace(FINE, state="stopped"), GONE_SECONDS - 1, True),
        (replace(FINE, state="stopped"), GONE_SECONDS + 1, False),
        (FINE, FORGOTTEN_SECONDS - 1, True),
        (FINE, FORGOTTEN_SECONDS + 1, False),
    ],
)
def test_a_slot_that_is_there_no_more_is_told_of_for_a_while(status: Status, seconds: float, told: bool) -> None:
    assert bool(rows([ago(status, seconds)], {"flights": STATE}, NOW)) is told


ARMS = tuple(ArmState(role, role, "m@t", "m", "v", "d") for role in ("active", "canary", "shadow", "fallback"))
DECLARED = replace(STATE, arms=ARMS)
SHADOW = replace(FINE, group="penstock.flights.shadow")


@pytest.mark.parametrize(
    ("statuses", "missing"),
    [
        ([], ["active", "shadow"]),
        ([FINE], ["shadow"]),
        ([FINE, SHADOW], []),
        ([replace(FINE, revision=2), SHADOW], []),  # it is behind, but there
        ([replace(FINE, state="stopped"), SHADOW], ["active"]),
        ([ago(FINE, SILENT_SECONDS + 1), SHADOW], ["active"]),
        ([ENDED, SHADOW], ["active"]),
        ([replace(FINE, deployment="other"), SHADOW], ["active"]),
    ],
)
def test_an_arm_without_a_slot_that_lives_is_run_by_nobody(statuses: list[Status], missing: list[str]) -> None:
    states = {"flights": DECLARED}
    assert unmanned(states, rows(statuses, states, NOW)) == [(DECLARED, arm) for arm in missing]
