"""Runs a command and ends it when the process that asked for it is gone, even by kill -9.

A script of its own (`python -I guard.py PARENT_PID COMMAND...`), imported by nobody: it watches the parent's process
rather than ask the kernel for a signal at the parent's death, because that signal (PR_SET_PDEATHSIG) comes when the
*thread* ends that started the child. For its own child it does ask for it: the guard has one thread only, and so the
command also ends when the guard is killed. Prints the command's process id; the command writes to our standard error.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import socket
import subprocess
import sys
import time

PR_SET_PDEATHSIG = 1
CHECK_SECONDS = 0.5  # how often to look whether the parent lives
GRACE_SECONDS = 5.0  # how long the command may take to stop after the parent's death


def main(parent: int, command: list[str]) -> int:  # pragma: no cover - runs without coverage; see test_broker
    wakes, woken = socket.socketpair()
    for end in (wakes, woken):
        end.setblocking(False)
    signal.set_wakeup_fd(woken.fileno())
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None
    signal.signal(signal.SIGCHLD, lambda *_: None)
    child = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=sys.stderr,
        close_fds=False,  # the lock of the data folder is inherited: it is free when the command has ended
        preexec_fn=(lambda: libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)) if libc else None,
    )
    signal.signal(signal.SIGTERM, lambda *_: os.kill(child.pid, signal.SIGTERM))
    print(child.pid, flush=True)
    os.close(1)
    while child.poll() is None and os.getppid() == parent:
        if select.select([wakes], [], [], CHECK_SECONDS)[0]:
            with contextlib.suppress(BlockingIOError):
                wakes.recv(64)
    return _end(child)


def _end(child: subprocess.Popen[bytes]) -> int:  # pragma: no cover
    if child.poll() is None:
        child.terminate()
        give_up = time.monotonic() + GRACE_SECONDS
        while child.poll() is None and time.monotonic() < give_up:
            time.sleep(0.05)
        if child.poll() is None:
            child.kill()
    return child.wait()


if __name__ == "__main__":  # pragma: no cover
    code = main(int(sys.argv[1]), sys.argv[2:])
    sys.exit(code if code >= 0 else 128 - code)
