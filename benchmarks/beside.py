"""Runs one command beside another one, for as long as that lives: python -m benchmarks.beside BESIDE ... -- COMMAND ...

The process becomes COMMAND; BESIDE is a child of it, so that what both take is counted together.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence


def accompany(command: Sequence[str]) -> None:
    """Run the command until it, or the parent of this process, ends."""
    parent = os.getppid()
    with subprocess.Popen(command) as process:
        while os.getppid() == parent and process.poll() is None:
            time.sleep(0.5)
        process.kill()


if __name__ == "__main__":
    at = sys.argv.index("--")
    if os.fork() == 0:
        accompany(sys.argv[1:at])
        os._exit(0)
    os.execvp(sys.argv[at + 1], sys.argv[at + 1 :])
