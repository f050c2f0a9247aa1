"""What a supervisor tells a process that waits for its slot."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator

import pytest

from streams.orders import Caution, Order, await_end, await_order

ORDER = Order("3", 9_103, Caution({0: (1, 5)}, 13, {2: (7, 8), 4: (1, 9)}), 2)


@pytest.fixture
def pipe() -> Iterator[list[int]]:
    ends = list(os.pipe())
    yield ends
    for end in ends:
        os.close(end)


def never() -> bool:
    return False


def test_an_order_arrives_as_it_was_given_also_in_pieces(pipe: list[int]) -> None:
    line = ORDER.to_line()

    def write() -> None:
        for at in range(0, len(line), 7):
            os.write(pipe[1], line[at : at + 7])
            time.sleep(0.001)

    writer = threading.Thread(target=write)
    writer.start()
    assert await_order(pipe[0], never, never) == ORDER
    writer.join()


def test_waiting_ends_without_an_order(pipe: list[int]) -> None:
    assert await_order(pipe[0], lambda: True, never) is None
    looks: list[float] = []
    assert await_order(pipe[0], never, lambda: bool(looks.append(time.monotonic()) or True), every=0) is None
    assert len(looks) == 1
    os.close(pipe[1])
    pipe[1] = os.dup(pipe[0])
    assert await_order(pipe[0], never, never) is None
    await_end(pipe[0])


@pytest.mark.parametrize("line", [b"\n", b"hello\n", b"{}\n", b'{"slot": "1"}\n', b"[1]\n"])
def test_what_is_no_order_is_refused(pipe: list[int], line: bytes) -> None:
    os.write(pipe[1], line)
    with pytest.raises(ValueError, match="no order of a supervisor"):
        await_order(pipe[0], never, never)
