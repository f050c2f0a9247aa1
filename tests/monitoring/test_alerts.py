"""Episodes open once and close once, under ids that follow from their content."""

from __future__ import annotations

from monitoring.alerts import Episode, Explanation, Finding, Subject, encoded, episode_id, told
from schemas import records

SUBJECT = Subject("flights", "active", "late", "v1", "psi", "feature", "wind")


def _finding(value: float, at: int = 0) -> Finding:
    moved = Explanation("moved")
    return Finding(value >= 0.2, value < 0.1, value, 0.2, 100, at * 1000, (at + 1) * 1000, lambda: moved, value >= 0.4)


def _steps(values: list[float], patience: int = 2, rest: int = 3) -> list[str]:
    episode, changes = Episode(), []
    for at, value in enumerate(values):
        if change := episode.step(_finding(value, at), patience, rest):
            changes.append(f"{change} at {at}, onset {episode.onset}")
    return changes


def test_one_deviating_window_opens_nothing() -> None:
    assert _steps([0, 0.9, 0, 0.9, 0]) == []


def test_two_in_a_row_open_an_episode_that_began_with_the_first() -> None:
    assert _steps([0, 0.9, 0.9, 0.9, 0.9]) == ["opened at 2, onset 1000"]


def test_three_calm_windows_in_a_row_close_it() -> None:
    assert _steps([0.9, 0.9, 0, 0, 0, 0]) == ["opened at 1, onset 0", "closed at 4, onset 0"]


def test_values_between_the_two_thresholds_keep_an_episode_as_it_is() -> None:
    assert _steps([0.15] * 20) == []
    assert _steps([0.9, 0.9] + [0.15] * 20) == ["opened at 1, onset 0"]


def test_an_episode_that_wavers_does_not_flap() -> None:
    assert _steps([0.9, 0.9] + [0, 0, 0.3] * 10) == ["opened at 1, onset 0"]


def test_a_second_episode_opens_anew() -> None:
    assert len(_steps([0.9, 0.9, 0, 0, 0, 0.9, 0.9])) == 3


def test_the_id_depends_on_the_subject_and_the_onset_only() -> None:
    assert episode_id(SUBJECT, 5) == episode_id(SUBJECT, 5)
    other = Subject("flights", "active", "late", "v2", "psi", "feature", "wind")
    assert len({episode_id(SUBJECT, 5), episode_id(SUBJECT, 6), episode_id(other, 5)}) == 3


def test_severity_grows_with_the_effect() -> None:
    severities = [
        records.decode("alert", encoded(told(SUBJECT, change, 0, _finding(value)))[1])["severity"]
        for change, value in (("opened", 0.3), ("opened", 0.4), ("closed", 0.0))
    ]
    assert severities == ["warning", "critical", "info"]
