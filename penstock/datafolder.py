"""The embedded broker's data folder: whose it is, whether a broker runs on it, and on which ports.

The broker inherits the lock of the file `lock` and writes no more to it: the lock is free exactly when the broker is
gone, however it went, so that no stale process id is ever believed.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import socket
import time
import uuid
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TextIO

from penstock.errors import BrokerFailed

LOCK_SECONDS = 0.5  # somebody who only looks holds the lock for microseconds


class DataInUse(BrokerFailed):
    """A broker runs, or starts, on this data folder."""


@dataclass(frozen=True, slots=True)
class Cluster:
    """What stays the same over restarts."""

    kafka: str
    cluster_id: str
    port: int
    controller_port: int

    @property
    def bootstrap_servers(self) -> str:
        return f"127.0.0.1:{self.port}"


@contextlib.contextmanager
def locked(data: Path) -> Iterator[TextIO]:
    """Hold the folder's lock; a process that inherits the file keeps it. Raises DataInUse."""
    with (data / "lock").open("a+") as file:
        give_up = time.monotonic() + LOCK_SECONDS
        while not _lock(file, fcntl.LOCK_EX):
            if time.monotonic() > give_up:
                raise DataInUse(
                    f"{data} is in use by a running broker (process {running_pid(data) or 'unknown'}): "
                    "stop that one, or choose another folder"
                )
            time.sleep(0.02)
        file.truncate(0)
        yield file


def note_pid(lock: TextIO, pid: int) -> None:
    """Write the broker's process id into the locked file, in place of that of one whose start failed."""
    lock.truncate(0)
    lock.write(str(pid))
    lock.flush()


def is_running(data: Path) -> bool:
    """Return whether a broker runs, or starts, on the folder."""
    with contextlib.suppress(FileNotFoundError), (data / "lock").open("r") as file:
        return not _lock(file, fcntl.LOCK_SH)
    return False


def running_pid(data: Path) -> int | None:
    """Return the process id of the broker that runs on the folder; None: there is none, or it is not that far yet."""
    if not is_running(data):
        return None
    with contextlib.suppress(OSError, ValueError):
        return int((data / "lock").read_text())
    return None


def _lock(file: TextIO, kind: int) -> bool:
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def read(data: Path) -> Cluster | None:
    """Return the cluster in a folder, None for an empty one; raise BrokerFailed when it is not one of ours."""
    try:
        cluster = Cluster(**json.loads((data / "penstock.json").read_text()))
    except FileNotFoundError:
        strangers = sorted({path.name for path in data.iterdir()} - {"lock"}) if data.exists() else []
        if strangers:
            raise BrokerFailed(
                f"{data} is not empty and was not made by penstock (it holds {', '.join(strangers[:3])}): "
                "choose another folder"
            ) from None
        return None
    except (ValueError, TypeError):
        raise BrokerFailed(f"{data / 'penstock.json'} is damaged: delete the folder {data} to start anew") from None
    _check_cluster(data, cluster)
    return cluster


def _check_cluster(data: Path, cluster: Cluster) -> None:
    with contextlib.suppress(FileNotFoundError):
        lines = (data / "log" / "meta.properties").read_text().splitlines()
        found = dict(line.split("=", 1) for line in lines if "=" in line).get("cluster.id", "none")
        if found != cluster.cluster_id:
            raise BrokerFailed(
                f"{data / 'log'} belongs to another cluster ({found}, not {cluster.cluster_id}): "
                f"choose another folder, or delete {data} to start anew"
            )


def write(data: Path, kafka: str, known: Cluster | None, port: int | None) -> Cluster:
    """Choose ports - the wanted one, else those of the last time, else free ones - and record them.

    Raises BrokerFailed when the wanted port is taken.
    """
    if port and not is_free(port):
        raise BrokerFailed(f"port {port} is taken by another program: choose another, or none to have a free one found")
    broker = port or free_port(known.port if known else 0)
    controller = free_port(known.controller_port if known else 0, other_than=broker)
    cluster_id = known.cluster_id if known else new_cluster_id()
    cluster = Cluster(kafka, cluster_id, broker, controller)
    scratch = data / "penstock.json.new"
    scratch.write_text(json.dumps(asdict(cluster), indent=1) + "\n")
    scratch.replace(data / "penstock.json")
    return cluster


def new_cluster_id() -> str:
    """Return a random id in Kafka's form; none begins with "-", which its tools would take for an option."""
    while True:
        cluster_id = urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        if not cluster_id.startswith("-"):
            return cluster_id


def is_free(port: int) -> bool:
    """Return whether nobody listens on a port of 127.0.0.1."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # ports of closed connections count as free
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def free_port(preferred: int = 0, other_than: int = 0) -> int:
    """Return the preferred port of 127.0.0.1 when it is free, else one that the kernel chooses."""
    if preferred and preferred != other_than and is_free(preferred):
        return preferred
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
        if port != other_than:
            return port
