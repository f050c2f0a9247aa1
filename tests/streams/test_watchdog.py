"""A process that stands still ends itself; one that turns, or has ended its loop, does not."""

from __future__ import annotations

import subprocess
import sys

import pytest

SCRIPT = """
import time
from streams.watchdog import Watchdog

def loop():
    watchdog = Watchdog(1.0)
    for _ in range(3):
        watchdog()
        time.sleep(0.5)
    {then}

loop()
print("ended")
"""


@pytest.mark.parametrize(
    ("then", "status"),
    [
        ("time.sleep(60)", 1),
        ("(lambda text: text.count('b'))('a' * (1 << 28) * 100)", 1),  # holds the interpreter all the while
        ("watchdog.close(); time.sleep(1.5)", 0),
    ],
)
def test_a_loop_that_stands_still_ends_its_process_and_says_where(then: str, status: int) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(then=then)], capture_output=True, text=True, timeout=50, check=False
    )
    assert done.returncode == status, done.stderr
    assert ("in loop" in done.stderr) == bool(status)
    assert ("ended" in done.stdout) == (not status)
