from __future__ import annotations

import threading

import pytest

from streams.errors import Rewind
from streams.publisher import Publisher


def test_work_is_published_in_order() -> None:
    done: list[int] = []
    publisher = Publisher(done.append)
    for i in range(100):
        publisher.submit(i)
    publisher.join()
    publisher.close()
    assert done == list(range(100))


def test_a_failure_drops_what_waits_and_is_raised_once() -> None:
    done: list[int] = []
    gate = threading.Event()

    def publish(work: int) -> None:
        gate.wait(10)
        if work == 1:
            raise Rewind("aborted")
        done.append(work)

    publisher = Publisher(publish)
    publisher.submit(1)
    publisher.submit(2)  # waits behind the one that fails: it must not be published before it
    gate.set()
    with pytest.raises(Rewind):
        publisher.join()
    publisher.join()
    publisher.submit(3)
    publisher.join()
    publisher.close()
    assert done == [3]


def test_a_submit_raises_what_an_earlier_one_failed_with() -> None:
    def publish(work: int) -> None:
        raise Rewind("aborted")

    publisher = Publisher(publish)

    def submit_until_told() -> None:
        for work in range(3):  # the failure shows at the second or third, whenever the thread came to it
            publisher.submit(work)

    with pytest.raises(Rewind):
        submit_until_told()
    publisher.close()


def test_at_most_one_batch_waits() -> None:
    gate, started = threading.Event(), threading.Event()

    def publish(work: int) -> None:
        started.set()
        gate.wait(10)

    publisher = Publisher(publish)
    publisher.submit(1)
    assert started.wait(10)
    publisher.submit(2)
    third = threading.Thread(target=publisher.submit, args=(3,))
    third.start()
    third.join(0.1)
    assert third.is_alive()
    gate.set()
    third.join(10)
    assert not third.is_alive()
    publisher.join()
    publisher.close()
