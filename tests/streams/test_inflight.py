"""The note of what is being scored: it survives the process, is never half, and stops nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from streams.inflight import Marker, Trace, marker_path, read
from streams.offsets import OffsetRange, common


def test_what_was_being_scored_survives_kill_9(tmp_path: Path) -> None:
    path = marker_path(tmp_path / "slots", "group.0")
    script = (
        "import os, signal; from pathlib import Path; from streams.inflight import Marker\n"
        f"marker = Marker(Path({str(path)!r}), 'events')\n"
        "marker.scoring({0: 100, 11: 5}, {0: 2100, 11: 6})\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    root = Path(__file__).parents[2]
    died = subprocess.Popen([sys.executable, "-c", script], env={**os.environ, "PYTHONPATH": str(root)})
    assert died.wait(30) == -signal.SIGKILL
    assert read(path) == read(path, died.pid) == Trace("events", True, {0: (100, 2100), 11: (5, 6)}, died.pid)
    assert list(map(str, read(path).ranges)) == ["events/0@100-2099", "events/11@5"]


def test_a_shorter_note_hides_the_longer_one_before_it(tmp_path: Path) -> None:
    marker = Marker(tmp_path / "m", "events")
    assert read(tmp_path / "m") == Trace("events", False, {}, os.getpid())
    marker.scoring(dict.fromkeys(range(50), 10**12), dict.fromkeys(range(50), 10**12 + 2))
    assert len(read(tmp_path / "m").spans) == 50
    marker.scored()
    assert read(tmp_path / "m") == Trace("events", True, {}, os.getpid())
    marker.close()
    assert read(tmp_path / "m").joined


def test_what_another_process_left_is_no_trace_of_the_one_that_is_asked_about(tmp_path: Path) -> None:
    Marker(tmp_path / "m", "events").scoring({0: 1}, {0: 2})
    assert read(tmp_path / "m", os.getpid()).spans == {0: (1, 2)}
    assert read(tmp_path / "m", os.getpid() + 1) == Trace()


def test_a_place_that_cannot_be_written_is_said_and_stops_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    marker = Marker(tmp_path / "file" / "m", "events")
    assert "after a crash nobody can name the events" in caplog.text
    marker.scoring({0: 1}, {0: 2})
    marker.scored()
    marker.joined()


def test_a_full_disk_is_said_once_and_stops_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("no /dev/full here")
    marker = Marker(full, "events")
    for _ in range(3):
        marker.scoring({0: 1}, {0: 2})
        marker.scored()
    assert caplog.text.count("after a crash nobody can name the events") == 1


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        '{"process": 1, "topic": "e", "joined": true, "scoring": [[1]]}',
        '{"topic": "e", "joined": true, "scoring": []}',
        '{"process": 1, "topic": "e", "sc',
    ],
)
def test_what_is_no_note_is_an_empty_trace(tmp_path: Path, text: str) -> None:
    (tmp_path / "m").write_text(text)
    assert read(tmp_path / "m") == read(tmp_path / "missing") == Trace()


@pytest.mark.parametrize(
    ("text", "where"),
    [("a.b-c_d/3@7", OffsetRange("a.b-c_d", 3, 7, 8)), ("events/0@7-9", OffsetRange("events", 0, 7, 10))],
)
def test_a_range_reads_as_it_is_written(text: str, where: OffsetRange) -> None:
    assert OffsetRange.parse(text) == where
    assert str(where) == text


@pytest.mark.parametrize("text", ["", "events", "events/1", "events/x@1", "events/1@", "events/1@-3", "a b/1@2"])
def test_what_is_no_range_is_refused_with_the_form_to_write(text: str) -> None:
    with pytest.raises(ValueError, match=r"write TOPIC/PARTITION@FIRST-LAST"):
        OffsetRange.parse(text)


def test_a_range_that_ends_before_it_begins_is_refused() -> None:
    with pytest.raises(ValueError, match="ends before it begins"):
        OffsetRange.parse("events/0@9-7")


def test_common_offsets() -> None:
    assert common({0: (0, 10), 1: (0, 10), 2: (5, 6)}, {0: (5, 20), 1: (10, 20), 3: (0, 9)}) == {0: (5, 10)}
