"""What Faust runs, in processes of their own: rather than go wrong it ends, with a code that says what to do."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from monitoring import exact

ROOT = Path(__file__).parents[2]


def _check(name: str) -> tuple[int, str]:
    command = [sys.executable, "-m", "tests.monitoring.faust_checks", name]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=120, check=False)
    return done.returncode, done.stderr


@pytest.mark.parametrize(
    "name",
    [
        "records_in_order_are_folded",
        "others_work_between_the_turns_of_a_backlog",
        "nothing_is_read_between_an_assignment_and_its_seek",
        "a_backlog_waits_for_its_fold_and_keeps_no_other_partition_waiting",
        "the_hooks_are_all_there",
        "security_settings_are_those_of_the_other_clients",
    ],
)
def test_what_should_work_works(name: str) -> None:
    assert _check(name)[0] == 0, _check(name)[1]


@pytest.mark.parametrize(
    ("name", "code", "text"),
    [
        ("a_hole_exits_71", 71, "record 5 follows 4, but the state ends at 1"),
        ("a_record_without_its_stamp_exits_71", 71, "record 0 follows None"),
        ("a_fold_that_raises_exits_70", 70, "partition 0, offset 0"),
        ("a_failing_producer_exits_70", 70, "the broker has gone"),
        ("an_unreachable_snapshot_topic_exits_70", 70, "the state cannot be restored"),
        (
            "brokers_that_went_away_exit_70",
            70,
            "the monitor could not start: KafkaConnectionError",
        ),
        ("a_snapshot_of_another_release_exits_78", 78, "--forget profiles"),
        ("a_missing_hook_exits_78", 78, "no AIOKafkaConsumerThread._fetch_records"),
    ],
)
def test_what_goes_wrong_ends_the_process_with_a_code_and_a_reason(name: str, code: int, text: str) -> None:
    found, log = _check(name)
    assert found == code, log
    assert text in log


def test_a_slot_that_two_processes_have_is_noticed_and_a_lost_session_is_not_taken_for_it() -> None:
    times = iter([0.0, 2.0, 4.0, 6.0])
    together = exact.Twins(lambda: next(times))
    assert [together.lost() for _ in range(4)] == [False, False, False, True]
    slow = iter([0.0, 11.0, 22.0, 33.0, 44.0])
    alone = exact.Twins(lambda: next(slow))
    assert not any(alone.lost() for _ in range(5))
