"""What takes long: many kills, many events, an hour."""

from __future__ import annotations

from collections.abc import Sequence

from tests.chaos.events import Events
from tests.chaos.load import Step
from tests.chaos.scenario import Expect, Scenario
from tests.chaos.schedule import schedule

HOUR = 3_600.0  # seconds


def long_runs(seed: int) -> Sequence[Scenario]:
    seconds = 1_200.0
    hurt = schedule(
        seed + 4, seconds - 20, slots=3, brokers=3, kills=104, terms=8, pauses=4, scales=22, broker_faults=12
    )
    soak = schedule(seed + 5, HOUR - 20, slots=3, kills=25, terms=8, pauses=4, scales=8, broker_faults=15, spared=1)
    return [
        Scenario(
            "kills",
            "200,000 events through ten kill -9",
            (Step(26, 10_000.0),),
            schedule(seed, 18, slots=2, kills=10),
            Expect(stuck=20.0),
            slots=2,
            limit=200_000,
        ),
        Scenario(
            "long",
            "2,000,000 events through 100 kill -9, 20 scale changes and 10 broker faults",
            (Step(seconds + 60, 2_000_000 / seconds),),
            hurt,
            Expect(stuck=60.0, drain=300.0),
            Events(poison=0.01),
            brokers=3,
            limit=2_000_000,
            long=True,
        ),
        Scenario(
            "soak",
            "an hour at 20,000 events a second with a fault a minute",
            (Step(HOUR, 20_000.0),),
            soak,
            Expect(stuck=30.0, drain=300.0, growth=1.1, files=4.0),
            Events(poison=0.01),
            long=True,
        ),
    ]
