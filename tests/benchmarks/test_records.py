"""The file that all measurements of a machine share."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.errors import OtherMachine
from benchmarks.records import check, load, machine, put


def test_each_part_stands_beside_the_others_and_replaces_its_former_self(tmp_path: Path) -> None:
    file = tmp_path / "results.json"
    put(file, "matrix", {"events": 1}, within="jobs")
    put(file, "growth", {"events": []})
    put(file, "image", {"events": 2}, within="jobs")
    put(file, "matrix", {"events": 3}, within="jobs")
    found = load(file)
    assert found["jobs"] == {"matrix": {"events": 3}, "image": {"events": 2}}
    assert found["growth"] == {"events": []}
    assert found["machine"] == machine()


def test_figures_of_another_machine_are_not_mixed_in(tmp_path: Path) -> None:
    file = tmp_path / "results.json"
    put(file, "growth", {})
    told = json.loads(file.read_text())
    told["machine"]["cores"] += 1
    file.write_text(json.dumps(told))
    with pytest.raises(OtherMachine, match="another file"):
        put(file, "growth", {})
    with pytest.raises(OtherMachine, match="another file"):
        check(file)


def test_without_a_file_nothing_is_kept() -> None:
    put(None, "growth", {})
    check(None)
