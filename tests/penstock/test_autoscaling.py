"""The autoscaler believes vitals of the slots' own processes only, and says what it decides once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from penstock.autoscaling import REMIND_SECONDS, Autoscaler, files, slots_in
from penstock.cli import main
from schemas.vitals import Vitals
from streams.scaling import Targets
from streams.vitals import vitals_path
from tests.rig import ROOT, SCHEMA

BUSY = Vitals(0, 7, 8, 8, 50_000, 2_000.0, 1_000.0, 1_000.0, 1.0, 1e-6, 1.0, 1 << 20, (), 60.0, 0.0)


class Scene:
    """An autoscaler on simulated clocks, and the vitals that it reads."""

    def __init__(self, **targets: float) -> None:
        self.now, self.vitals = 1_000.0, dict[str, Vitals | None]()
        goals = Targets(**{"least": 1, "most": 4, "down_seconds": 60.0, **targets})  # type: ignore[arg-type]
        self.scaler = Autoscaler(goals, self.vitals.get, lambda: self.now, lambda: self.now)

    def look(self, processes: dict[str, int | None], seconds: int) -> int:
        found = len(processes)
        for _ in range(seconds):
            self.now += 1
            self.vitals = {
                name: each and replace(each, at_ms=int(self.now * 1000)) for name, each in self.vitals.items()
            }
            self.scaler._read = self.vitals.get
            found = self.scaler(processes)
        return found


def test_a_busy_slot_gets_company_and_that_is_said_with_its_reasons(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    scene = Scene()
    scene.vitals["0"] = BUSY
    assert scene.look({"0": 7}, 3) == 1
    assert scene.look({"0": 7}, 2) == 2
    assert caplog.text.count("slots: 1 -> 2: 50,000 events wait") == 1  # though nobody could start it at once


def test_vitals_of_a_process_before_are_not_believed() -> None:
    scene = Scene()
    scene.vitals["0"] = BUSY
    assert scene.look({"0": 8}, 30) == 1
    assert scene.look({"0": None}, 30) == 1


def test_what_changes_nothing_is_said_once_in_a_while(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    scene = Scene()
    scene.vitals["0"] = replace(BUSY, arriving=100.0, scored=100.0, lag=0)
    scene.look({"0": 7}, int(REMIND_SECONDS) + 5)
    assert caplog.text.count("slots: 1: 0 events wait") == 2


def test_the_files_of_a_group_are_its_own(tmp_path: Path) -> None:
    names = ("penstock.d.0", "penstock.d.1", "penstock.d.shadow.0", "penstock.other.0")
    for number, name in enumerate(names):
        vitals_path(tmp_path, name).write_bytes(replace(BUSY, process=number).to_line())
    vitals_path(tmp_path, "penstock.d.2").write_bytes(b"half")
    assert [each.process for each in slots_in(tmp_path, "penstock.d")] == [0, 1]
    assert [each.process for each in slots_in(tmp_path, "penstock.d.shadow")] == [2]
    found = files(tmp_path, "penstock.d")("1")
    assert found is not None
    assert found.process == 1
    assert files(tmp_path, "penstock.d")("2") is None


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--min", "3", "--max", "2"], "--max 2 is less than --min 3"),
        (["--max", "2", "--json"], "--json needs --dry-run"),
        ([], "Missing option '--max'"),
        (["--max", "2", "--target-utilization", "1.5"], "is not in the range"),
    ],
)
def test_options_that_do_not_go_together_are_refused(options: list[str], words: str) -> None:
    done = CliRunner().invoke(main, ["autoscale", "d", *options])
    assert done.exit_code == 2
    assert words in done.output


def test_an_autoscaler_imports_no_kafka_client_and_nothing_that_scores() -> None:
    script = (
        "import sys; import penstock.autoscaling, penstock.supervisor, penstock.cli.autoscale, penstock.config\n"
        "print(sorted({'confluent_kafka', 'numpy', 'polars', 'onnxruntime', 'prometheus_client'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout == "[]\n", done.stderr


def test_a_dry_run_tells_what_would_be_done_and_does_nothing(tmp_path: Path) -> None:
    (tmp_path / "event.avsc").write_text(json.dumps(SCHEMA))
    declared = {
        "name": "d",
        "input": {"topic": "in", "schema": "event.avsc"},
        "output": {"topic": "out"},
        "arms": [{"role": "active", "model": "m@production"}],
    }
    (tmp_path / "d.yaml").write_text(json.dumps(declared))  # JSON is YAML
    folder = tmp_path / ".penstock" / "slots"
    folder.mkdir(parents=True)
    path = vitals_path(folder, "penstock.d.0")
    later = int(time.time() * 1000) + 3_600_000  # fresh however slow this machine is
    path.write_bytes(replace(BUSY, at_ms=later).to_line())
    run = subprocess.Popen(
        [sys.executable, "-m", "penstock.cli", "autoscale", "d.yaml", "--max", "4", "--dry-run", "--json"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert run.stdout is not None
    with run.stdout:
        told = [json.loads(run.stdout.readline()) for _ in range(6)]
        run.terminate()
        assert run.wait(20) == 0
    assert [each["slots"] for each in told] == [1] * 6
    assert told[0]["wanted"] == 1
    assert told[5]["wanted"] == 2  # again and again: nobody does it
    assert told[5]["signals"]["lag"] == 50_000
    assert told[5]["signals"]["drain_seconds"] == "inf"
    assert "slots are needed" in told[5]["why"]
    assert [each.name for each in folder.iterdir()] == [path.name]
