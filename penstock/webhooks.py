"""What a webhook is sent and what its answers mean: addresses, signatures, patience; pure.

Requests are CloudEvents in the structured mode of the HTTP binding, signed as Standard Webhooks says where there is a
secret. The answer decides: delivered, refused for good, or to be tried again.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import Literal
from urllib.parse import urlsplit

from penstock.cloudevents import CONTENT_TYPE, Event
from penstock.errors import WebhookInvalid
from penstock.pages import clean

FIRST_PAUSE, LONGEST_PAUSE = 0.5, 60.0  # seconds between tries
LONGEST_ASKED = 3600.0  # the most of a Retry-After that is obeyed
SECRET = "whsec_"
SECRET_BYTES = range(16, 65)
TRY_AGAIN = {408, 425, 429}  # of 4xx, which otherwise refuse
Verdict = Literal["delivered", "refused", "again"]


@dataclass(frozen=True, slots=True)
class Webhook:
    """An address that events are posted to. secrets: keys that sign each request, several while one is replaced."""

    url: str = field(repr=False)  # many addresses are secrets themselves
    secrets: tuple[bytes, ...] = field(default=(), repr=False)

    @classmethod
    def parse(cls, url: str, secrets: Sequence[bytes] = ()) -> Webhook:
        """Raises WebhookInvalid for an address that nothing can be posted to."""
        try:
            parts = urlsplit(url)
            usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        except ValueError:
            usable = None
        if not usable or re.search(r"[\s\x00-\x20\x7f-\U0010ffff]", url):
            raise WebhookInvalid(f"{_hidden(url)!r} is no address of a webhook: write https://HOST/PATH, in ASCII")
        if parts.username or parts.password:
            raise WebhookInvalid(
                f"the webhook at {parts.hostname} has a login in its address, which is not sent: sign requests with "
                "--secret-env, or put a token into the path"
            )
        return cls(url.partition("#")[0], tuple(secrets))

    @property
    def key(self) -> str:
        """16 hexadecimal digits that name the address where it must not be told."""
        return hashlib.sha256(self.url.encode()).hexdigest()[:16]

    @property
    def name(self) -> str:
        """The address as logs may show it: without path and query, which often hold a token."""
        parts = urlsplit(self.url)
        return f"webhook {self.key} at {parts.scheme}://{parts.netloc}"


def distinct(webhooks: Sequence[Webhook]) -> list[Webhook]:
    """Return them as they are. Raises WebhookInvalid when an address is there twice."""
    found: set[str] = set()
    for webhook in webhooks:
        if webhook.url in found:
            raise WebhookInvalid(f"{webhook.name} is given twice: give each address once")
        found.add(webhook.url)
    return list(webhooks)


def _hidden(url: str) -> str:
    """The beginning of something that may be an address."""
    return url if len(url) < 20 else url[:20] + "..."


def secrets_of(text: str, variable: str) -> tuple[bytes, ...]:
    """Return the keys in a variable: `whsec_` and base64, several with spaces between. Raises WebhookInvalid."""
    keys = []
    for word in text.split():
        try:
            keys.append(base64.b64decode(word.removeprefix(SECRET), validate=True))
        except binascii.Error:
            keys.append(b"")
        if len(keys[-1]) not in SECRET_BYTES or not word.startswith(SECRET):
            raise WebhookInvalid(
                f"{variable} holds no secret of a webhook: write {SECRET} and the base64 of {SECRET_BYTES[0]} to "
                f"{SECRET_BYTES[-1]} random bytes, such as: echo {SECRET}$(openssl rand -base64 32)"
            )
    if not keys:
        raise WebhookInvalid(f"{variable} is not set: put the webhooks' secret there, or leave --secret-env out")
    return tuple(keys)


def headers_of(event: Event, secrets: Sequence[bytes], now: int) -> dict[str, str]:
    """Return the headers of a request. now: the time of this try, in seconds since 1970."""
    headers = {"Content-Type": CONTENT_TYPE, "Idempotency-Key": event.id, "User-Agent": "penstock"}
    if secrets:
        headers["webhook-id"] = event.id
        headers["webhook-timestamp"] = str(now)
        headers["webhook-signature"] = " ".join(signature(key, event.id, now, event.value) for key in secrets)
    return headers


def signature(key: bytes, identity: str, now: int, body: bytes) -> str:
    """Return the signature of Standard Webhooks: `v1,` and the base64 of HMAC-SHA256 over id, time and body."""
    digest = hmac.digest(key, f"{identity}.{now}.".encode() + body, "sha256")
    return "v1," + base64.b64encode(digest).decode()


def token_of(text: str, variable: str) -> str:
    """Return the token in a variable. Raises WebhookInvalid for one that no header of HTTP can hold."""
    if not re.fullmatch(r"[\x21-\x7e]{1,8000}", text.strip()):
        raise WebhookInvalid(
            f"{variable} holds no token: put one there, in ASCII without spaces, or leave --token-env out"
        )
    return text.strip()


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of one request. status: of HTTP, None without an answer. said: for the log. wait: seconds asked for."""

    status: int | None
    said: str = ""
    wait: float = 0.0

    @property
    def verdict(self) -> Verdict:
        """Only a 2xx is a delivery, and only a 4xx that does not ask for patience is a refusal."""
        if self.status is None:
            return "again"
        if 200 <= self.status < 300:
            return "delivered"
        return "refused" if 400 <= self.status < 500 and self.status not in TRY_AGAIN else "again"

    @classmethod
    def of(cls, status: int, headers: Mapping[str, str], body: str, now: float) -> Answer:
        """Read an answer; `headers` finds names in any case, `now` is in seconds since 1970."""
        said = f"status {status}" + (f": {clean(body)[:200]}" if body.strip() else "")
        if 300 <= status < 400:
            said += "; redirects are not followed, give the address that it leads to"
        return cls(status, said, _asked(headers.get("Retry-After"), now))


def _asked(text: str | None, now: float) -> float:
    """Return the seconds that a Retry-After asks for: a number, or a date."""
    if not text:
        return 0.0
    if re.fullmatch(r"\s*\d{1,12}\s*", text):
        seconds = float(text)
    else:
        try:
            seconds = parsedate_to_datetime(text).timestamp() - now
        except (ValueError, TypeError, OverflowError):
            return 0.0
    return min(max(seconds, 0.0), LONGEST_ASKED)


def pause(tries: int, answer: Answer, chance: float) -> float:
    """Return the seconds until the next try. tries: those that failed, from 1. chance: at random in 0 to 1.

    Pauses double up to a minute; up to half of one is left to chance, so that not all who wait come back at once.
    """
    longest = min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(tries - 1, 30))
    return max(answer.wait, longest * (0.5 + 0.5 * chance))
