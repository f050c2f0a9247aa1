"""The supervisor stays small, and tells its children what a dead process left."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

import streams.orders
from penstock.cli.worker import _orders
from penstock.config import load_deployment
from streams.building import Builder
from tests.rig import ROOT, SCHEMA


def test_a_supervisor_imports_no_kafka_client_and_nothing_that_scores() -> None:
    script = (
        "import sys; import penstock.supervisor, penstock.cli.worker, penstock.config, schemas.deployment\n"
        "print(sorted({'confluent_kafka', 'numpy', 'polars', 'onnxruntime', 'prometheus_client'} & sys.modules.keys()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True
    )
    assert done.stdout == "[]\n", done.stderr


def test_a_process_that_stands_by_is_stale_once_the_declaration_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    declared: dict[str, Any] = {
        "name": "d",
        "input": {"topic": "in", "schema": "event.avsc"},
        "output": {"topic": "out"},
        "arms": [{"role": "active", "model": "m@production"}],
    }
    (tmp_path / "event.avsc").write_text(json.dumps(SCHEMA))
    file = tmp_path / "deployment.yaml"
    file.write_text(yaml.safe_dump(declared))
    asked: list[Any] = []
    monkeypatch.setattr(streams.orders, "await_order", lambda pipe, stopping, stale: asked.append(stale))
    orders = _orders(load_deployment(file), lambda slot: None)
    model = [False]
    assert orders(lambda: False, lambda: model[0]) is None
    (stale,) = asked
    assert not stale()
    model[0] = True
    assert stale()
    model[0] = False
    file.write_text("name: [half wri")
    assert not stale()
    file.write_text(yaml.safe_dump(declared | {"latency_ms": 50}))
    assert stale()


def test_what_stands_by_is_stale_once_the_tag_of_its_model_moved_and_not_while_the_repository_is_away() -> None:
    from models.errors import RepositoryUnavailable

    builder = Builder.__new__(Builder)
    digest: list[str | Exception] = ["a"]

    def resolve(ref: str) -> Any:
        assert ref == "m@production"
        if isinstance(digest[0], Exception):
            raise digest[0]
        return SimpleNamespace(digest=digest[0])

    builder._repository = SimpleNamespace(resolve=resolve)  # type: ignore[assignment]
    builder.arm = "active"
    deployment = SimpleNamespace(models=lambda arm: {arm: "m@production"})
    bundles = {"active": SimpleNamespace(digest="a")}

    def built(pins: Any) -> Any:
        return SimpleNamespace(
            wanted=SimpleNamespace(deployment=deployment, pins=pins), assembly=SimpleNamespace(bundles=bundles)
        )

    assert not builder.stale(built({}))
    digest[0] = "b"
    assert builder.stale(built({}))
    assert not builder.stale(built({"active": ("m@v", "a")}))  # control says which version it is
    digest[0] = RepositoryUnavailable("away")
    assert not builder.stale(built({}))
