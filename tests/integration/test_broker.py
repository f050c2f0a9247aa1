"""The embedded broker as its users meet it: in tests, on the command line, after crashes, in the way of others."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]
import pytest

from penstock import datafolder, embedded
from penstock.embedded import EmbeddedKafka
from penstock.errors import BrokerFailed

ROOT = Path(__file__).parents[2]
PARENT = """
import sys, time
from penstock.embedded import EmbeddedKafka
with EmbeddedKafka() as kafka:
    print(kafka.pid, kafka.data, flush=True)
    time.sleep(600)
"""


def environment() -> dict[str, str]:
    without = {key: value for key, value in os.environ.items() if key != "PENSTOCK_BOOTSTRAP_SERVERS"}
    return {**without, "PYTHONPATH": str(ROOT)}


def penstock(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "penstock.cli", *arguments],
        cwd=folder,
        env=environment(),
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def ran(folder: Path, *arguments: str) -> tuple[int, str]:
    process = penstock(folder, *arguments)
    output, _ = process.communicate(timeout=150)
    return process.returncode, output


def comes_true(condition: Callable[[], bool], seconds: float = 30.0) -> bool:
    give_up = time.monotonic() + seconds
    while not condition() and time.monotonic() < give_up:
        time.sleep(0.05)
    return condition()


def lives(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state not in "ZX"


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A current directory for `penstock broker`; what runs there is stopped in the end."""
    yield tmp_path
    ran(tmp_path, "broker", "stop")


@pytest.fixture(scope="module")
def kafka() -> Iterator[EmbeddedKafka]:
    with EmbeddedKafka() as running:
        yield running


def test_a_record_survives_kill_9_and_the_address_stays(kafka: EmbeddedKafka) -> None:
    from confluent_kafka import Consumer, Producer, TopicPartition
    from confluent_kafka.admin import AdminClient
    from confluent_kafka.cimpl import NewTopic

    settings: dict[str, Any] = {"bootstrap.servers": kafka.bootstrap_servers}
    admin = AdminClient(settings)
    admin.create_topics([NewTopic("kept", 1, 1)])["kept"].result()
    producer = Producer(settings)
    producer.produce("kept", b"a record")
    assert producer.flush(10) == 0
    before = kafka.pid

    kafka.kill()
    assert not lives(before)
    kafka.start()
    # while its crashed self counts as alive, a broker that starts can lose the markers of decided transactions
    assert b"Fencing broker" not in kafka.log.read_bytes()

    assert kafka.pid != before
    assert settings == {"bootstrap.servers": kafka.bootstrap_servers}
    consumer = Consumer({**settings, "group.id": "reader"})
    consumer.assign([TopicPartition("kept", 0, 0)])
    message = consumer.poll(20)
    consumer.close()
    assert message is not None
    assert message.value() == b"a record"


def test_a_broker_that_stops_in_order_gives_its_partitions_up_to_nobody(kafka: EmbeddedKafka) -> None:
    kafka.stop()
    assert b"handleBrokerShutdown" not in kafka.log.read_bytes()
    kafka.start()
    controller, broker = (kafka.data / "controller.log").read_bytes(), kafka.log.read_bytes()
    assert b"Fencing broker 1" in controller
    assert b"DUPLICATE_BROKER_REGISTRATION" not in broker
    assert b"Fencing broker" not in broker
    assert b"handleBrokerShutdown" not in broker


def test_it_listens_on_loopback_only(kafka: EmbeddedKafka) -> None:
    addresses = {
        connection.laddr.ip.removeprefix("::ffff:")
        for connection in psutil.Process(kafka.pid).net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    }

    assert addresses == {"127.0.0.1"}


def test_a_misspelt_topic_is_not_created(kafka: EmbeddedKafka) -> None:
    from confluent_kafka import Consumer
    from confluent_kafka.admin import AdminClient

    consumer = Consumer({"bootstrap.servers": kafka.bootstrap_servers, "group.id": "g", "log_level": 0})
    consumer.subscribe(["flihgts"])
    message = consumer.poll(5)
    consumer.close()

    error = message.error() if message is not None else None
    assert error is not None
    assert error.name() == "UNKNOWN_TOPIC_OR_PART"
    assert "flihgts" not in AdminClient({"bootstrap.servers": kafka.bootstrap_servers}).list_topics(timeout=10).topics


def test_a_second_broker_on_the_same_data_is_refused_with_the_process_in_the_way(kafka: EmbeddedKafka) -> None:
    with pytest.raises(datafolder.DataInUse, match=f"in use by a running broker .process {kafka.pid}."):
        EmbeddedKafka(kafka.data).start()


def test_the_broker_outlives_the_thread_that_started_it() -> None:
    kafka = EmbeddedKafka()
    thread = threading.Thread(target=kafka.start)
    thread.start()
    thread.join()
    with kafka:  # running already
        assert not comes_true(lambda: not lives(kafka.pid), seconds=2)


def test_no_process_is_left_when_the_parent_is_killed_with_9() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PARENT], env=environment(), stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        told, data = parent.stdout.readline().split()
        pid = int(told)
        assert lives(pid)

        parent.kill()
        parent.wait()

        assert comes_true(lambda: not lives(pid))
        shutil.rmtree(data)


def test_no_process_is_left_when_the_guard_is_killed_with_9() -> None:
    with EmbeddedKafka() as kafka:
        guard = psutil.Process(kafka.pid).parent()
        assert guard is not None
        assert "guard.py" in " ".join(guard.cmdline())

        guard.kill()

        assert comes_true(lambda: not lives(kafka.pid))


def test_the_command_line_starts_it_for_good_and_stops_it(folder: Path) -> None:
    code, said = ran(folder, "broker", "start")
    assert code == 0, said
    assert "Next, in this folder" in said
    written = json.loads((folder / ".penstock/broker.json").read_text())
    assert f"Kafka is ready at {written['bootstrap_servers']}" in said
    assert lives(written["pid"])  # though the process that started it has ended

    assert ran(folder, "broker", "start")[1].startswith(f"Kafka is already running at {written['bootstrap_servers']}")
    code, said = ran(folder, "broker", "status")
    assert code == 0
    assert f"Kafka {embedded.KAFKA} runs at {written['bootstrap_servers']} (process {written['pid']}" in said

    code, said = ran(folder, "broker", "stop")
    assert code == 0, said
    assert not lives(written["pid"])
    assert not (folder / ".penstock/broker.json").exists()
    assert ran(folder, "broker", "status")[0] == 3
    assert ran(folder, "broker", "stop") == (0, "No broker is running here\n")


def test_after_a_crash_status_says_so_and_start_brings_it_back_at_the_same_address(folder: Path) -> None:
    assert ran(folder, "broker", "start")[0] == 0
    before = json.loads((folder / ".penstock/broker.json").read_text())
    os.kill(before["pid"], signal.SIGKILL)
    assert comes_true(lambda: not lives(before["pid"]))

    code, said = ran(folder, "broker", "status")
    assert code == 3
    assert "it crashed or was killed" in said

    assert ran(folder, "broker", "start")[0] == 0
    after = json.loads((folder / ".penstock/broker.json").read_text())
    assert after["bootstrap_servers"] == before["bootstrap_servers"]
    assert after["pid"] != before["pid"]


def test_a_broker_that_does_not_answer_has_an_exit_code_of_its_own(folder: Path) -> None:
    assert ran(folder, "broker", "start")[0] == 0
    pid = json.loads((folder / ".penstock/broker.json").read_text())["pid"]
    os.kill(pid, signal.SIGSTOP)
    try:
        code, said = ran(folder, "broker", "status")
    finally:
        os.kill(pid, signal.SIGCONT)

    assert code == 1
    assert "does not answer" in said


def test_two_starts_at_once_end_with_one_broker_that_both_name(folder: Path) -> None:
    starts = [penstock(folder, "broker", "start") for _ in range(2)]
    said = sorted(start.communicate(timeout=150)[0].splitlines()[0] for start in starts)
    address = json.loads((folder / ".penstock/broker.json").read_text())["bootstrap_servers"]

    assert [start.returncode for start in starts] == [0, 0]
    assert said == [f"Kafka is already running at {address}", f"Kafka is ready at {address}"]


def test_a_taken_port_is_named(folder: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]

        code, said = ran(folder, "broker", "start", "--port", str(port))

    assert code == 2
    assert f"port {port} is taken by another program" in said


def test_a_port_that_is_lost_during_the_start_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = [other.getsockname()[1]]
        choose = datafolder.free_port
        monkeypatch.setattr(datafolder, "free_port", lambda *a, **k: taken.pop() if taken else choose(0, **k))

        with EmbeddedKafka() as kafka:
            assert kafka.bootstrap_servers != f"127.0.0.1:{other.getsockname()[1]}"
            assert not taken


def test_a_folder_with_other_things_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("precious")

    with pytest.raises(BrokerFailed, match=r"not made by penstock .it holds thesis\.tex"):
        EmbeddedKafka(tmp_path).start()


def test_the_data_of_another_cluster_is_refused_by_its_id(tmp_path: Path) -> None:
    datafolder.write(tmp_path, "4.3.1", None, None)
    (tmp_path / "log").mkdir()
    (tmp_path / "log/meta.properties").write_text("version=1\ncluster.id=somebody-elses\nnode.id=1\n")

    with pytest.raises(BrokerFailed, match=r"belongs to another cluster .somebody-elses, not "):
        EmbeddedKafka(tmp_path).start()


def test_a_damaged_state_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "penstock.json").write_text('{"port": 1')

    with pytest.raises(BrokerFailed, match="is damaged: delete the folder"):
        EmbeddedKafka(tmp_path).start()


@pytest.mark.parametrize(
    ("setting", "value", "said"),
    [
        ("log.retention.bytes", "many", r"could not be formatted.*Invalid value many for configuration"),
        ("authorizer.class.name", "no.such.Authorizer", r"ended during its start.*no\.such\.Authorizer"),
    ],
)
def test_a_broker_that_does_not_start_shows_the_end_of_its_log(setting: str, value: str, said: str) -> None:
    kafka = EmbeddedKafka(settings={setting: value})

    with pytest.raises(BrokerFailed, match=f"(?s){said}"), kafka:
        pass

    assert not kafka.data.exists()


def test_what_needs_a_running_broker_says_so() -> None:
    kafka = EmbeddedKafka()
    kafka.data.rmdir()

    with pytest.raises(BrokerFailed, match=r"call start\(\) first"):
        _ = kafka.pid
    with pytest.raises(BrokerFailed, match=r"call start\(\) first"):
        _ = kafka.bootstrap_servers
