"""What measurements of one slot mean: how many slots a load needs, and what a million predictions cost. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from penstock.bench.latency import Latency

ROOM = 0.7  # of what a slot can do that is planned with: the rest drains what waits after a fault
SHARES = (0.7, 0.5, 0.3, 0.15, 0.05)  # of the capacity at which the latency is measured, until it is met
GB = 1e9
MILLION = 1_000_000


@dataclass(frozen=True, slots=True)
class Slot:
    """What one slot did on this machine: events/s over a backlog; CPU seconds an event of it and of the broker; bytes
    on the network an event, both ways; MiB; the share of the events that became dead letters; latency by offered rate.
    """

    rate: float
    cpu: float
    broker_cpu: float
    network: float
    rss: float
    letters: float
    latencies: Sequence[tuple[float, Latency]] = ()


@dataclass(frozen=True, slots=True)
class Wish:
    """What the user needs. rate: events/s; latency_ms: p95 until a reader sees the inference; prices: of an hour of a
    core and of a GB on the network, in any currency.
    """

    rate: float | None = None
    latency_ms: float | None = None
    core_hour: float | None = None
    gigabyte: float | None = None


def per_slot(slot: Slot, wish: Wish) -> float:
    """Return the events/s to give to a slot: with room, and as its latency allows; 0 when no rate was quick enough."""
    if wish.latency_ms is None:
        return slot.rate * ROOM
    good = [rate for rate, found in slot.latencies if found.p95 <= wish.latency_ms]
    return max(good, default=0.0)


def slots(slot: Slot, wish: Wish) -> int | None:
    """Return how many slots the load needs; None when no number of them is quick enough."""
    assert wish.rate is not None
    each = per_slot(slot, wish)
    return max(1, math.ceil(wish.rate / each)) if each else None


def price(slot: Slot, wish: Wish) -> float | None:
    """Return the price of a million predictions, worker and network; None without a price."""
    if wish.core_hour is None and wish.gigabyte is None:
        return None
    cores = slot.cpu * MILLION / 3600 * (wish.core_hour or 0.0)
    return cores + slot.network * MILLION / GB * (wish.gigabyte or 0.0)


def page(slot: Slot, wish: Wish) -> list[str]:
    """Return the findings as lines of text."""
    lines = [
        f"capacity of a slot   {slot.rate:,.0f} events/s on this machine; {1 / slot.cpu:,.0f} a second of a core",
        f"memory of a slot     {slot.rss:,.0f} MiB",
    ]
    for rate, found in slot.latencies:
        lines.append(f"latency at {rate:>9,.0f}/s {found}")
    broker = "" if math.isnan(slot.broker_cpu) else f", of the broker {slot.broker_cpu * MILLION:,.1f}"
    lines.append(
        f"a million takes      {slot.cpu * MILLION:,.1f} CPU-seconds of workers{broker}; "
        f"{slot.network * MILLION / GB:,.3f} GB on the network"
    )
    if (cost := price(slot, wish)) is not None:
        lines.append(f"a million costs      {cost:,.6f}, at the prices given, without the brokers")
    if wish.rate is not None:
        lines.append(_needed(slot, wish, wish.rate))
    if slot.letters > 0.01:
        lines.append(
            f"Note: {slot.letters:.0%} of the events became dead letters, which cost otherwise than inferences: give "
            "events of your own with --events or --recorded"
        )
    return lines


def _needed(slot: Slot, wish: Wish, rate: float) -> str:
    aim = "" if wish.latency_ms is None else f" at p95 {wish.latency_ms:,.0f} ms"
    count = slots(slot, wish)
    if count is None:
        least, found = slot.latencies[-1]
        slow = f"one that gets {least:,.0f}/s has p95 {found.p95:,.0f} ms"
        return f"for {rate:,.0f}/s{aim}    no number of slots does: {slow}; ask for more ms, or take a faster model"
    many = f"{count} slot{'s' * (count > 1)}"
    each = per_slot(slot, wish)
    return f"for {rate:,.0f}/s{aim}    {many} with up to {each:,.0f}/s each, on as many partitions or more"
