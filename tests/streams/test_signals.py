"""Signals of a worker's process, whenever they come."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from streams import signals as module


class Told:
    """Counts what a worker is told."""

    def __init__(self) -> None:
        self.stopped = self.resumed = 0

    def stop(self) -> None:
        self.stopped += 1

    def resume(self) -> None:
        self.resumed += 1


@pytest.fixture
def given_up(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Set when the process would have ended itself; the handlers of before come back."""
    event = threading.Event()
    monkeypatch.setattr(module, "DRAIN_SECONDS", 0.1)
    monkeypatch.setattr(module, "_give_up", event.set)
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)}
    yield event
    for number, handler in before.items():
        signal.signal(number, handler)


def test_signals_before_there_is_a_worker_count_and_a_start_that_hangs_ends(given_up: threading.Event) -> None:
    signals, worker = module.Signals(), Told()
    os.kill(os.getpid(), signal.SIGUSR1)  # would end a process that has no handler yet
    os.kill(os.getpid(), signal.SIGTERM)
    assert signals.stopping()
    assert given_up.wait(10)
    told: Any = worker
    signals.tell(told)
    assert (worker.stopped, worker.resumed) == (1, 1)


def test_a_worker_is_told_of_no_signal_that_did_not_come(given_up: threading.Event) -> None:
    signals, worker = module.Signals(), Told()
    told: Any = worker
    signals.tell(told)
    assert (worker.stopped, worker.resumed) == (0, 0)


def test_a_signal_from_before_there_was_a_handler_waits_for_it(given_up: threading.Event) -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})  # as a supervisor starts its children
    signal.pthread_kill(threading.get_ident(), signal.SIGUSR1)
    signals, worker = module.Signals(), Told()
    told: Any = worker
    signals.tell(told)
    assert worker.resumed == 1


def test_a_worker_is_told_once_to_stop(given_up: threading.Event) -> None:
    signals, worker = module.Signals(), Told()
    told: Any = worker
    signals.tell(told)
    os.kill(os.getpid(), signal.SIGUSR1)
    os.kill(os.getpid(), signal.SIGINT)
    os.kill(os.getpid(), signal.SIGTERM)
    assert (worker.stopped, worker.resumed) == (1, 1)
    assert given_up.wait(10)
