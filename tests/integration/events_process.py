"""`penstock events` as a process of its own, for tests: `python -m tests.integration.events_process FLAGS ARGUMENTS`.

With `alerts` as the first argument it is `penstock alerts`, which carries to webhooks by the same couriers.

Flags break it on purpose: `--die-in-transaction=N` and
`--die-after-commit=N` kill it in its Nth transaction, before and after the commit; `--die-after-post=N` and
`--die-after-taken=N` once a webhook took an event for the Nth time, before the commit, and behind it;
`--die-in-entry=N` and `--die-after-entry=N` in the transaction of the Nth entry that it writes, and behind it.

Negative controls: `--without-transactions` publishes first and commits then; `--forgetful` trusts the group's offset
alone; `--commit-first` commits a webhook's offset before it posts; `--unread` writes refusals without a look whether
the audit has them. `--once-seconds=N` shortens what `--once` waits.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from penstock import alert_routes, alertmanager, courier, events, followers, scribe
from penstock.cli import main as penstock
from streams import control_writer, refusals

Break = Callable[[int], None]


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class Dying:
    """A producer that kills the process at its Nth commit."""

    left = 0

    def __init__(self, producer: Any, after: bool) -> None:
        self._producer, self._after = producer, after

    def __getattr__(self, name: str) -> Any:
        return getattr(self._producer, name)

    def commit_transaction(self, seconds: float) -> None:
        Dying.left -= 1
        if not self._after and not Dying.left:
            self._producer.flush(10)
            die()
        self._producer.commit_transaction(seconds)
        if not Dying.left:
            die()


def die_in_transaction(number: int, after: bool = False) -> None:
    transact = events.Announcer._transact
    Dying.left = number

    def dying(self: Any, consumer: Any, producer: Any, records: Any) -> None:
        transact(self, consumer, Dying(producer, after), records)

    events.Announcer._transact = dying  # type: ignore[method-assign]


def without_transactions(number: int) -> None:
    """Break the recipe: records are there for all before the offset is."""
    left = [number]

    def publish(self: Any, consumer: Any, producer: Any, records: Any) -> None:
        from confluent_kafka import Producer

        plain = Producer(dict(self._wiring.kafka))
        for record in records:
            event, told = self._wiring.event(record), events.Told.of(record)
            plain.produce(self._wiring.events, event.value, partition=0, headers=told.headers)
        plain.flush(10)
        left[0] -= 1
        if not left[0]:
            die()
        followers.commit(consumer, self._wiring.audit, followers.offset_of(records[-1]) + 1)

    events.Announcer._transact = publish  # type: ignore[method-assign]
    forgetful(0)


def forgetful(_: int) -> None:
    events.last_told = lambda consumer, topic: None  # type: ignore[assignment]


def die_after_post(number: int) -> None:
    deliver, left = courier.Courier._deliver, [number]

    def dying(self: Any, *arguments: Any) -> bool:
        done = deliver(self, *arguments)
        left[0] -= 1
        if not left[0]:
            die()
        return done

    courier.Courier._deliver = dying  # type: ignore[method-assign]


def die_after_taken(number: int) -> None:
    commit, left = courier.Courier._commit, [number]

    def dying(self: Any, *arguments: Any) -> None:
        commit(self, *arguments)
        left[0] -= 1
        if not left[0]:
            die()

    courier.Courier._commit = dying  # type: ignore[method-assign]


def commit_first(number: int) -> None:
    """Break the recipe: what is committed may not have been posted."""
    deliver, commit, left = courier.Courier._deliver, courier.Courier._commit, [number]
    wiring_event = followers.Wiring.event
    current: list[Any] = []

    def event(self: Any, message: Any) -> Any:
        current[:] = [message]
        return wiring_event(self, message)

    def committed(self: Any, *arguments: Any) -> bool:
        commit(self, self.consumer, current[0])
        left[0] -= 1
        if not left[0]:
            die()
        return deliver(self, *arguments)

    session = courier.Courier._session

    def noted(self: Any, consumer: Any, *arguments: Any) -> None:
        self.consumer = consumer
        session(self, consumer, *arguments)

    telling = alert_routes.Telling.__call__

    def told(self: Any, message: Any) -> Any:
        current[:] = [message]
        return telling(self, message)

    followers.Wiring.event = event  # type: ignore[method-assign]
    alert_routes.Telling.__call__ = told  # type: ignore[method-assign]
    courier.Courier._session = noted  # type: ignore[method-assign]
    courier.Courier._deliver = committed  # type: ignore[method-assign]


def die_in_entry(number: int, after: bool = False) -> None:
    publish, left = control_writer.Writer._publish, [number]

    def dying(self: Any, producer: Any, written: Any) -> None:
        left[0] -= 1
        Dying.left = 0 if left[0] else 1
        publish(self, Dying(producer, after), written)

    control_writer.Writer._publish = dying  # type: ignore[method-assign]


def unread(_: int) -> None:
    """Break the recipe: what is written is not looked for."""
    refusals.is_told = lambda world, status: False  # type: ignore[assignment]


def once_seconds(number: int) -> None:
    followers.ONCE_SECONDS = courier.ONCE_SECONDS = float(number)  # type: ignore[attr-defined]
    scribe.ONCE_SECONDS = alertmanager.ONCE_SECONDS = float(number)  # type: ignore[attr-defined]


BREAKS: dict[str, Break] = {
    "--die-in-transaction": die_in_transaction,
    "--die-after-commit": lambda number: die_in_transaction(number, after=True),
    "--without-transactions": without_transactions,
    "--forgetful": forgetful,
    "--die-after-post": die_after_post,
    "--die-after-taken": die_after_taken,
    "--commit-first": commit_first,
    "--die-in-entry": die_in_entry,
    "--die-after-entry": lambda number: die_in_entry(number, after=True),
    "--unread": unread,
    "--once-seconds": once_seconds,
}


def main() -> None:
    arguments = sys.argv[1:]
    for word in [word for word in arguments if word.partition("=")[0] in BREAKS]:
        arguments.remove(word)
        name, _, number = word.partition("=")
        BREAKS[name](int(number or 0))
    penstock(arguments if arguments[:1] == ["alerts"] else ["events", *arguments], prog_name="penstock")


if __name__ == "__main__":
    main()
