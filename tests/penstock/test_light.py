"""A way back must be quick, so what `penstock rollback` does before its change imports nothing that takes long."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.rig import ROOT

HEAVY = ("numpy", "polars", "onnx", "onnxruntime", "pydantic", "fsspec")


def heavy(*modules: str) -> list[str]:
    """Return which of HEAVY are there once modules were imported in a process of their own."""
    text = f"import sys, {', '.join(modules)}; print(*(name for name in {HEAVY!r} if name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", text], cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.split()


def test_changes_of_control_import_nothing_heavy() -> None:
    modules = ("penstock.cli.rollout", "penstock.config", "models.digests", "models.errors", "penstock.changes")
    assert heavy(*modules, "streams.control_writer", "streams.rollout") == []


@pytest.mark.parametrize(("module", "name"), [("streams.sink", "numpy"), ("schemas.deployment", "pydantic")])
def test_what_is_heavy_is_found(module: str, name: str) -> None:
    assert name in heavy(module)
