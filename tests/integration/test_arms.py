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
    assert command(stand, "validate", str(stand.file)).returncode == 2


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


# ---- arms that score every event


@pytest.fixture
def ensemble(rig: Callable[..., Rig]) -> Rig:
    """Two models that score every event; what lacks `b`, and is no number, only one of them takes."""
    made = rig(
        missing={},
        arms=[
            {"role": "active", "model": "sum@production"},
            {"role": "canary", "model": "twice@production", "percent": 20.0},
            {"role": "all", "name": "first", "model": "first@production"},
        ],
    )
    made.add_model("twice", model=sum_model(scale=2.0))
    made.add_model("first", model=sum_model(1, 100.0), features=["a"])
    return made


def split(messages: list[Message]) -> dict[str, list[Message]]:
    found: dict[str, list[Message]] = {}
    for message in messages:
        found.setdefault(read_lineage(message.value() or b"")[0].assigned, []).append(message)
    return found


def test_every_model_scores_every_event_in_one_worker_and_all_of_it_is_verified_through_kills(ensemble: Rig) -> None:
    rig, count = ensemble, 6_000
    assert command(rig, "validate", str(rig.file)).returncode == 0
    rig.produce([*(encode(event(number)) for number in range(count)), b"junk"])
    for committed in (1_000, 3_000):
        worker = rig.worker("--batch-events", "50")
        rig.wait_committed(committed)
        worker.kill()
    worker = rig.worker("--metrics-port", "0")
    rig.wait_committed(count + 1)
    refused = Counter(math.isnan(event(number)["a"]) or event(number)["b"] is None for number in range(count))[True]
    nowhere = sum(math.isnan(event(number)["a"]) for number in range(count))  # neither takes them
    due = 2 * count - refused - nowhere
    by_arm = split(rig.read(rig.inferences, due))
    assert {arm: len(found) for arm, found in by_arm.items() if arm == "first"} == {"first": count - nowhere}
    assert len(by_arm["active"]) + len(by_arm["canary"]) == count - refused
    firsts = read(rig, by_arm["first"])
    assert len(firsts) == count - nowhere
    for number, (lineage, score, _) in firsts.items():
        assert (lineage.arm, lineage.model, lineage.propensity, lineage.fallback) == ("first", "first", 1.0, "")
        assert score == pytest.approx(100.0 * number)
    assert len(rig.read(rig.dead_letters, refused + 1)) == refused + 1
    assert len(rig.read(f"{rig.dead_letters}.first", nowhere)) == nowhere
    assert worker.metric("penstock_arm_dead_letters_total", scored_by="first") <= nowhere
    assert worker.stop() == 0
    verified = command(rig, "verify", "--deployment", str(rig.file), "--json")
    told = json.loads(verified.stdout)
    assert (verified.returncode, told["ok"]) == (0, True), told
    assert (told["inferences"], told["dead_letters"], told["missing"]) == (count - refused, refused + 1, 0)
    beside = told["beside"]["first"]
    assert (beside["events"], beside["inferences"], beside["dead_letters"]) == (count + 1, count - nowhere, nowhere)
    assert (beside["missing"], beside["twice"], beside["different"]) == (0, 0, 0)
    alone = json.loads(command(rig, "verify", "--deployment", str(rig.file), "--arm", "first", "--json").stdout)
    assert alone["inferences"] == count - nowhere


@pytest.mark.parametrize(
    ("harm", "what", "elsewhere"),
    [
        (lambda records: [*records[:30], *records[31:]], "missing", ""),
        (lambda records: [*records, records[-1]], "twice", ""),
        (lambda records: [*records[:30], records[31], records[30], *records[32:]], "out_of_order", ""),
        (lambda records: [*records[:30], _other_score(records[30]), *records[31:]], "different", ""),
        (lambda records: [*records[:30], _other_arm(records[30]), *records[31:]], "missing", "twice"),
    ],
    ids=["lost", "doubled", "swapped", "altered", "under another arm"],
)
def test_what_is_wrong_with_one_of_the_models_is_found(ensemble: Rig, harm: Any, what: str, elsewhere: str) -> None:
    """And told of that one alone; only an inference under another arm's name is one too many there."""
    rig = ensemble
    numbers = [number for number in range(1, 120) if number % 10 and number % 100 != 50]
    rig.produce((encode(event(number)) for number in numbers), partition=1)
    worker = rig.worker()
    rig.wait_committed(len(numbers))
    assert worker.stop() == 0
    messages = rig.read(rig.inferences, 2 * len(numbers))
    records = [(message.key(), message.value() or b"") for message in messages]
    firsts = [record for record in records if read_lineage(record[1])[0].arm == "first"]
    others = [record for record in records if read_lineage(record[1])[0].arm != "first"]
    assert len(firsts) == len(others) == len(numbers)
    _write_anew(rig, [*others, *harm(firsts)])
    told = json.loads(command(rig, "verify", "--deployment", str(rig.file), "--json").stdout)
    wrong = ("missing", "twice", "out_of_order", "different", "unreadable", "wrong_arm")
    assert not told["ok"]
    assert {name: told["beside"]["first"][name] for name in wrong if told["beside"]["first"][name]} == {what: 1}
    assert [name for name in wrong if told[name]] == ([elsewhere] if elsewhere else [])


def _other_score(record: tuple[Any, bytes]) -> tuple[Any, bytes]:
    return record[0], record[1][:-1] + bytes([record[1][-1] ^ 1])


def _other_arm(record: tuple[Any, bytes]) -> tuple[Any, bytes]:
    """The same inference under the name of the active arm."""
    return record[0], record[1].replace(b"\x0afirst", b"\x0cactive")


def _write_anew(rig: Rig, records: list[tuple[Any, bytes]]) -> None:
    import time

    from confluent_kafka.admin import AdminClient
    from confluent_kafka.cimpl import NewTopic

    admin = AdminClient({"bootstrap.servers": rig.servers})
    admin.delete_topics([rig.inferences])[rig.inferences].result()
    while rig.inferences in admin.list_topics(timeout=10).topics:
        time.sleep(0.05)
    admin.create_topics([NewTopic(rig.inferences, 4, 1)])[rig.inferences].result()
    producer = Producer({"bootstrap.servers": rig.servers})
    for key, value in records:
        producer.produce(rig.inferences, value, key, 1)
    assert producer.flush(30) == 0
