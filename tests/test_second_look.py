"""Which failures of a whole run get a second look, alone."""

import json
from pathlib import Path

import pytest

from scripts import second_look

PASSES, FAILS = "def test_a(): pass\n", "def test_a(): assert False\n"


@pytest.mark.parametrize(
    ("failed", "looks"),
    [
        ([], False),
        (["tests/streams/test_a.py::test_b"], True),
        ([f"tests/streams/test_a.py::test_{i}" for i in range(3)], True),
        ([f"tests/streams/test_a.py::test_{i}" for i in range(4)], False),
        (["tests/streams/test_a.py::test_b", "tests/chaos/test_short.py::test_c[slots]"], False),
    ],
)
def test_only_a_few_and_none_of_the_promise_get_one(failed: list[str], looks: bool) -> None:
    assert second_look.worth_a_look(failed) == looks


@pytest.mark.parametrize(("text", "status"), [(PASSES, 0), (FAILS, 1)])
def test_what_fails_alone_too_has_failed_and_what_passes_is_named(
    text: str, status: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "test_it.py").write_text(text)
    (tmp_path / second_look.FAILED).parent.mkdir(parents=True)
    (tmp_path / second_look.FAILED).write_text(json.dumps({"test_it.py::test_a": True}))
    assert second_look.main() == status
    named = "UNSTEADY, failed beside others and passed alone; mend it: test_it.py::test_a" in capfd.readouterr().out
    assert named == (status == 0)


def test_a_run_that_failed_before_any_test_did_gets_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert second_look.main() == 1
