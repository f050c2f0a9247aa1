"""`penstock worker` with something broken around it: `python -m tests.chaos.wrapped [OPTION...] -- ARGUMENTS`.

`--break KIND` takes one of the promise's legs away, for the negative controls: the verifier must find each.
`--clock FILE` lets Python's wall-clock time be off by the seconds that the file holds. `--stacks SECONDS` writes every
thread's stack to the log again and again, to see where a worker hangs.
"""

from __future__ import annotations

import argparse
import faulthandler
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

LOOK_SECONDS = 0.1
DIES_AFTER = 5  # transactions: so few that a slot on a slow machine, whose batches are large, dies in its six seconds


def step_clock(file: Path) -> None:
    """Let time.time be wrong by what the file says; must come before anybody imports the function."""
    real, off = time.time, [0.0]

    def look() -> None:
        while True:
            try:
                off[0] = float(file.read_text())
            except (OSError, ValueError):
                off[0] = 0.0
            time.sleep(LOOK_SECONDS)

    time.time = lambda: real() + off[0]
    threading.Thread(target=look, daemon=True).start()


class Death:
    """Sends this process a signal at the DIES_AFTER-th call or, if `told`, at the first after SIGUSR2."""

    def __init__(self, *, told: bool = False, number: signal.Signals = signal.SIGKILL) -> None:
        self._left, self._number = DIES_AFTER, number
        if told:
            self._left = sys.maxsize
            signal.signal(signal.SIGUSR2, lambda *_: self._come())

    def __call__(self) -> None:
        self._left -= 1
        if self._left <= 0:
            self._left = sys.maxsize
            time.sleep(0.1)  # the brokers have by then what was sent
            os.kill(os.getpid(), self._number)

    def _come(self) -> None:
        self._left = 1


def no_transactions() -> None:
    """Publish without transactions, and die between a batch's records and its offsets."""
    from streams import sink, site

    death = Death()

    class Unprotected(sink.AcknowledgedSink):
        def publish(self, records: Sequence[Any], positions: Mapping[int, int]) -> None:
            super().publish(records, {})
            if positions:
                death()
                super().publish([], positions)

    site.TransactionalSink = Unprotected  # type: ignore[misc, assignment]


def early_offsets() -> None:
    """Commit a batch's offsets before its records are published, and die in between."""
    from confluent_kafka import TopicPartition

    from streams.sink import TransactionalSink

    publish, death = TransactionalSink.publish, Death()

    def early(self: TransactionalSink, records: Sequence[Any], positions: Mapping[int, int]) -> None:
        source = self._source
        offsets = [TopicPartition(source.topic, partition, offset) for partition, offset in positions.items()]
        if offsets:
            source.consumer.commit(offsets=offsets, asynchronous=False)
            death()
        publish(self, records, {})

    TransactionalSink.publish = early  # type: ignore[method-assign]


def shared_id() -> None:
    """Let all slots use the same transactional ids."""
    from streams.sink import TransactionalSink

    begin = TransactionalSink.__init__

    def shared(self: TransactionalSink, kafka: Any, slot_id: str, *more: Any, **options: Any) -> None:
        begin(self, kafka, slot_id.rsplit(".", 1)[0], *more, **options)

    TransactionalSink.__init__ = shared  # type: ignore[method-assign]


def dies_open(*, told: bool = False, number: signal.Signals = signal.SIGKILL) -> None:
    """Die as by kill -9 when a transaction holds everything and is not committed; no promise is broken by that."""
    from streams import sink

    patiently, death = sink._patiently, Death(told=told, number=number)

    def die(step: Callable[[], object], name: str) -> None:
        if name == "commit_transaction":
            death()
        patiently(step, name)

    sink._patiently = die


BREAKAGES: dict[str, Callable[[], None]] = {
    "no_transactions": no_transactions,
    "early_offsets": early_offsets,
    "shared_id": shared_id,
    "dies_open": dies_open,
    "dies_open_when_told": partial(dies_open, told=True),
    "stops_open_when_told": partial(dies_open, told=True, number=signal.SIGSTOP),
}


def main() -> None:
    at = sys.argv.index("--")
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.wrapped", description=__doc__)
    parser.add_argument("--break", dest="breakage", choices=sorted(BREAKAGES))
    parser.add_argument("--clock", type=Path)
    parser.add_argument("--stacks", type=float)
    options = parser.parse_args(sys.argv[1:at])
    if options.stacks is not None:
        faulthandler.dump_traceback_later(options.stacks, repeat=True)
    if options.clock is not None:
        step_clock(options.clock)
    from penstock.cli.worker import command

    if options.breakage is not None:
        BREAKAGES[options.breakage]()
    command(sys.argv[at + 1 :], prog_name="penstock worker")


if __name__ == "__main__":
    main()
