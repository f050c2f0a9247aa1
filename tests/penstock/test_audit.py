"""Entries of the audit as they are read."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from penstock import audit
from schemas.control import Entry
from schemas.errors import RecordInvalid
from tests.audit_entries import applied


def test_an_entry_comes_back_from_its_record() -> None:
    signed = replace(applied(1)[0], signature=b"\x00\xff", signer="ada", revision_before=None)
    assert Entry.decode(signed.encode()) == signed


@pytest.mark.parametrize("spoil", [lambda data: data[:-1], lambda data: data + b"0", lambda data: b"x" + data[1:]])
def test_what_is_no_record_of_the_audit_is_refused(spoil: Any) -> None:
    with pytest.raises(RecordInvalid):
        Entry.decode(spoil(applied(1)[0].encode()))
    with pytest.raises(RecordInvalid):
        Entry.decode(b"")


def test_a_state_is_a_json_object_or_nothing() -> None:
    assert audit.state(None) is None
    assert audit.state("null") is None
    assert audit.state('{"a": 1}') == {"a": 1}
    for text in ("[]", "1", "{", '{"a": Infinity}'):
        with pytest.raises(ValueError, match=r"JSON|Expecting"):
            audit.state(text)
