"""What a worker refuses to start with: it says what, where and what to do, and leaves with status 2."""

from __future__ import annotations

import json
from collections.abc import Callable

from tests.rig import Rig, Worker


def refusal(worker: Worker) -> str:
    """Wait for the worker to end with status 2 and return its last words."""
    assert worker.process.wait(60) == 2, worker.text()
    text = worker.text()
    assert "Traceback" not in text
    return text[text.index("Error: ") :]


def test_no_such_topic_is_named(rig: Callable[..., Rig]) -> None:
    stand = rig()
    stand.declared["input"]["topic"] = "no.such.topic"
    stand.write()
    text = refusal(stand.worker())
    assert "topic no.such.topic does not exist" in text
    assert "create it" in text


def test_a_typing_error_in_the_file_names_the_key_and_the_right_one(rig: Callable[..., Rig]) -> None:
    stand = rig()
    stand.declared["input"]["framming"] = "json"
    stand.declared["delivry"] = "exactly_once"
    stand.write()
    text = refusal(stand.worker())
    assert "input.framming: unknown key; did you mean 'framing'?" in text
    assert "delivry: unknown key; did you mean 'delivery'?" in text


def test_a_model_with_other_inputs_is_refused_with_every_mismatch(rig: Callable[..., Rig]) -> None:
    stand = rig()
    schema = json.loads((stand.folder / "event.avsc").read_text())
    schema["fields"] = [{"name": "id", "type": "long"}, {"name": "b", "type": "string"}]
    (stand.folder / "event.avsc").write_text(json.dumps(schema))
    stand.declared["missing"] = {}
    stand.write()
    text = refusal(stand.worker())
    assert "'a'" in text
    assert "'b'" in text


def test_a_bundle_altered_by_one_byte_is_refused(rig: Callable[..., Rig]) -> None:
    stand = rig()
    parts = [path for path in (stand.folder / "models").rglob("*") if path.is_file() and path.stat().st_size > 200]
    victim = max(parts, key=lambda path: path.stat().st_size)
    data = bytearray(victim.read_bytes())
    data[len(data) // 2] ^= 1
    victim.write_bytes(data)
    text = refusal(stand.worker())
    assert "altered" in text or "digest" in text or "sha256" in text


def test_a_model_that_nobody_added_is_named(rig: Callable[..., Rig]) -> None:
    stand = rig()
    stand.declared["arms"] = [{"role": "active", "model": "sum@nobody"}]
    stand.write()
    assert "model sum has no version or tag 'nobody'" in refusal(stand.worker())


def test_an_arm_that_is_not_declared_is_named(rig: Callable[..., Rig]) -> None:
    assert "declares no arm 'shadow'" in refusal(rig().worker("--arm", "shadow"))


def test_a_port_that_is_taken_is_named(rig: Callable[..., Rig]) -> None:
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert f"127.0.0.1:{port}" in refusal(rig().worker("--metrics-port", str(port)))


def test_a_second_worker_of_a_slot_is_told_so(rig: Callable[..., Rig]) -> None:
    stand = rig()
    first = stand.worker()
    first.wait_for("reads partitions")
    second = stand.worker()
    assert second.process.wait(60) == 3
    assert f"slot penstock.{stand.name}.0 is running already" in second.text()
    assert f"process {first.process.pid}" in second.text()
    assert first.stop() == 0
