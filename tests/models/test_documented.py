"""The hierarchy of models that docs/your-model.md builds can be built, added and scored with."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import polars as pl

from models.bundle import Bundle
from models.runtimes.onnx import load
from models.sandbox import prove

ROOT = Path(__file__).resolve().parent.parent.parent


def test_the_example_of_a_hierarchy_of_models_works(tmp_path: Path) -> None:
    text = (ROOT / "docs" / "your-model.md").read_text()
    (example,) = [code for code in re.findall(r"```python\n(.*?)```", text, re.S) if "partition_by" in code]
    (tmp_path / "train.py").write_text(example)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "train.py"], cwd=tmp_path, env=environment, check=True, capture_output=True)
    bundle = Bundle.read(tmp_path / "visits.zip")
    assert prove(bundle)["leaves"] == 4
    columns = {"pages": pl.Float64, "minutes": pl.Float64, "country": pl.String, "city": pl.String}
    frame = pl.DataFrame(
        [(0.0, 2.0, "DE", "Berlin"), (0.0, 2.0, "DE", "Bonn"), (0.0, 2.0, "DE", "Ulm"), (0.0, 2.0, "IT", None)],
        schema=columns,
        orient="row",
    )
    model = load(bundle, columns, {}, bounds=None)
    result = model.run(model.prepare(frame).inputs, 60.0)
    assert result["partition"].to_list() == ["DE/Berlin", "DE/Bonn", "DE", ""]
    assert result["label"].to_list() == [1, 0, 1, 1]
    model.close()
