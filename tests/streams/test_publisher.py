from __future__ import annotations

import threading
from functools import partial

import pytest

from streams.errors import Rewind, StartOver
from streams.publisher import Publisher


def fail() -> None:
    raise Rewind("aborted")


def test_work_is_published_in_order() -> None:
    done: list[int] = []
    publisher = Publisher()
    for i in range(100):
        publisher.submit(partial(done.append, i))
    publisher.join()
    publisher.close()
    assert done == list(range(100))


def test_a_failure_drops_what_waits_and_is_raised_once() -> None:
    done: list[int] = []
    gate = threading.Event()

    def fail_later() -> None:
        gate.wait(10)
        fail()

    publisher = Publisher()
    publisher.submit(fail_later)
    publisher.submit(partial(done.append, 2))  # waits behind the one that fails: it must not be published before it
    gate.set()
    with pytest.raises(Rewind):
        publisher.join()
    publisher.join()
    publisher.submit(partial(done.append, 3))
    publisher.join()
    publisher.close()
    assert done == [3]


def test_a_submit_raises_what_an_earlier_one_failed_with() -> None:
    publisher = Publisher()

    def submit_until_told() -> None:
        for _ in range(3):  # the failure shows at the second or third, whenever the thread came to it
            publisher.submit(fail)

    with pytest.raises(Rewind):
        submit_until_told()
    publisher.close()


def test_at_most_one_batch_waits() -> None:
    gate, started = threading.Event(), threading.Event()

    def hold() -> None:
        started.set()
        gate.wait(10)

    publisher = Publisher()
    publisher.submit(hold)
    assert started.wait(10)
    publisher.submit(hold)
    third = threading.Thread(target=publisher.submit, args=(hold,))
    third.start()
    third.join(0.1)
    assert third.is_alive()
    gate.set()
    third.join(10)
    assert not third.is_alive()
    publisher.join()
    publisher.close()


def test_work_that_never_returns_is_given_up() -> None:
    gate = threading.Event()
    publisher = Publisher(stuck_seconds=0.05)
    publisher.submit(partial(gate.wait, 10))
    with pytest.raises(StartOver, match="did not return"):
        publisher.join()
    with pytest.raises(StartOver):
        publisher.submit(fail)
    publisher.close()  # does not wait for it either
    gate.set()
