"""The supervisor stays small, and tells its children what a dead process left."""

from __future__ import annotations

import os
import subprocess
import sys

from tests.rig import ROOT


def test_a_supervisor_imports_no_kafka_client_and_nothing_that_scores() -> None:
    script = (
        "import sys; import penstock.supervisor, penstock.cli.worker, penstock.config, schemas.deployment\n"
        "print(sorted({'confluent_kafka', 'numpy', 'polars', 'onnxruntime', 'prometheus_client'} & sys.modules.keys()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True
    )
    assert done.stdout == "[]\n", done.stderr
