"""Canary, challengers, a fallback chain and shadows as a user declares and runs them, on a real Kafka."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import yaml
from confluent_kafka import Message, Producer

from models.routing import Router
from schemas.heads import read_lineage, read_position
from schemas.sources import SchemaTopic
from schemas.values import Lineage
from tests.rig import ROOT, Rig, encoder, sum_model

pytestmark = pytest.mark.timeout(300)
encode = encoder()
EVENTS = 1_200
SHARES = {"active": 50.0, "canary": 20.0, "blue": 30.0}
SCALES = {"active": 1.0, "canary": 2.0, "blue": 3.0}


def event(number: int) -> dict[str, Any]:
    """Every tenth lacks `b`, which all models but the fallback's need; one in a hundred has an `a` that none takes."""
    if number % 100 == 50:
        return {"id": number, "a": math.nan, "b": 0.5}
    return {"id": number, "a": float(number), "b": None if number % 10 == 0 else 0.5}


@pytest.fixture
def stand(rig: Callable[..., Rig]) -> Rig:
    made = rig(
        missing={},
        fallback=["first@production", {"constant": {"score": -1.0}}],
        arms=[
            {"role": "active", "model": "sum@production"},
            {"role": "canary", "model": "twice@production", "percent": SHARES["canary"]},
            {"role": "challenger", "name": "blue", "model": "thrice@production", "percent": SHARES["blue"]},
        ],
    )
    made.add_model("twice", model=sum_model(scale=2.0))
    made.add_model("thrice", model=sum_model(scale=3.0))
    made.add_model("first", model=sum_model(1, 100.0), features=["a"])
    return made


def command(rig: Rig, *arguments: str) -> subprocess.CompletedProcess[str]:
    options = ["--bootstrap-servers", rig.servers, "--repository", str(rig.folder / "models")]
    whole = [sys.executable, "-m", "penstock.cli", *arguments, *(options if arguments[0] == "verify" else options[2:])]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(whole, cwd=rig.folder, capture_output=True, text=True, env=env, check=False)


def read(rig: Rig, messages: list[Message]) -> dict[int, tuple[Lineage, float, Message]]:
    """Lineage and score of each inference by the number of its event, which its key tells."""
    codec = json.loads(
        json.dumps(
            dict(
                SchemaTopic({"bootstrap.servers": rig.servers}).by_fingerprint((messages[0].value() or b"")[2:10].hex())
            )
        )
    )
    import io

    import fastavro

    parsed: Any = fastavro.parse_schema(codec)
    found = {}
    for message in messages:
        value = message.value() or b""
        lineage, at = read_lineage(value)
        read_position(value, at)
        record: Any = fastavro.schemaless_reader(io.BytesIO(value[10:]), parsed, None)
        found[int((message.key() or b"k-1")[1:])] = (lineage, record["score"], message)
    return found


def due(rig: Rig, number: int) -> str:
    router = Router(SHARES, rig.name)
    key = [b"k%d" % number]
    return router.names[int(router.assign(key, np.zeros(1, np.int32), np.zeros(1, np.int64))[0])]


def test_each_event_is_scored_by_its_arm_or_by_who_steps_in_and_all_of_it_is_verified(stand: Rig) -> None:
    assert command(stand, "validate", str(stand.file)).returncode == 0
    stand.produce(encode(event(number)) for number in range(EVENTS))
    worker = stand.worker("--metrics-port", "0")
    stand.wait_committed(EVENTS)
    found = read(stand, stand.read(stand.inferences, EVENTS))
    assert len(found) == EVENTS
    for number, (lineage, score, _) in found.items():
        arm, what = due(stand, number), event(number)
        assert (lineage.assigned, lineage.propensity) == (arm, SHARES[arm] / 100)
        if math.isnan(what["a"]):
            assert (lineage.arm, lineage.fallback, score) == ("constant", "not_finite", -1.0)
        elif what["b"] is None:
            assert (lineage.arm, lineage.fallback) == ("fallback", "missing_value")
            assert score == pytest.approx(100.0 * number)
        else:
            assert (lineage.arm, lineage.fallback) == (arm, "")
            assert score == pytest.approx(SCALES[arm] * (number + 0.5))
    by_arm = Counter(lineage.arm for lineage, *_ in found.values())
    for arm, count in by_arm.items():
        assert worker.metric("penstock_inferences_total", scored_by=arm) == count
    assert worker.metric("penstock_fallbacks_total", reason="missing_value") == by_arm["fallback"]
    assert worker.stop() == 0
    verified = command(stand, "verify", "--deployment", str(stand.file), "--json")
    told = json.loads(verified.stdout)
    assert (verified.returncode, told["ok"]) == (0, True), told["examples"]
    assert told["arms"] == dict(by_arm)
    assert (told["wrong_arm"], told["on_trust"]) == (0, 0)


@pytest.mark.parametrize(
    ("change", "detail"),
    [
        ({"assigned": "canary", "arm": "canary", "propensity": 0.2}, "its key is assigned to active"),
        ({"propensity": 0.4}, "names the propensity 0.4"),
        ({"arm": "canary"}, "is of canary, but active does not fall back"),
        ({"fallback": "model_failed", "arm": "fallback"}, "could not score it (model_failed)"),
        ({"assigned": "green"}, "is no arm that events are assigned to"),
    ],
    ids=["another arm", "propensity", "not assigned", "no reason", "unknown"],
)
def test_an_inference_of_another_arm_than_its_events_is_found(stand: Rig, change: dict[str, Any], detail: str) -> None:
    """A forged inference stands in the place of a real one, made by the right model, so that only its arm is wrong."""
    numbers = [number for number in range(1, 60) if number % 10 and due(stand, number) == "active"]
    stand.produce(encode(event(number)) for number in range(60))
    worker = stand.worker()
    stand.wait_committed(60)
    assert worker.stop() == 0
    messages = stand.read(stand.inferences, 60)
    _forge(stand, messages, numbers[3], change)
    told = json.loads(command(stand, "verify", "--deployment", str(stand.file), "--json").stdout)
    assert not told["ok"]
    found = [each["detail"] for each in told["examples"] if each["what"] == "wrong_arm"]
    assert any(detail in each for each in found), told["examples"]


def _forge(rig: Rig, messages: list[Message], number: int, change: dict[str, Any]) -> None:
    """Write the output topic anew with the lineage of one inference changed."""
    import time
    from dataclasses import replace

    from confluent_kafka.admin import AdminClient
    from confluent_kafka.cimpl import NewTopic

    from schemas.inference import InferenceCodec
    from schemas.values import OutputField

    codec = InferenceCodec(rig.name, [OutputField("score", "scalar", "float")], [])
    admin = AdminClient({"bootstrap.servers": rig.servers})
    admin.delete_topics([rig.inferences])[rig.inferences].result()
    while rig.inferences in admin.list_topics(timeout=10).topics:
        time.sleep(0.05)
    admin.create_topics([NewTopic(rig.inferences, 4, 1)])[rig.inferences].result()
    producer = Producer({"bootstrap.servers": rig.servers})
    for message in sorted(messages, key=lambda m: (m.partition(), m.offset())):
        value = message.value() or b""
        if message.key() == b"k%d" % number:
            lineage, at = read_lineage(value)
            models = {"canary": "twice", "fallback": "first"}
            if "arm" in change:
                change = change | {"model": models[change["arm"]], "version": _version(rig, models[change["arm"]])}
            value = value[:10] + codec.prefix(replace(lineage, **change))[10:] + value[at:]
        producer.produce(rig.inferences, value, message.key(), message.partition() or 0)
    assert producer.flush(30) == 0


def _version(rig: Rig, name: str) -> str:
    from models.repository import Repository

    return Repository(str(rig.folder / "models")).resolve(f"{name}@production").manifest.version


def test_shadows_score_every_event_each_in_its_own_group_and_topic(
    rig: Callable[..., Rig], topic: Callable[..., str]
) -> None:
    first, second = topic(4, "shadow-one"), topic(4, "shadow-two")
    made = rig(
        arms=[
            {"role": "active", "model": "sum@production"},
            {"role": "shadow", "model": "twice@production", "topic": first},
            {"role": "shadow", "model": "thrice@production", "topic": second},
        ]
    )
    made.add_model("twice", model=sum_model(scale=2.0))
    made.add_model("thrice", model=sum_model(scale=3.0))
    made.produce(encode({"id": number, "a": 1.0 * number, "b": 1.0}) for number in range(200))
    workers = [made.worker(), made.worker("--arm", "shadow"), made.worker("--arm", "shadow-2")]
    for output, arm, scale in ((made.inferences, "active", 1), (first, "shadow", 2), (second, "shadow-2", 3)):
        found = read(made, made.read(output, 200))
        assert len(found) == 200
        for number, (lineage, score, _) in found.items():
            assert (lineage.arm, lineage.assigned, lineage.propensity) == (arm, arm, 1.0)
            assert score == pytest.approx(scale * (number + 1.0))
    assert [worker.stop() for worker in workers] == [0, 0, 0]
    for arm in ("active", "shadow", "shadow-2"):
        told = json.loads(command(made, "verify", "--deployment", str(made.file), "--arm", arm, "--json").stdout)
        assert told["ok"], (arm, told["examples"])


def test_an_arm_whose_outputs_differ_is_refused_with_both(stand: Rig) -> None:
    declared = yaml.safe_load(stand.file.read_text())
    stand.add_model("classes", model=_classifier(), features=["a", "b"])
    declared["arms"][1]["model"] = "classes@production"
    stand.file.write_text(yaml.safe_dump(declared))
    worker = stand.worker()
    assert worker.process.wait(60) == 2
    assert "arms active and canary write to one topic, but their outputs differ" in worker.text()
    assert command(stand, "validate", str(stand.file)).returncode == 1


def _classifier() -> bytes:
    from onnx import TensorProto, helper

    graph = helper.make_graph(
        [helper.make_node("Softmax", ["x"], ["probabilities"])],
        "soft",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 2])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["n", 2])],
    )
    return bytes(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9).SerializeToString()
    )


@pytest.mark.parametrize(
    ("arm", "said"),
    [("canary", "the active arm's score for it, too; run --arm active"), ("green", "declares no arm 'green'")],
)
def test_a_worker_of_an_arm_without_workers_says_which_to_run(stand: Rig, arm: str, said: str) -> None:
    worker = stand.worker("--arm", arm)
    assert worker.process.wait(60) == 2
    assert said in worker.text()
