"""A supervisor that is told how many slots to run, with small scripts as workers: no Kafka is needed for that."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.rig import Worker

MAIN = """
import logging, sys
from pathlib import Path
import penstock.crashes, penstock.supervisor as it

logging.basicConfig(level=logging.INFO, format="%(message)s")
it.STEER_SECONDS = it.LOOK_SECONDS = 0.05
it.DRAIN_SECONDS = float(sys.argv[1])
penstock.crashes.DELAYS = (0.01, 1000.0)

def steer(processes):
    Path("seen").write_text(" ".join(f"{name}={pid or 0}" for name, pid in processes.items()))
    return int(Path("wanted").read_text() or len(processes))

plan = it.Plan(
    [str(5 + i) for i in range(4)], [str(Path("worker").absolute())], Path("slots"), "g", "penstock quarantine",
    metrics_port=9000, warm=False, first=1, steer=steer,
)
sys.exit(it.Supervisor(plan).run())
"""
OBEYS = (
    "#!/bin/sh\nread order\necho \"$$ has $order\"\ntrap 'echo $$ ends; exit 0' TERM\nwhile :; do sleep 0.05; done\n"
)
IGNORES = "#!/bin/sh\nread order\ntrap '' TERM\nwhile :; do sleep 0.05; done\n"


class Steered(Worker):
    folder: Path

    def want(self, count: int) -> None:
        (self.folder / "next").write_text(str(count))
        os.replace(self.folder / "next", self.folder / "wanted")

    def seen(self) -> dict[str, int]:
        """The processes of the slots that there are to be, as the supervisor told them last."""
        return {name: int(pid) for name, _, pid in (each.partition("=") for each in self._seen())}

    def _seen(self) -> list[str]:
        try:
            return (self.folder / "seen").read_text().split()
        except OSError:
            return []

    def until(self, true: Callable[[], object]) -> None:
        deadline = time.monotonic() + 20
        while not true():
            assert time.monotonic() < deadline, (self.seen(), self.text())
            time.sleep(0.02)


Steer = Callable[..., Steered]


@pytest.fixture
def steered(tmp_path: Path) -> Iterator[Steer]:
    """A factory of supervisors of one slot, whose number a file changes."""
    made: list[Steered] = []

    def make(script: str = OBEYS, drain: float = 10.0) -> Steered:
        (tmp_path / "main.py").write_text(MAIN)
        (tmp_path / "slots").mkdir()
        (tmp_path / "wanted").write_text("1")
        (tmp_path / "worker").write_text(script)
        (tmp_path / "worker").chmod(0o755)
        Steered.folder = tmp_path
        made.append(Steered([str(drain)], tmp_path, tmp_path / "log", command=("main",)))
        return made[-1]

    yield make
    for each in made:
        each.stop()


def alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def test_slots_are_added_with_names_and_ports_of_their_own_and_the_last_ones_go(steered: Steer) -> None:
    run = steered()
    run.until(lambda: list(run.seen()) == ["5"])
    run.want(3)
    run.until(lambda: list(run.seen()) == ["5", "6", "7"] and all(run.seen().values()))
    processes = run.seen()
    run.wait_for('"slot": "7", "metrics_port": 9002')
    run.want(1)
    run.wait_for("slot 7 stopped and is not started again")
    run.wait_for("slot 6 stopped and is not started again")
    run.until(lambda: run.seen() == {"5": processes["5"]})
    assert alive(processes["5"])
    assert not alive(processes["6"])
    assert len(re.findall(r"\d+ ends", run.text())) == 2  # each in order
    run.want(2)
    run.until(lambda: list(run.seen()) == ["5", "6"])
    assert run.stop() == 0


def test_a_number_that_stays_starts_and_stops_nothing(steered: Steer) -> None:
    run = steered()
    run.until(lambda: run.seen().get("5"))
    before = run.seen()
    time.sleep(0.5)
    assert run.seen() == before
    assert run.text().count("runs as process") == 1


def test_a_slot_that_died_is_started_again_and_one_that_was_let_go_is_not(steered: Steer) -> None:
    run = steered()
    run.want(2)
    run.until(lambda: all(run.seen().values()) and len(run.seen()) == 2)
    first = run.seen()["5"]
    os.kill(first, signal.SIGKILL)
    run.until(lambda: run.seen()["5"] not in (0, first))
    run.want(1)
    run.wait_for("slot 6 stopped and is not started again")
    time.sleep(0.3)
    assert run.text().count("slot 6 runs as process") == 1


def test_slots_that_do_not_run_go_first(steered: Steer) -> None:
    dies = OBEYS.replace("trap", "case $order in *'\"6\"'*) kill -9 $$;; esac\ntrap", 1)
    run = steered(dies)
    run.want(3)
    run.wait_for("slot 6 ended by SIGKILL; starting again in 1000 s")
    run.until(lambda: len(run.seen()) == 3 and run.seen()["5"] and run.seen()["7"] and not run.seen()["6"])
    run.want(2)
    run.until(lambda: list(run.seen()) == ["5", "7"])


def test_a_slot_that_does_not_go_is_killed_and_its_name_is_not_given_away_meanwhile(steered: Steer) -> None:
    run = steered(IGNORES, drain=5.0)
    run.want(2)
    run.until(lambda: len(run.seen()) == 2 and all(run.seen().values()))
    stubborn = run.seen()["6"]
    time.sleep(0.3)  # until it ignores the signal
    run.want(1)
    run.until(lambda: list(run.seen()) == ["5"])
    run.want(2)
    run.until(lambda: list(run.seen()) == ["5", "7"])
    assert alive(stubborn)
    run.wait_for("slot 6 ended by SIGKILL and is not started again")
    (Steered.folder / "worker").write_text(OBEYS)


def test_a_slot_that_outgrew_its_memory_is_counted_and_started_again(steered: Steer) -> None:
    run = steered('#!/bin/sh\nread order\necho "has $order"\nexit 7\n')
    run.wait_for("slot 5 had more memory than its quota, time 1; starting again")
    run.wait_for('has .*"outgrown": 1')
    run.wait_for("slot 5 had more memory than its quota, time 2; starting again in 1000 s")  # never in a loop
    assert "given up" not in run.text()
    assert "while it scored" not in run.text()
