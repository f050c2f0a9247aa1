"""What the supervisor does about processes, with small scripts as workers: no Kafka is needed for that."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.rig import Worker

MAIN = """
import logging, sys
from pathlib import Path
import penstock.crashes, penstock.supervisor as it

logging.basicConfig(level=logging.INFO, format="%(message)s")
it.SPAWN_SECONDS = 0.2
it.LONG_LIFE = penstock.crashes.LONG_LIFE = float(sys.argv[1])
penstock.crashes.DELAYS = (0.01,)
plan = it.Plan(["0", "1"], [str(Path("worker").absolute())], Path("slots"), "g", "penstock quarantine", warm=False)
sys.exit(it.Supervisor(plan).run())
"""
FOREVER = "#!/bin/sh\nread order\nexec sleep 600\n"
NOTES = '{"process": %s, "topic": "t", "joined": true, "scoring": []}'

Supervise = Callable[..., Worker]


@pytest.fixture
def supervise(tmp_path: Path) -> Iterator[Supervise]:
    """A factory of supervisors of the slots 0 and 1, whose processes run the script."""
    made: list[Worker] = []

    def make(script: str, long_life: float = 60.0) -> Worker:
        (tmp_path / "main.py").write_text(MAIN)
        (tmp_path / "slots").mkdir()
        (tmp_path / "worker").write_text(script)
        (tmp_path / "worker").chmod(0o755)
        made.append(Worker([str(long_life)], tmp_path, tmp_path / "log", command=("main",)))
        return made[-1]

    yield make
    for each in made:
        each.stop()


def process_of(run: Worker, slot: str) -> int:
    return int(run.wait_for(rf"slot {slot} runs as process (\d+)")[1])


def test_where_no_process_can_be_started_the_others_go_on_and_it_is_tried_again(
    supervise: Supervise, tmp_path: Path
) -> None:
    run = supervise(FOREVER)
    first, other = process_of(run, "0"), process_of(run, "1")
    (tmp_path / "worker").rename(tmp_path / "away")
    os.kill(first, signal.SIGKILL)
    run.wait_for(r"(?s)(cannot start a process.*){2}")
    os.kill(other, 0)
    (tmp_path / "away").rename(tmp_path / "worker")
    run.wait_for(r"(?s)(slot 0 runs as process.*){2}")
    os.kill(other, 0)
    assert run.text().count("slot 1 runs") == 1
    assert run.stop() == 0


def test_a_note_of_the_process_itself_tells_that_it_joined_and_one_of_another_does_not(
    supervise: Supervise, tmp_path: Path
) -> None:
    dies = f"#!/bin/sh\nread order\n[ -f own ] && echo '{NOTES}' | sed s/%s/$$/ > slots/g.0.inflight\nkill -9 $$\n"
    (tmp_path / "own").write_text("")
    run = supervise(dies)
    run.wait_for(r"(?s)slot 1 is given up.*(slot 0 runs as process.*){6}")
    assert "slot 0 is given up" not in run.text()
    (tmp_path / "own").unlink()  # the last note stays, and is that of a process from before
    assert run.process.wait(30) == 4
    assert "slot 0 is given up" in run.text()


def test_a_process_that_lived_long_had_started_also_when_it_could_not_note_so(
    supervise: Supervise, tmp_path: Path
) -> None:
    run = supervise("#!/bin/sh\nread order\nsleep 0.2\n[ -f refused ] && exit 2\nkill -9 $$\n", long_life=0.2)
    run.wait_for(r"(?s)(slot 0 runs as process.*){6}")
    assert "given up" not in run.text()
    (tmp_path / "refused").write_text("")
    run.wait_for("slot 0 was refused")
    run.wait_for("slot 1 was refused")
    assert run.process.poll() is None
    assert run.stop() == 0


def test_slots_that_are_refused_from_the_start_end_their_supervisor_however_long_they_waited(
    supervise: Supervise,
) -> None:
    run = supervise("#!/bin/sh\nread order\nsleep 0.2\nexit 2\n", long_life=0.1)
    assert run.process.wait(30) == 2


def test_slots_whose_deployment_was_removed_end_their_supervisor_also_beside_one_that_is_refused(
    supervise: Supervise, tmp_path: Path
) -> None:
    waits = "while [ ! -e gone ]; do sleep 0.1; done"
    run = supervise(f"#!/bin/sh\nread order\n{waits}\n[ $$ = $(cat gone) ] && exit 2\nexit 6\n")
    first = process_of(run, "0")
    process_of(run, "1")
    (tmp_path / "gone.new").write_text(f"{first}\n")
    (tmp_path / "gone.new").rename(tmp_path / "gone")
    assert run.process.wait(30) == 0
    assert "slot 1 ended: its deployment was removed from control" in run.text()
    assert "no slot is left, for the deployment was removed from control" in run.text()


def test_a_slot_that_merely_stops_is_started_again(supervise: Supervise) -> None:
    """The control: only a removal ends it."""
    run = supervise("#!/bin/sh\nread order\nsleep 0.2\n", long_life=0.1)
    run.wait_for(r"(?s)(slot 0 runs as process.*){3}")
    assert run.stop() == 0


def test_a_signal_to_go_on_waits_for_the_handler_of_a_process_that_starts(supervise: Supervise) -> None:
    run = supervise(
        f"#!{sys.executable}\n"
        "import signal, sys, time\n"
        "sys.stdin.readline()\n"
        "while signal.SIGUSR1 not in signal.sigpending():\n"
        "    time.sleep(0.05)\n"
        "signal.signal(signal.SIGUSR1, lambda *_: print('goes on', flush=True))\n"
        "signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGUSR1})\n"
        "time.sleep(600)\n"
    )
    process_of(run, "1")
    run.process.send_signal(signal.SIGUSR1)
    run.wait_for(r"(?s)(goes on.*){2}")
    assert "ended" not in run.text()
