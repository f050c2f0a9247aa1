"""A worker with a hierarchy of models on a real Kafka: each event by its leaf, in little memory, made again alike."""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from models.bundle import Bundle
from models.leaves import part_of
from models.repository import Repository
from penstock.client import Subscriber
from tests.integration.test_bad_input import header
from tests.integration.test_verify_command import verified
from tests.rig import FIELDS, Rig, account, encoder, place_of

TEXT = {"type": ["null", "string"], "default": None}
SCHEMA: dict[str, Any] = {
    "type": "record",
    "name": "Visit",
    "namespace": "penstock.test",
    "fields": [*FIELDS, {"name": "country", **TEXT}, {"name": "city", **TEXT}],
}
encode = encoder(SCHEMA)
CITIES = [f"city{number}" for number in range(30)]
NOTHING_WRONG = {"lost": 0, "duplicated": 0, "out_of_order": 0, "unknown": 0}

pytestmark = pytest.mark.timeout(300)


def scaled(scale: float, bulk: int = 0) -> bytes:
    """score = scale * (a + b). bulk: bytes of text in the model that no compression makes much smaller."""
    weights = numpy_helper.from_array(np.full((2, 1), scale, "f4"), "w")
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["score"])],
        "scaled",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 2])],
        [helper.make_tensor_value_info("score", TensorProto.FLOAT, ["n", 1])],
        [weights],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    model.doc_string = np.random.default_rng(int(scale)).bytes(bulk // 2).hex()
    return bytes(model.SerializeToString())


SCALES: dict[tuple[str, ...], float] = {("DE",): 2.0, **{("DE", city): 10.0 + i for i, city in enumerate(CITIES)}}
HIERARCHY = {
    "partition_by": ["country", "city"],
    "leaves": {path: scaled(scale) for path, scale in SCALES.items()},
}


def visit(number: int) -> dict[str, Any]:
    """Events of every kind: of a city, of a country only, of another country, and of none."""
    country, city = [("DE", CITIES[number % 30]), ("DE", None), ("IT", CITIES[0]), (None, None)][number % 4]
    return {"id": number, "a": float(number), "b": 1.0, "country": country, "city": city}


def scale_of(event: dict[str, Any]) -> tuple[str, float]:
    """The name of an event's leaf and its scale."""
    path = (event["country"], event["city"])
    found = next((path[:length] for length in (2, 1) if path[:length] in SCALES), ())
    return "/".join(found), SCALES.get(found, 1.0)


def hierarchical(rig: Callable[..., Rig], **declared: Any) -> Rig:
    common = {"schema": SCHEMA, "model": scaled(1.0), "bundle": HIERARCHY, "output": {"echo": ["id"]}}
    return rig(**{**common, **declared})


def inferences(stand: Rig) -> dict[int, tuple[str, float]]:
    """The leaf and the score of each event."""
    with Subscriber(stand.servers, stand.inferences, start="earliest", until_end=True) as found:
        return {each["id"]: (each["partition"], each["score"]) for each in found}


def expected(event: dict[str, Any]) -> tuple[str, float]:
    name, scale = scale_of(event)
    return name, float(np.float32(scale) * np.float32(event["a"] + event["b"]))


def test_events_are_scored_by_their_leaves_in_little_memory_and_verified(rig: Callable[..., Rig]) -> None:
    stand = hierarchical(rig, limits={"model_memory": "110KiB"})  # a graph and six models of 32
    events = [visit(number) for number in range(6_000)]
    stand.produce([encode(event) for event in events])
    worker = stand.worker("--metrics-port", "0")
    stand.wait_committed(len(events))
    places = [place_of(m.value() or b"") for m in stand.read(stand.inferences, len(events))]
    assert account(places, dict.fromkeys(range(4), 1_500)) == NOTHING_WRONG
    found = inferences(stand)
    assert {event["id"]: found[event["id"]] for event in events} == {e["id"]: expected(e) for e in events}
    assert Counter(name for name, _ in found.values())[""] == 3_000
    made, evicted = (worker.metric(f"penstock_leaves_{name}_total") for name in ("made", "evicted"))
    assert evicted > 0
    assert made - evicted == worker.metric("penstock_leaves_loaded") <= 6
    assert 0 < worker.metric("penstock_leaves_bytes") <= 110 << 10
    assert worker.stop() == 0
    page = verified(stand)
    assert page.returncode == 0, page.stdout + page.stderr
    assert page.stdout.splitlines()[-1].endswith("nothing is wrong")


def test_a_wrong_leaf_is_found_by_verifying(rig: Callable[..., Rig]) -> None:
    """The control: were the leaf a matter of anything but the event, its inference could not be made again."""
    stand = hierarchical(rig)
    stand.produce([encode(visit(number)) for number in range(40)])
    worker = stand.worker()
    stand.wait_committed(40)
    assert worker.stop() == 0
    assert verified(stand).returncode == 0
    repository = Repository(str(stand.folder / "models"))
    manifest = repository.resolve("sum@production").manifest
    leaves = {path: scaled(1.5 if path == ("DE",) else scale) for path, scale in SCALES.items()}
    repository.remove("sum", manifest.version)
    forged = Bundle.build(
        name="sum", model=scaled(1.0), features=["a", "b"], version=manifest.version, partition_by=["country", "city"],
        leaves=leaves,
    )  # fmt: skip
    repository.add(forged, ["production"])
    page = verified(stand, "--json")
    answer = json.loads(page.stdout)
    assert (page.returncode, answer["different"]) == (1, 10)  # every fourth event is of DE without a city


def test_a_leaf_that_is_damaged_while_the_worker_runs_costs_its_own_events(rig: Callable[..., Rig]) -> None:
    leaves = {path: scaled(scale, bulk=100_000) for path, scale in SCALES.items()}  # no buffer holds many of them
    stand = hierarchical(rig, bundle={**HIERARCHY, "leaves": leaves})
    worker = stand.worker()
    worker.wait_for("reads partitions")
    damage(stand.folder, part_of(hashlib.sha256(leaves[("DE", CITIES[0])]).hexdigest()))
    events = [visit(number) for number in range(600)]
    stand.produce([encode(event) for event in events])
    stand.wait_committed(len(events))
    hurt = {event["id"] for event in events if scale_of(event)[0] == f"DE/{CITIES[0]}"}
    letters = stand.read(stand.dead_letters, len(hurt))
    assert len(letters) == len(hurt) == 10
    assert {header(letter, "reason") for letter in letters} == {"model_failed"}
    assert all(f"leaf DE/{CITIES[0]}, cannot be loaded" in header(letter, "detail") for letter in letters)
    assert inferences(stand) == {event["id"]: expected(event) for event in events if event["id"] not in hurt}


def damage(folder: Path, part: str) -> None:
    """Alter a byte of a part in the file of the cache that the worker has open."""
    (file,) = (folder / ".penstock" / "cache" / "models").glob("*.zip")
    with zipfile.ZipFile(file) as opened:
        info = opened.getinfo(part)
    with file.open("r+b") as content:
        content.seek(info.header_offset + 30 + len(info.filename) + info.file_size // 2)
        byte = content.read(1)
        content.seek(-1, 1)
        content.write(bytes([byte[0] ^ 0xFF]))


def test_without_a_root_events_of_no_leaf_are_dead_letters_that_say_so(rig: Callable[..., Rig]) -> None:
    stand = hierarchical(rig)
    rootless = Bundle.build(name="sum", features=["a", "b"], **HIERARCHY)  # type: ignore[arg-type]
    Repository(str(stand.folder / "models")).add(rootless, ["production"])
    events = [visit(number) for number in range(200)]
    stand.produce([encode(event) for event in events])
    stand.worker()
    stand.wait_committed(len(events))
    letters = stand.read(stand.dead_letters, 100)
    assert Counter(header(letter, "reason") for letter in letters) == {"missing_partition": 100}
    assert "no leaf of the model is for country 'IT', city 'city0'" in {header(m, "detail")[:54] for m in letters}
    assert inferences(stand) == {event["id"]: expected(event) for event in events if scale_of(event)[0]}
