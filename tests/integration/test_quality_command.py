"""`penstock monitor` joins declared labels, `penstock quality` tells what comes of it."""

from __future__ import annotations

import json
import re
import subprocess
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic
from xxhash import xxh64_intdigest

from penstock.cli import main
from tests.conftest import TopicFactory
from tests.integration.monitor_process import LABEL
from tests.integration.test_monitor_command import _add, _declare, _wait, start  # noqa: F401
from tests.monitoring import traffic
from tests.monitoring.joins import AnEvent, sample

LABELS = """
labels: {topic: %s, schema: label.avsc, value: late, within: 1h, numbers: [revenue], partitions: 2}
monitor: {segments: [origin], fairness: [origin]}
"""
ROWS = 400


def _feed(servers: str, name: str, labels: str) -> None:
    """Predictions of half an hour ago; of four in five it is known that the active arm was right."""
    begin = time.time_ns() // 1_000_000 - 1_800_000
    producer = Producer({"bootstrap.servers": servers})
    for at in range(ROWS):
        key, late = b"flight %d" % at, at % 2 == 0
        score = 0.9 if late else 0.1
        event = AnEvent(key, begin + at * 100, at % 4, at, (score, 1 - score), "JFK" if at % 3 else "EWR")
        place = xxh64_intdigest(key) % 2
        for arm in ("active", "next"):
            producer.produce(f"{name}.samples", sample(arm, [event], name), partition=place)
        if at % 5:
            value = {"late": late, "revenue": 2.0}
            producer.produce(labels, json.dumps(value), key, timestamp=begin + at * 100 + 60_000)
    producer.produce(labels, b"no label", b"key")
    assert producer.flush(30) == 0


def _quality(servers: str, *arguments: str) -> str:
    result = CliRunner().invoke(main, ["quality", *arguments, "--bootstrap-servers", servers])
    assert result.exit_code == 0, result.output
    return result.output


def _labelled(page: str) -> set[str]:
    """The arms of which all labelled events are told; what the joins counted is told before their ticks are closed."""
    return set(re.findall(r"(?m)^(active|next) +late@\S+ +labelled +320$", page))


def _check_page(servers: str, name: str) -> None:
    """Numbers with their intervals, of both arms and beside each other."""
    page = _quality(servers, name)
    assert re.search(r"active +late@active-1 +accuracy +1 +0\.\d+ \.\. 1", page)
    assert re.search(r"next +late@next-1 +accuracy +0 +0 \.\. 0\.\d+", page)
    assert re.search(r"next/late/next-1 +agreement +0 ", page)
    assert re.search(r"revenue +mean +2", page)
    assert "estimated_accuracy" in page
    assert "events 400, labels 320, pairs 320" in page


def _check_others(servers: str, name: str) -> None:
    """By segment, for programs, and nothing where nothing is known."""
    assert re.search(r"active +late@active-1 +origin=EWR +accuracy", _quality(servers, name, "--by", "origin"))
    document = json.loads(_quality(servers, name, "--json"))
    (accuracy,) = (
        each
        for each in document["numbers"]
        if (each["arm"], each["metric"], each["segment"]) == ("active", "accuracy", "")
    )
    assert (accuracy["number"], accuracy["high"]) == (1.0, 1.0)
    table = next(each for each in document["calibration"] if each["arm"] == "active")
    assert [(share, count) for _, share, count in table["rows"]] == [(0.0, 160), (1.0, 160)]
    assert re.search(
        r"active +late@active-1 +origin +selection_rate_difference +\S+ +0 \.\. 0\.\d+",
        _quality(servers, name, "--by", "origin"),
    )
    assert "selection_rate_difference" not in _quality(servers, name)
    assert "nothing is known" in _quality(servers, name, "--since", "1s")
    assert "segments are origin" in _quality(servers, name, "--by", "gate")


def _check_metrics(log: Path) -> None:
    """The same for Prometheus."""
    port = re.search(r"metrics at http://127.0.0.1:(\d+)/metrics", log.read_text())
    assert port
    with urllib.request.urlopen(f"http://127.0.0.1:{port[1]}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    assert re.search(r'penstock_quality\{arm="active",.*metric="accuracy".*segment="".*window="all"\} 1.0', text)
    assert re.search(r'penstock_quality_high\{.*metric="selection_rate_difference".*of="origin"', text)
    assert re.search(r'penstock_monitor_state\{.*source="samples",what="pairs"\}', text)


@pytest.mark.timeout(240)
@pytest.mark.parametrize("flags", [[], ["--oracle"]], ids=["faust", "oracle"])
def test_labels_are_joined_and_the_command_and_metrics_tell_how_good_a_version_is(
    bootstrap_servers: str,
    topic: TopicFactory,
    tmp_path: Path,
    start: Callable[..., subprocess.Popen[str]],  # noqa: F811
    flags: list[str],
) -> None:
    # Given a deployment that declares labels
    events, labels = topic(4, "events"), topic(3, "labels")
    name, log = f"judged-{events[-8:]}", tmp_path / "log"
    path = _declare(tmp_path, events, name)
    path.write_text(re.sub(r"(?m)^monitor: .*$", LABELS % labels, path.read_text()))
    assert "labels:" in path.read_text()
    (tmp_path / "label.avsc").write_text(json.dumps(LABEL))
    event = json.loads((tmp_path / "event.avsc").read_text())
    event["fields"].append({"name": "origin", "type": "string"})
    (tmp_path / "event.avsc").write_text(json.dumps(event))
    repository = _add(tmp_path, traffic.reference().to_bytes())
    admin = AdminClient({"bootstrap.servers": bootstrap_servers})
    theirs = [NewTopic(f"{name}.profiles", 1, 1), NewTopic(f"{name}.samples", 2, 1)]
    ours = [f"{name}.{each}" for each in ("alerts", "snapshots", "quality", "labels.dead-letters")]
    for made in admin.create_topics(theirs).values():
        made.result()
    try:
        # When predictions and labels come, and a monitor
        _feed(bootstrap_servers, name, labels)
        options = ["--alerts-topic", ours[0], "--snapshots-topic", ours[1], "--metrics-port", "0"]
        options += ["--bootstrap-servers", bootstrap_servers, "--repository", repository, *flags]
        process = start(str(path), *options)
        _wait(lambda: "restored" in log.read_text(), process, log)
        _wait(lambda: _labelled(_quality(bootstrap_servers, name)) == {"active", "next"}, process, log)
        # Then the command and the metrics tell of both arms
        _check_page(bootstrap_servers, name)
        _check_others(bootstrap_servers, name)
        _check_metrics(log)
        process.terminate()
        assert process.wait(30) == 0
    finally:
        for deleted in admin.delete_topics([*ours, f"{name}.profiles", f"{name}.samples"]).values():
            deleted.exception()


def test_a_deployment_without_quality_and_a_threshold_between_bins_are_told_plainly(bootstrap_servers: str) -> None:
    options = ["--bootstrap-servers", bootstrap_servers]
    absent = CliRunner().invoke(main, ["quality", f"nobody-{time.time_ns()}", *options])
    assert absent.exit_code != 0
    assert "does a monitor write quality there?" in absent.output
    between = CliRunner().invoke(main, ["quality", "flights", "--threshold", "0.3", *options])
    assert between.exit_code == 2
    assert "1/64" in between.output
