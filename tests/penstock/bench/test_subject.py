"""What `penstock bench` does not measure is refused before a broker is started for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from penstock.bench.subject import refuse_beside
from penstock.cli import main
from penstock.embedded import EmbeddedKafka
from penstock.errors import NothingToMeasure
from schemas.deployment import Deployment

BESIDE = {"role": "all", "name": "stacked", "model": "m@t"}


def declared(*more: dict[str, Any]) -> dict[str, Any]:
    arms = [{"role": "active", "model": "m@t"}, *more]
    return {"name": "d", "input": {"topic": "e", "schema": "e.avsc"}, "output": {"topic": "i"}, "arms": arms}


def test_arms_that_score_every_event_are_named() -> None:
    with pytest.raises(NothingToMeasure, match=r"d has arms that score every event \(stacked\).*measure a copy"):
        refuse_beside(Deployment.model_validate(declared(BESIDE)))
    refuse_beside(Deployment.model_validate(declared({"role": "canary", "model": "m@t", "percent": 5})))


def test_nothing_is_started_for_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def started(*_: Any, **__: Any) -> None:
        raise AssertionError("a broker was started")

    monkeypatch.setattr(EmbeddedKafka, "__init__", started)
    monkeypatch.delenv("PENSTOCK_BOOTSTRAP_SERVERS", raising=False)
    (tmp_path / "e.avsc").write_text('{"type": "record", "name": "E", "fields": [{"name": "a", "type": "double"}]}')
    (tmp_path / "d.yaml").write_text(yaml.safe_dump(declared(BESIDE)))
    result = CliRunner().invoke(main, ["bench", str(tmp_path / "d.yaml")])
    assert (result.exit_code, "score every event (stacked)" in result.output) == (2, True), result.output
