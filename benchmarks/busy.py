"""Keeps one core busy beside a command: python -m benchmarks.busy COMMAND ..."""

from __future__ import annotations

import os
import sys

if __name__ == "__main__":
    if os.fork() == 0:
        parent = os.getppid()
        while os.getppid() == parent:
            for _ in range(1_000_000):
                pass
        os._exit(0)
    os.execvp(sys.argv[1], sys.argv[1:])
