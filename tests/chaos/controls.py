"""The negative controls: workers that lack a leg of the promise, which the verifier must find."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from tests.chaos.events import Events
from tests.chaos.load import Step
from tests.chaos.scenario import Expect, Scenario


def controls() -> Sequence[Scenario]:
    """Each takes one leg of the promise away; the verifier must see it."""
    control = Scenario("control", "", (Step(6, 6_000),), partitions=4, slots=2, events=Events(poison=0.01), short=True)
    return [
        replace(
            control,
            name="control-no-transactions",
            about="without transactions events are scored twice",
            broken="no_transactions",
            expect=Expect(("duplicated",), complete=False, exits=(-9,)),
        ),
        replace(
            control,
            name="control-early-offsets",
            about="with offsets committed before the batch events are lost",
            broken="early_offsets",
            expect=Expect(("lost",), complete=False, exits=(-9,)),
        ),
        replace(
            control,
            name="control-shared-id",
            about="two slots with the same transactional ids fence each other again and again",
            broken="shared_id",
            expect=Expect(("restarts",), complete=False, restarts=0.0),
        ),
        replace(
            control,
            name="control-separate-ids",
            about="what control-shared-id shows is not seen when each slot has its own",
            expect=Expect(restarts=0.0),
            short=False,
        ),
        replace(
            control,
            name="control-read-uncommitted",
            about="a reader that takes uncommitted records sees what slots left that died before they committed",
            broken="dies_open",
            isolation="read_uncommitted",
            expect=Expect(("duplicated", "out_of_order"), complete=False, exits=(-9,)),
        ),
        replace(
            control,
            name="control-read-committed",
            about="a reader that takes committed records only sees nothing of that",
            broken="dies_open",
            expect=Expect(exits=(-9,)),
            short=False,
        ),
    ]
