"""What becomes of models, as a user types it, and what the audit is told of it, on a real Kafka."""

from __future__ import annotations

import re
from typing import Any

import pytest
from click.testing import CliRunner

from models.bundle import Bundle
from penstock.cli import main
from tests.integration.desk import Desk
from tests.rig import sum_model

pytestmark = pytest.mark.timeout(180)


def written(desk: Desk, features: tuple[str, ...] = ("a", "b"), **more: Any) -> tuple[str, str]:
    """A bundle in a file, and its version."""
    built = Bundle.build(name="sum", model=sum_model(), features=list(features), **more)
    return str(built.write(desk.rig.folder / f"{built.manifest.version}.zip")), built.manifest.version


def test_a_version_that_is_added_is_registered_with_its_run_and_followers_of_its_tag_move(desk: Desk) -> None:
    desk.apply()
    path, version = written(desk, author="Grace", metrics={"auc": 0.8}, training={"run_id": "run-9"})
    output = desk.said("model", "add", path, "--tag", "production", "--why", "weekly")
    assert f"registered sum@{version} (entry 3 of the audit)" in output
    assert re.search(rf"~ arms.active.version +{desk.first} -> {version}\n", output)
    assert desk.arms() == {"active": version}
    rows = [re.split(r"  +", row)[3:] for row in desk.said("history").splitlines()[2:]]
    assert rows == [
        ["finish", "experiment run-9", f"made sum {version[:8]}", "weekly"],
        ["register", "model sum", f"{version[:8]} added", "weekly"],
        ["tag", "model sum", f"production {desk.first[:8]} -> {version[:8]}", "weekly"],
        ["tag", desk.name, "2", f"active {desk.first[:8]} -> {version[:8]}", "weekly"],
    ]
    assert desk.plane.findings() == []
    again = desk.said("model", "add", path, "--tag", "production")
    assert "the audit has it already" in again
    assert len(desk.plane.read().entries) == 5


def test_a_version_that_does_not_fit_a_follower_of_its_tag_is_not_even_added(desk: Desk) -> None:
    desk.apply()
    path, version = written(desk, features=("a", "z"), tags=["production"])
    output = desk.refused("model", "add", path)
    assert f"{desk.name} could not run then: arm active (sum@production): feature 'z'" in output
    assert version not in {entry.manifest.version for entry in desk.repository.list()}
    assert len(desk.plane.read().entries) == 1
    desk.said("model", "add", path, "--repository-only")
    assert desk.repository.resolve("sum@production").manifest.version == version
    assert desk.arms() == {"active": desk.first}
    assert len(desk.plane.read().entries) == 1


def test_an_audit_that_was_not_told_of_what_was_added_is_told_by_the_same_command_again(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    from penstock.cli import control as commands
    from streams.errors import ControlUnavailable

    desk.apply()
    path, version = written(desk)

    def fail(*_: Any, **__: Any) -> None:
        raise ControlUnavailable("made up")

    with monkeypatch.context() as broken:
        broken.setattr(commands, "write", fail)
        output = desk.denied("model", "add", path, "--tag", "production")
    assert "The repository was changed, the audit was not told and no deployment follows: repeat the" in output
    assert desk.arms() == {"active": desk.first}
    desk.said("model", "add", path, "--tag", "production")
    assert desk.arms() == {"active": version}


def test_a_run_that_made_no_version_is_told(desk: Desk) -> None:
    output = desk.said("model", "finish", "run-3", "--metric", "auc=0.61", "--why", "worse than production")
    assert output == "run run-3 finished (entry 1 of the audit)\n"
    assert "the audit has that already, and keeps it" in desk.said("model", "finish", "run-3")
    assert desk.said("history", "run-3").splitlines()[1].endswith("made no version  worse than production")
    wrong = desk.type("model", "finish", "run-4", "--metric", "auc")
    assert (wrong.exit_code, "'auc' is no metric: write auc=0.74" in " ".join(wrong.output.split())) == (2, True)


def test_a_version_that_a_deployment_has_or_would_go_back_to_is_removed_by_force_only(desk: Desk) -> None:
    desk.apply()
    refused = desk.refused("model", "remove", f"sum@{desk.first}", "--yes")
    assert f"sum@{desk.first} is in {desk.name} (active), and control asks for it" in refused
    assert "add --force; nothing was removed" in refused
    desk.said("model", "tag", "sum", desk.second, "production")
    refused = desk.refused("model", "remove", f"sum@{desk.first}", "--yes")
    assert f"is in {desk.name} (active of the state before)" in refused
    assert len(desk.repository.list("sum")) == 2
    result = CliRunner().invoke(main, ["model", "remove", f"sum@{desk.first}", "--force"], input="n\n")
    assert (f"is in {desk.name} (active of the state before)" in result.output, result.exit_code) == (True, 1)
    desk.said("model", "remove", f"sum@{desk.first}", "--yes", "--force")
    assert desk.repository.resolve("sum@production").manifest.version == desk.second
    assert len(desk.repository.list("sum")) == 1


def test_a_version_that_nobody_has_is_removed_and_told(desk: Desk) -> None:
    desk.apply()
    output = desk.said("model", "remove", "sum@candidate", "--yes", "--why", "never used")
    assert "control asks for it" not in output
    assert desk.said("history", "sum").splitlines()[1].endswith(f"{desk.second[:8]} removed  never used")
    assert desk.plane.findings() == []
