"""What verifies loads a model once, for whomever and for whatever reason it scored."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from models.bundle import Bundle
from models.repository import Repository
from schemas.deployment import Deployment
from streams import versions
from streams.arms import Made
from streams.recorded import Maker
from streams.topics import Topic
from streams.versions import KEPT, Declaration, Unknown, Version, Versions
from tests.rig import SCHEMA, sum_model

WHY = ["", "missing_value", "not_finite", "model_failed", "model_timed_out", "circuit_open"]


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The arms whose models were loaded, one load after the other."""
    found: list[list[str]] = []
    assemble = versions.assemble

    def counted(deployment: Any, reader: Any, bundles: Any, *rest: Any) -> Any:
        found.append([*bundles])
        return assemble(deployment, reader, bundles, *rest)

    monkeypatch.setattr(versions, "assemble", counted)
    return found


def declared(folder: Path) -> tuple[Versions, Declaration, str]:
    repository = Repository(str(folder / "models"), folder / "cache")
    bundle = Bundle.build(name="sum", model=sum_model(), features=["a", "b"], missing={"b": 0.0})
    repository.add(bundle, ["production"])
    deployment = Deployment.model_validate(
        {
            "name": "d",
            "input": {"topic": "in", "schema": "event.avsc"},
            "output": {"topic": "out"},
            "arms": [{"role": "active", "model": "sum@production"}],
            "fallback": ["sum@production", {"constant": {"score": 0.5}}],
        }
    )
    declaration = Declaration(deployment, SCHEMA)
    writers: Any = None  # no event is decoded
    return Versions([declaration], repository, writers, Topic("out", 1, 1 << 20)), declaration, bundle.manifest.version


def maker(declaration: Declaration, arm: str, why: str, version: str, propensity: float = 1.0) -> Maker:
    model = "constant" if arm == "constant" else "sum"
    return Maker("d", declaration.revision, "in", Made(arm, "active", propensity, why, model, version))


def test_a_model_is_loaded_once_for_all_reasons_for_which_it_stepped_in(
    tmp_path: Path, loaded: list[list[str]]
) -> None:
    made, declaration, version = declared(tmp_path)
    makers = [
        maker(declaration, arm, why, "constant" if arm == "constant" else version)
        for arm in ("active", "fallback", "constant")
        for why in WHY
    ]
    assert len(makers) > 2 * KEPT
    found = [made.get(each) for _ in range(2) for each in makers]
    assert all(isinstance(each, Version) for each in found)
    assert len({id(each) for each in found}) == len(makers)  # each says what its maker said
    assert loaded == [["active"], ["fallback"], ["active"]]  # the constant has the outputs of the active model
    made.close()


def test_models_beyond_those_that_are_kept_are_loaded_again(tmp_path: Path, loaded: list[list[str]]) -> None:
    """The control: arms that each have a model of their own."""
    made, declaration, version = declared(tmp_path)
    for _ in range(2):
        for number in range(KEPT + 1):
            assert isinstance(made.get(maker(declaration, f"arm-{number}", "", version)), Version)
    assert len(loaded) == 2 * (KEPT + 1)
    made.close()


def test_what_is_not_there_is_asked_for_once(tmp_path: Path, loaded: list[list[str]]) -> None:
    made, declaration, _ = declared(tmp_path)
    absent = maker(declaration, "active", "", "11111111-2222-3333-4444-555555555555")
    first = made.get(absent)
    assert isinstance(first, Unknown)
    assert first.what == "unknown_version"
    assert made.get(absent) is first
    assert loaded == []
