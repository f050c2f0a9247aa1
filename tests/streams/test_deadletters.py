from __future__ import annotations

from schemas.values import Rejection
from streams.batch import Headers, batch_of
from streams.deadletters import DETAIL_BYTES, LetterLimit, letters
from streams.memory import StoredMessage

MESSAGES = [
    StoredMessage((b"\x00good", b"k0", 3, 7, 1_000, None)),
    StoredMessage((b"\xff\x00bad", b"k1", 3, 8, 2_000, [("trace", b"\xfe")])),
    StoredMessage((None, None, 4, 9, -1, None)),
]


def test_a_letter_is_the_event_byte_for_byte_with_its_headers_and_ours() -> None:
    rejected = [Rejection(2, "tombstone", "no value"), Rejection(1, "truncated", "ends early", "EOFError")]
    values, keys, headers = letters(batch_of(MESSAGES), rejected, deployment="d", topic="t", now=0.5)
    assert values == [b"\xff\x00bad", None]
    assert keys == [b"k1", None]
    assert headers[0] == [
        ("trace", b"\xfe"),
        ("penstock.reason", b"truncated"),
        ("penstock.detail", b"ends early"),
        ("penstock.exception", b"EOFError"),
        ("penstock.deployment", b"d"),
        ("penstock.source.topic", b"t"),
        ("penstock.source.partition", b"3"),
        ("penstock.source.offset", b"8"),
        ("penstock.source.timestamp", b"2000"),
        ("penstock.time", b"1970-01-01T00:00:00.500+00:00"),
    ]


def test_a_long_detail_is_cut() -> None:
    _, _, headers = letters(
        batch_of(MESSAGES), [Rejection(0, "malformed", "x" * 10_000)], deployment="d", topic="t", now=0
    )
    assert max(len(value or b"") for _, value in headers[0]) == DETAIL_BYTES


def test_the_limit_counts_the_last_minute() -> None:
    now = 0.0
    limit = LetterLimit(10, lambda: now)
    assert limit.allows(10)
    limit.spend(10)
    assert not limit.allows(1)
    now = 59.9
    assert not limit.allows(1)
    now = 60.0
    assert limit.allows(10)
    assert not limit.allows(11)


def test_a_limit_of_zero_is_none_and_a_reset_forgets() -> None:
    free, limit = LetterLimit(0, lambda: 0.0), LetterLimit(1, lambda: 0.0)
    free.spend(10**9)
    assert free.allows(10**9)
    limit.spend(1)
    limit.reset()
    assert limit.allows(1)


def fitted(value: bytes, key: bytes, trace: bytes, limit: int) -> tuple[bytes | None, bytes | None, dict[str, object]]:
    batch = batch_of([StoredMessage((value, key, 3, 7, 1_000, [("trace", trace)]))])
    found = letters(batch, [Rejection(0, "oversize", "is too large")], deployment="d", topic="t", now=0, limit=limit)
    return found[0][0], found[1][0], dict(found[2][0])


def test_what_a_topic_cannot_take_is_left_out_and_said() -> None:
    value, key, headers = fitted(b"v" * 5_000, b"k", b"t", 2_000)
    assert (value, key, headers["trace"]) == (None, b"k", b"t")
    assert (
        headers["penstock.left_out"]
        == b"value of 5000 bytes, too large for this topic; the source offset has all of it"
    )
    value, key, headers = fitted(b"v", b"k" * 5_000, b"t" * 5_000, 2_000)
    assert (value, key, "trace" in headers) == (None, None, False)
    assert headers["penstock.source.offset"] == b"7"
    assert "penstock.left_out" not in fitted(b"v" * 5_000, b"k", b"t", 6_000)[2]


class Unreadable(StoredMessage):
    """A message with a header whose name is not UTF-8, as confluent-kafka gives it."""

    def headers(self) -> Headers | None:
        raise SystemError("returned a result with an exception set")


def test_headers_that_cannot_be_read_do_not_stop_the_letter() -> None:
    batch = batch_of([Unreadable((b"bad", None, 3, 7, 1_000, None))])
    values, _, headers = letters(batch, [Rejection(0, "malformed", "is no event")], deployment="d", topic="t", now=0)
    assert values == [b"bad"]
    assert dict(headers[0])["penstock.left_out"] == b"headers, because a name is not UTF-8"


def test_letters_that_were_not_committed_are_given_back() -> None:
    limit = LetterLimit(10, lambda: 0.0)
    for count in (4, 3, 2):
        limit.spend(count)
    limit.refund(4)
    assert limit.allows(5)
    assert not limit.allows(6)
    limit.refund(99)
    assert limit.allows(10)
