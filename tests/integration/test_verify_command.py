"""`penstock verify` as a user types it: after kills, over two versions and revisions, for a shadow, and refused."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from confluent_kafka import Producer

from models.bundle import Bundle
from models.repository import Repository
from tests.rig import ROOT, Rig, encoder, sum_model

encode = encoder()

pytestmark = pytest.mark.timeout(300)


def events(count: int) -> list[bytes | None]:
    return [encode({"id": i, "a": 0.1 * i, "b": None}) for i in range(count)]


def verified(stand: Rig, *more: str, files: tuple[Path, ...] = ()) -> subprocess.CompletedProcess[str]:
    """Run the command in the stand's folder."""
    given = [word for file in files or (stand.file,) for word in ("--deployment", str(file))]
    place = ["--bootstrap-servers", stand.servers, "--repository", str(stand.folder / "models")]
    return subprocess.run(
        [sys.executable, "-m", "penstock.cli", "verify", *given, *place, *more],
        cwd=stand.folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_what_killed_workers_of_two_versions_and_revisions_did_is_verified(rig: Callable[..., Rig]) -> None:
    stand = rig()
    stand.produce([*events(20_000), b"junk"])
    first = stand.worker("--batch-events", "50")
    stand.wait_committed(50)
    first.kill()
    second = stand.worker()
    second.wait_for("reads partitions")
    stand.wait_committed(20_001)
    assert second.stop() == 0
    older = stand.folder / "older.yaml"
    shutil.copy(stand.file, older)
    newer = Bundle.build(name="sum", model=sum_model(), features=["a", "b"])
    Repository(str(stand.folder / "models")).add(newer, tags=["production"])
    stand.declared["output"]["echo"] = ["id"]
    stand.write()
    stand.produce(events(2_000))
    stand.worker()
    stand.wait_committed(22_001)

    page = verified(stand)
    assert page.returncode == 1, page.stdout + page.stderr
    assert "! unknown_revision        20,000" in page.stdout
    assert "another --deployment" in page.stdout

    page = verified(stand, files=(stand.file, older))
    assert page.returncode == 0, page.stdout + page.stderr
    assert page.stdout.splitlines()[-1].endswith("nothing is wrong")
    assert f"20,000 inferences by sum@{stand.version}" in page.stdout
    assert f"2,000 inferences by sum@{newer.manifest.version}" in page.stdout

    answer = json.loads(verified(stand, "--json", "--to", "0:100,3:50", files=(stand.file, older)).stdout)
    assert answer["ok"] is True
    assert (answer["events"], answer["ranges"]) == (150, {"0": [0, 100], "3": [0, 50]})


def test_a_copy_of_an_inference_is_named_with_its_place(rig: Callable[..., Rig]) -> None:
    stand = rig()
    stand.produce(events(40))
    stand.worker()
    (some, *_) = stand.read(stand.inferences, 40)
    producer = Producer({"bootstrap.servers": stand.servers})
    producer.produce(stand.inferences, some.value(), some.key(), some.partition() or 0)
    producer.flush(10)
    stand.wait_committed(40)
    page = verified(stand)
    assert page.returncode == 1, page.stdout + page.stderr
    assert f"twice: {stand.events}/" in page.stdout
    assert page.stdout.splitlines()[-1].endswith("1 thing is wrong")
    answer = json.loads(verified(stand, "--json").stdout)
    assert (answer["ok"], answer["twice"], len(answer["examples"])) == (False, 1, 1)


def test_a_shadow_is_verified_by_its_own_topics(rig: Callable[..., Rig], topic: Callable[..., str]) -> None:
    arms = [
        {"role": "active", "model": "sum@production"},
        {"role": "shadow", "model": "sum@production", "topic": topic(4, "shadow")},
    ]
    stand = rig(arms=arms)
    stand.produce([*events(40), b"junk"])
    worker = stand.worker("--arm", "shadow")
    stand.read(f"{stand.dead_letters}.shadow", 1)
    assert worker.stop() == 0
    page = verified(stand, "--arm", "shadow", "--json")
    answer = json.loads(page.stdout)
    assert (page.returncode, answer["events"], answer["inferences"], answer["dead_letters"]) == (0, 41, 40, 1)
    refused = verified(stand)
    assert refused.returncode == 2
    assert "has committed nothing" in refused.stderr


def test_what_cannot_be_read_is_refused_with_what_to_change(rig: Callable[..., Rig]) -> None:
    stand = rig()
    refused = verified(stand, "--from", "soon")
    assert refused.returncode == 2
    assert "Error: 'soon' is neither a time nor offsets" in refused.stderr
    assert "Traceback" not in refused.stderr
    refused = verified(stand, files=(stand.folder / "absent.yaml",))
    assert refused.returncode == 2
    assert "absent.yaml" in refused.stderr
