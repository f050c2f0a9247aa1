"""What webhooks are sent, and what their answers mean."""

from __future__ import annotations

import base64
import email.utils
import hashlib
import hmac
import re
from typing import Any

import pytest

from penstock.cloudevents import CONTENT_TYPE, Event, event_of
from penstock.errors import WebhookInvalid
from penstock.webhooks import (
    FIRST_PAUSE,
    LONGEST_ASKED,
    LONGEST_PAUSE,
    Answer,
    Webhook,
    distinct,
    headers_of,
    pause,
    secrets_of,
    signature,
)
from scripts.project_checks import ROOT
from tests.penstock.test_cloudevents import PROMOTED, SOURCE

EVENT = Event("0d3adb44-1", "io.penstock.model.noted", "flights", b'{"specversion":"1.0"}')
KEY = bytes(range(32))
SECRET = "whsec_" + base64.b64encode(KEY).decode()
NOW = 1_767_225_600.0


def test_an_address_is_taken_without_its_fragment() -> None:
    assert Webhook.parse("https://hooks.example/a?b=c#d").url == "https://hooks.example/a?b=c"


@pytest.mark.parametrize(
    "url",
    [
        "",
        "hooks.example/a",
        "ftp://hooks.example/",
        "file:///etc/passwd",
        "https://",
        "https://hooks.example:0/",
        "https://hooks.example:port/",
        "https://hooks.example/a b",
        "https://hooks.example/a\r\nX-Evil: 1",
        "https://hook\u00f6.example/",
        "https://[::1/",
    ],
)
def test_what_nothing_can_be_posted_to_is_refused(url: str) -> None:
    with pytest.raises(WebhookInvalid, match="is no address of a webhook: write https://HOST/PATH"):
        Webhook.parse(url)


def test_a_login_in_an_address_is_refused_without_repeating_it() -> None:
    with pytest.raises(WebhookInvalid, match=r"hooks\.example has a login") as refused:
        Webhook.parse("https://ada:secret@hooks.example/")
    assert "secret@" not in str(refused.value)


def test_an_address_given_twice_is_refused() -> None:
    one, two = Webhook.parse("https://hooks.example/a"), Webhook.parse("https://hooks.example/b")
    assert distinct([one, two]) == [one, two]
    with pytest.raises(WebhookInvalid, match="is given twice"):
        distinct([one, two, Webhook.parse("https://hooks.example/a#again")])


def test_neither_name_nor_repr_nor_key_tell_what_is_secret() -> None:
    webhook = Webhook.parse("https://hooks.example/T0KEN?k=T0KEN", (KEY,))
    assert webhook.name == f"webhook {webhook.key} at https://hooks.example"
    assert "T0KEN" not in f"{webhook} {webhook!r} {webhook.key}"
    assert webhook.key != Webhook.parse("https://hooks.example/OTHER").key


def test_a_request_carries_the_content_type_and_the_event_s_id_as_its_key() -> None:
    assert headers_of(EVENT, (), 1) == {
        "Content-Type": CONTENT_TYPE,
        "Idempotency-Key": EVENT.id,
        "User-Agent": "penstock",
    }


def test_a_signature_is_that_of_standard_webhooks() -> None:
    """The example of the specification's own libraries."""
    key = base64.b64decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    body = b'{"test": 2432232314}'
    expected = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    assert signature(key, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, body) == expected


def verified(headers: dict[str, str], body: bytes, key: bytes) -> bool:
    """What a receiver does."""
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    expected = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    return any(hmac.compare_digest(word, f"v1,{expected}") for word in headers["webhook-signature"].split())


def test_the_sample_of_the_governance_page_verifies_by_its_own_code(monkeypatch: pytest.MonkeyPatch) -> None:
    text = (ROOT / "docs" / "governance.md").read_text()
    (code,) = [block for block in re.findall(r"```python\n(.*?)```", text, re.S) if "def verified" in block]
    (request,) = re.findall(r"```\nPOST .*?\n(.*?)```", text, re.S)
    headers = dict(line.split(": ", 1) for line in request.splitlines())
    sent = headers_of(event_of(PROMOTED, SOURCE), (KEY,), int(headers["webhook-timestamp"]))
    assert headers == {name: value for name, value in sent.items() if name != "User-Agent"}
    found: dict[str, Any] = {}
    exec(code, found)
    monkeypatch.setattr("time.time", lambda: int(headers["webhook-timestamp"]) + 10.0)
    event = event_of(PROMOTED, SOURCE)
    assert found["verified"](headers, event.value, SECRET)
    assert not found["verified"](headers, event.value + b" ", SECRET)


def test_every_secret_signs_so_that_one_can_be_replaced() -> None:
    other = bytes(24)
    headers = headers_of(EVENT, (KEY, other), int(NOW))
    assert verified(headers, EVENT.value, KEY)
    assert verified(headers, EVENT.value, other)
    assert headers["webhook-id"] == EVENT.id


@pytest.mark.parametrize("change", ["body", "time", "id", "key"])
def test_what_was_changed_does_not_verify(change: str) -> None:
    headers, body, key = headers_of(EVENT, (KEY,), int(NOW)), EVENT.value, KEY
    if change == "body":
        body += b" "
    elif change == "time":
        headers["webhook-timestamp"] = str(int(NOW) + 1)
    elif change == "id":
        headers["webhook-id"] += "0"
    else:
        key = key[::-1]
    assert not verified(headers, body, key)


def test_secrets_are_read_from_a_variable() -> None:
    other = "whsec_" + base64.b64encode(bytes(64)).decode()
    assert secrets_of(f" {SECRET}\n{other} ", "HOOK") == (KEY, bytes(64))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "HOOK is not set"),
        ("hunter2", "HOOK holds no secret"),
        (SECRET.removeprefix("whsec_"), "HOOK holds no secret"),
        ("whsec_!!!!", "HOOK holds no secret"),
        ("whsec_" + base64.b64encode(bytes(8)).decode(), "16 to 64 random bytes"),
        ("whsec_" + base64.b64encode(bytes(65)).decode(), "16 to 64 random bytes"),
    ],
)
def test_a_bad_secret_is_refused_without_repeating_it(text: str, said: str) -> None:
    with pytest.raises(WebhookInvalid, match=said) as refused:
        secrets_of(text, "HOOK")
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize(
    ("status", "verdict"),
    [
        (200, "delivered"),
        (204, "delivered"),
        (299, "delivered"),
        (None, "again"),
        (100, "again"),
        (301, "again"),
        (307, "again"),
        (400, "refused"),
        (401, "refused"),
        (404, "refused"),
        (410, "refused"),
        (422, "refused"),
        (408, "again"),
        (425, "again"),
        (429, "again"),
        (500, "again"),
        (503, "again"),
    ],
)
def test_a_status_decides(status: int | None, verdict: str) -> None:
    assert Answer(status).verdict == verdict


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("7", 7.0),
        (" 0 ", 0.0),
        ("999999999", LONGEST_ASKED),
        ("-5", 0.0),
        ("soon", 0.0),
        ("", 0.0),
        (email.utils.formatdate(NOW + 30, usegmt=True), 30.0),
        (email.utils.formatdate(NOW - 30, usegmt=True), 0.0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", LONGEST_ASKED),
    ],
)
def test_retry_after_is_seconds_or_a_date_and_bounded(text: str, seconds: float) -> None:
    assert Answer.of(429, {"Retry-After": text}, "", NOW).wait == seconds


def test_an_answer_is_said_on_one_line_and_shortened() -> None:
    said = Answer.of(500, {}, "no\nroom " + "x" * 500, NOW).said
    assert said.startswith("status 500: no room x")
    assert "\x1b" not in Answer.of(500, {}, "\x1b[2J", NOW).said
    assert len(said) < 250


def test_a_redirect_says_what_to_do() -> None:
    assert "give the address that it leads to" in Answer.of(302, {}, "", NOW).said


def test_pauses_double_up_to_a_minute_and_leave_half_to_chance() -> None:
    answer = Answer(500)
    assert [pause(tries, answer, 1.0) for tries in (1, 2, 3, 4)] == [FIRST_PAUSE * 2**n for n in range(4)]
    assert pause(1, answer, 0.0) == FIRST_PAUSE / 2
    assert pause(100, answer, 1.0) == pause(10_000, answer, 1.0) == LONGEST_PAUSE


def test_who_asks_for_patience_gets_at_least_that() -> None:
    assert pause(1, Answer(429, wait=20.0), 0.5) == 20.0
    assert pause(10, Answer(429, wait=0.1), 1.0) == LONGEST_PAUSE
