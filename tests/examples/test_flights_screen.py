"""What a person sees, on a terminal and in a log; and the exit code that goes with it."""

from __future__ import annotations

import io
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from examples.flights import report
from examples.flights.account import ArmAccount, Sent
from examples.flights.screen import LiveScreen, Screen, Status, alert_line, screen_for

STATUS = Status(1000, 2000, datetime(2013, 5, 1, tzinfo=UTC), 9876.0, 990, 980, 3, 2, 8.0, 14.0)
INFERENCE = {
    "flight_id": "UA1545-EWR-20130101T1015Z",
    "origin": "EWR",
    "dest": "IAH",
    "event_time": datetime(2013, 1, 1, 10, 15, tzinfo=UTC),
    "late_probability": 0.734,
}


def console(terminal: bool) -> Console:
    return Console(file=io.StringIO(), force_terminal=terminal, width=100, highlight=False, legacy_windows=False)


def text(screen: Screen | Console) -> str:
    file = (screen if isinstance(screen, Console) else screen.console).file
    assert isinstance(file, io.StringIO)
    return file.getvalue()


def test_a_log_gets_plain_lines_with_everything_in_them() -> None:
    screen = screen_for(console(False))
    with screen:
        screen.say("Starting")
        screen.show(STATUS, [INFERENCE])
    assert type(screen) is Screen
    for part in ("Starting", "01 May", "9,876/s", "inferences 990", "shadow 980", "p95 14 ms", "UA1545", "0.73"):
        assert part in text(screen)
    assert "\x1b[" not in text(screen)


def test_a_log_is_not_flooded() -> None:
    screen = Screen(console(False))
    for _ in range(50):
        screen.show(STATUS, [])
    assert text(screen).count("\n") == 1


def test_a_terminal_gets_a_picture() -> None:
    screen = screen_for(console(True))
    with screen:
        screen.show(STATUS, [INFERENCE])
        screen.show(STATUS, [INFERENCE])
        screen.done()
        screen.say("The account")
    assert text(screen).rstrip().endswith("The account")  # no picture is drawn below it
    assert isinstance(screen, LiveScreen)
    assert "UA1545" in text(screen)
    assert "1000/2000" in text(screen)


def test_an_alert_is_a_sentence() -> None:
    alert = {"state": "opened", "summary": "temp: PSI 0.7", "name": "temp", "arm": "active", "detector": "psi"}
    assert alert_line(alert) == "alert opened: temp: PSI 0.7 (active, psi)"
    assert alert_line({**alert, "state": "closed", "summary": ""}) == "alert closed: temp (active, psi)"


def outcome(**problems: list[str]) -> report.Outcome:
    arm = ArmAccount("active", Sent(4, 1, {0: 5}), 5, 4, 1, 0, 0, 0, {"truncated": 1})
    return report.Outcome(
        arms={"active": arm},
        aucs={"active": {4: 0.731, 5: 0.78}},
        speed=report.Speed(4321.0, np.array([5, 10, 15]), 3.0),
        alerts="2 opened (temp, dewp)",
        **problems,
    )


def test_the_report_holds_account_auc_speed_and_alerts() -> None:
    shown = console(False)
    report.show(shown, outcome())
    for part in (
        "dead letters",
        "truncated 1",
        "Apr",
        "0.731",
        "4,321 predictions/s",
        "p50 10 ms",
        "waited 3 s",
        "temp",
    ):
        assert part in text(shown)
    assert "The account balances" in text(shown)


@pytest.mark.parametrize(
    ("part", "code"),
    [("active_problems", report.NOT_BALANCED), ("shadow_problems", report.SHADOW_FAILED), ("alert_problems", 4)],
)
def test_a_problem_of_a_part_is_named_and_decides_the_exit_code(part: str, code: int) -> None:
    found = outcome(**{part: ["3 duplicates"]})
    shown = console(False)
    report.show(shown, found)
    assert found.code == code
    assert "WRONG: 3 duplicates" in text(shown)
    assert "The account balances" not in text(shown)


def test_the_gravest_problem_decides() -> None:
    assert outcome().code == report.OK
    assert outcome(active_problems=["a"], shadow_problems=["b"]).code == report.NOT_BALANCED


def test_what_to_type_next_depends_on_what_still_runs() -> None:
    places = (Path("/f"), Path("/f/deployment.yaml"), "127.0.0.1:1", "http://127.0.0.1:2/metrics")
    assert "scripts/demo --keep" in "\n".join(report.next_steps(*places, kept=False))
    kept = "\n".join(report.next_steps(*places, kept=True))
    assert "PENSTOCK_BOOTSTRAP_SERVERS=127.0.0.1:1" in kept
    assert "penstock watch /f/deployment.yaml" in kept
