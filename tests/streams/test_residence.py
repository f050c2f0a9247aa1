"""A quota of memory: what is free is given back first, and only what stays over it ends a slot."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from schemas.deployment import Quotas
from streams import building
from streams.building import Builder
from streams.errors import Refused
from streams.residence import Residence, resident_bytes


class Process:
    """A process of so much memory, some of which can be given back."""

    def __init__(self, has: int | None, free: int = 0) -> None:
        self.has, self.free, self.did = has, free, list[str]()

    def trim(self) -> None:
        self.did.append("trim")
        assert self.has is not None
        self.has -= self.free

    def over(self, quota: int | None) -> int | None:
        return Residence(lambda: self.has, self.trim).over(quota, lambda: self.did.append("settle"))


def test_a_process_within_its_quota_is_left_alone() -> None:
    for quota in (None, 100, 101):
        process = Process(100)
        assert process.over(quota) is None
        assert process.did == []


def test_what_is_free_is_given_back_before_anything_is_decided() -> None:
    process = Process(100, free=20)
    assert process.over(80) is None
    assert process.did == ["settle", "trim"]


def test_a_process_that_stays_over_its_quota_is_told_with_what_it_has() -> None:
    assert Process(100, free=10).over(80) == 90


def test_a_system_that_does_not_tell_ends_nobody_and_says_so_once(caplog: pytest.LogCaptureFixture) -> None:
    residence = Residence(lambda: None)
    assert [residence.over(1, lambda: None) for _ in range(3)] == [None] * 3
    assert caplog.text.count("quotas.memory is not kept") == 1


def test_this_process_has_memory_and_more_of_it_after_it_took_some() -> None:
    before = resident_bytes()
    assert before is not None
    taken = b"x" * (64 << 20)
    after = resident_bytes()
    assert after is not None
    assert after > before + (len(taken) >> 1)


def test_a_quota_that_a_fresh_process_is_over_is_refused_and_one_that_it_outgrew_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(building, "resident_bytes", lambda: 300 << 20)
    builder = Builder.__new__(Builder)
    builder._fresh = True

    def declared(memory: int | None) -> Any:
        return SimpleNamespace(name="d", quotas=Quotas(memory=memory))

    with pytest.raises(Refused, match=r"quotas\.memory of deployment d is 200 MiB, but a slot has 300 MiB"):
        builder._refuse_small(declared(200 << 20))
    builder._refuse_small(declared(400 << 20))
    builder._refuse_small(declared(None))
    builder._fresh = False  # a slot that leaks is given a quota: it is started again, and not refused
    builder._refuse_small(declared(200 << 20))
