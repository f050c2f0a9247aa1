"""The records in which replays keep how far they came."""

from __future__ import annotations

import pytest

from penstock.client.replays import Progress

KEPT = Progress("truncated", 3, 17, "an-id")


def test_progress_is_read_as_it_was_written() -> None:
    key, value = KEPT.record("d.dead-letters")
    assert Progress.parse(key, value, "d.dead-letters") == KEPT
    assert Progress.parse(key, value, "another.dead-letters") is None


def test_a_newer_record_takes_the_place_of_the_older_one_of_its_topic_reason_and_partition_only() -> None:
    key, _ = KEPT.record("d.dead-letters")
    assert Progress("truncated", 3, 18, "another-id").record("d.dead-letters")[0] == key
    others = [
        Progress("truncated", 4, 17).record("d.dead-letters"),
        Progress("not_json", 3, 17).record("d.dead-letters"),
        KEPT.record("e.dead-letters"),
    ]
    assert len({key, *(other for other, _ in others)}) == 4


@pytest.mark.parametrize("part", [b"", b"junk", b"\xff", b"[]", b'"text"', b"{}", b'{"topic": "d.dead-letters"}'])
def test_a_record_that_keeps_no_progress_is_passed_over(part: bytes) -> None:
    key, value = KEPT.record("d.dead-letters")
    assert Progress.parse(part, value, "d.dead-letters") is None
    assert Progress.parse(key, part, "d.dead-letters") is None
    assert Progress.parse(None, value, "d.dead-letters") is None


def test_who_deletes_the_record_begins_anew() -> None:
    key, _ = KEPT.record("d.dead-letters")
    assert Progress.parse(key, None, "d.dead-letters") == Progress("truncated", 3, 0)
