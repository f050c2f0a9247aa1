"""What the peers share: they read what the rig writes, and write what it reads."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import fastavro
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.jobs import JOBS
from benchmarks.peers.mlserver_app import free_ports, request, score
from benchmarks.peers.shared import Job, output, zigzag

FIELDS = {"score": "double", "version": "string", "partition": "int", "offset": "long"}
SCHEMA: Any = {"type": "record", "name": "Output", "fields": [{"name": n, "type": t} for n, t in FIELDS.items()]}


@given(st.integers(-(2**63), 2**63 - 1))
def test_numbers_are_written_as_avro_has_them(number: int) -> None:
    out = io.BytesIO()
    fastavro.schemaless_writer(out, fastavro.parse_schema("long"), number)
    assert zigzag(number) == out.getvalue()


@given(st.floats(allow_nan=False), st.integers(0, 2**31 - 1), st.integers(0, 2**63 - 1))
def test_an_output_is_an_avro_record_behind_ten_bytes(told: float, partition: int, offset: int) -> None:
    value = output(told, partition, offset)
    record = fastavro.schemaless_reader(io.BytesIO(value[10:]), fastavro.parse_schema(SCHEMA), None)
    assert record == {"score": told, "version": "v1", "partition": partition, "offset": offset}


@pytest.mark.parametrize("name", ["matrix", "mixed", "image"])
def test_a_peer_scores_the_events_of_the_rig_as_the_model_does(name: str, tmp_path: Path) -> None:
    job = JOBS[name]
    (tmp_path / "job.json").write_text(job.told())
    (tmp_path / "model.onnx").write_bytes(job.network())
    session = onnxruntime.InferenceSession(job.network(), providers=["CPUExecutionProvider"])
    due = session.run(None, {session.get_inputs()[0].name: job.matrix(job.rows(5))})[0][:, 0].tolist()

    peer = Job(str(tmp_path / "job.json"), str(tmp_path / "model.onnx"))
    events = [job.head + event for event in job.events(5)]
    assert peer.score_all(events) == pytest.approx(due)
    assert peer.score(events[2]) == pytest.approx(due[2])


def test_a_request_names_its_event_and_holds_its_features() -> None:
    told = json.loads(request(17, [0.5, -1.0]))
    assert told["id"] == "17"
    assert told["inputs"] == [{"name": "features", "shape": [1, 2], "datatype": "FP32", "data": [0.5, -1.0]}]


def test_the_score_of_an_answer_is_its_only_number() -> None:
    assert score(b'{"id":"17","outputs":[{"name":"score","shape":[1,1],"datatype":"FP32","data":[0.25]}]}') == 0.25


def test_a_server_gets_ports_that_differ() -> None:
    assert len(set(free_ports(3))) == 3
