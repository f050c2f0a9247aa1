"""Runs a command of the product in a process that takes more and more memory: python -m benchmarks.leaking WORD ...

It stops at MOST, as a limit of memory would stop it.
"""

from __future__ import annotations

import sys
import threading
import time

STEP, EVERY, MOST = 16 << 20, 0.1, 1 << 30  # bytes, seconds, bytes
PAGE = 4096


def leak(most: int = MOST) -> None:
    """Take STEP bytes more each EVERY seconds, and use them, until `most` are taken."""
    held: list[bytearray] = []
    while len(held) * STEP < most:
        block = bytearray(STEP)
        block[::PAGE] = b"x" * len(range(0, STEP, PAGE))  # memory that was not touched is not taken
        held.append(block)
        time.sleep(EVERY)
    threading.Event().wait()


if __name__ == "__main__":
    threading.Thread(target=leak, daemon=True).start()
    sys.argv[0] = "penstock"
    from penstock.cli import main

    main()
