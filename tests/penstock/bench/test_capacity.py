"""What a slot's measurements come to for a load, a latency and a price."""

from __future__ import annotations

import math

from penstock.bench.capacity import Slot, Wish, page, per_slot, price, slots
from penstock.bench.latency import Latency, overrun

QUICK, SLOW = Latency(2.0, 8.0, 12.0, [8.0]), Latency(20.0, 60.0, 90.0, [60.0])
SLOT = Slot(100_000.0, 5e-6, 3e-6, 400.0, 180.0, 0.0, [(70_000.0, overrun(0.5)), (50_000.0, SLOW), (30_000.0, QUICK)])


def test_without_a_latency_slots_are_planned_with_room() -> None:
    assert per_slot(SLOT, Wish()) == 70_000
    assert slots(SLOT, Wish(rate=70_000)) == 1
    assert slots(SLOT, Wish(rate=70_001)) == 2


def test_a_latency_decides_what_a_slot_is_given() -> None:
    assert per_slot(SLOT, Wish(latency_ms=10)) == 30_000
    assert per_slot(SLOT, Wish(latency_ms=60)) == 50_000
    assert slots(SLOT, Wish(rate=90_001, latency_ms=10)) == 4
    assert slots(SLOT, Wish(rate=1, latency_ms=1)) is None
    said = "no number of slots does: one that gets 30,000/s has p95 8 ms"
    assert any(said in line for line in page(SLOT, Wish(rate=1, latency_ms=1)))


def test_a_million_costs_its_cpu_and_its_bytes() -> None:
    assert price(SLOT, Wish()) is None
    assert math.isclose(price(SLOT, Wish(core_hour=0.36)) or 0, 5 * 0.36 / 3600)
    assert math.isclose(price(SLOT, Wish(core_hour=0.36, gigabyte=0.1)) or 0, 5 * 0.36 / 3600 + 0.04)


def test_the_page_says_what_was_measured() -> None:
    text = "\n".join(page(SLOT, Wish(rate=90_000, latency_ms=10, core_hour=0.36)))
    assert "100,000 events/s on this machine" in text
    assert "200,000 a second of a core" in text
    assert "does not keep up: 50% came in time" in text
    assert "5.0 CPU-seconds of workers, of the broker 3.0; 0.400 GB" in text
    assert "for 90,000/s at p95 10 ms    3 slots" in text
    assert "nan" not in "\n".join(page(Slot(1.0, 1.0, math.nan, 1.0, 1.0, 0.5), Wish()))
    assert "50% of the events became dead letters" in "\n".join(page(Slot(1.0, 1.0, 1.0, 1.0, 1.0, 0.5), Wish()))
