"""What a worker takes of its machine: read from the kernel's files, left out where they are not there."""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any

import pytest

from schemas.deployment import Quotas
from streams.gpus import Gpus
from streams.resources import Resources, cores, disk_bytes, memory_bytes, network_bytes

NET = """Inter-|   Receive                                                |  Transmit
 face |bytes packets errs drop fifo frame compressed multicast|bytes packets errs drop fifo colls carrier compressed
    lo: 999 1 0 0 0 0 0 0 999 1 0 0 0 0 0 0
  eth0:{received} 5 0 0 0 0 0 0 {sent} 5 0 0 0 0 0 0
  eth1: 5 5 0 0 0 0 0 0 7 5 0 0 0 0 0 0
"""


def kernel(root: Path, read: int = 0, written: int = 0, received: int = 0, sent: int = 0) -> Path:
    (root / "self" / "net").mkdir(parents=True, exist_ok=True)
    io = f"rchar: 12\nread_bytes: {read}\nwrite_bytes: {written}\ncancelled_write_bytes: 3\n"
    (root / "self" / "io").write_text(io)
    (root / "self" / "net" / "dev").write_text(NET.format(received=received, sent=sent))
    (root / "meminfo").write_text("MemTotal:       2000 kB\nMemFree: 5 kB\n")
    return root


def group(root: Path, **files: str) -> Path:
    for name, text in files.items():
        path = root / name.replace("__", "/").replace("_of_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    return root


def test_bytes_of_disks_and_networks_are_those_of_the_kernel_without_loopback(tmp_path: Path) -> None:
    proc = kernel(tmp_path, 10, 20, 30, 40)
    assert disk_bytes(proc) == {"disk_read": 10, "disk_written": 20}
    assert network_bytes(proc) == {"received": 35, "sent": 47}


def test_rates_are_those_of_the_last_seconds_and_none_at_first(tmp_path: Path) -> None:
    now = [0.0]
    found = Resources(kernel(tmp_path), tmp_path / "none", lambda: now[0], dict)
    assert found(None, None, Quotas()) == {}
    now[0], _ = 2.0, kernel(tmp_path, 1_000, 2_000, 4_000, 8_000)
    assert found(None, None, Quotas()) == {"disk_read": 500, "disk_written": 1_000, "received": 2_000, "sent": 4_000}
    now[0] = 20.0  # what came long ago is no rate of now
    found(None, None, Quotas())
    now[0] = 21.0
    assert set(found(None, None, Quotas()).values()) == {0.0}


def test_shares_are_of_the_quota_or_else_of_the_machine(tmp_path: Path) -> None:
    cgroup = group(tmp_path / "cgroup", cpu_of_max="50000 100000")
    found = Resources(kernel(tmp_path), cgroup, lambda: 0.0, dict)
    assert found(0.25, 512_000, Quotas()) == {"cpu": 0.5, "memory": 0.25}
    assert found(0.25, 512_000, Quotas(cpu=0.25, memory=1_024_000)) == {"cpu": 1.0, "memory": 0.5}


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"cpu_of_max": "50000 100000"}, 0.5),
        ({"cpu__cpu_of_cfs_quota_us": "25000", "cpu__cpu_of_cfs_period_us": "100000"}, 0.25),
    ],
)
def test_a_control_group_has_fewer_cores(tmp_path: Path, files: dict[str, str], expected: float) -> None:
    assert cores(group(tmp_path, **files)) == expected


@pytest.mark.parametrize(
    "files",
    [
        {},
        {"cpu_of_max": "max 100000"},
        {"cpu__cpu_of_cfs_quota_us": "-1", "cpu__cpu_of_cfs_period_us": "100000"},
        {"cpu_of_max": "junk"},
        {"cpu_of_max": "9999999 100"},
    ],
)
def test_without_a_limit_there_are_those_of_the_machine(tmp_path: Path, files: dict[str, str]) -> None:
    assert cores(group(tmp_path, **files)) == cores(tmp_path / "none") >= 1


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, 2000 * 1024),
        ({"memory_of_max": "max"}, 2000 * 1024),
        ({"memory_of_max": "1000"}, 1000),
        ({"memory__memory_of_limit_in_bytes": "4000"}, 4000),
        ({"memory__memory_of_limit_in_bytes": str((1 << 63) - 4096)}, 2000 * 1024),
    ],
)
def test_memory_is_that_of_the_control_group_or_the_machine(
    tmp_path: Path, files: dict[str, str], expected: int
) -> None:
    assert memory_bytes(kernel(tmp_path / "proc"), group(tmp_path / "cgroup", **files)) == expected


def test_where_the_system_tells_nothing_nothing_is_known(tmp_path: Path) -> None:
    found = Resources(tmp_path, tmp_path, lambda: 0.0, dict)
    assert found(None, 5, Quotas()) == {}
    assert memory_bytes(tmp_path, tmp_path) is None


class Library:
    """NVIDIA's library with two GPUs. wrong: the function that fails."""

    def __init__(self, wrong: str = "") -> None:
        self._wrong = wrong

    def __getattr__(self, name: str) -> Any:
        if name == self._wrong:
            return lambda *_: 999
        found = {
            "nvmlInit_v2": lambda: 0,
            "nvmlDeviceGetCount_v2": self._count,
            "nvmlDeviceGetHandleByIndex_v2": self._handle,
            "nvmlDeviceGetUtilizationRates": self._use,
            "nvmlDeviceGetMemoryInfo": self._memory,
        }.get(name)
        if found is None:
            raise AttributeError(name)
        return found

    def _count(self, count: Any) -> int:
        count._obj.value = 2
        return 0

    def _handle(self, at: int, handle: Any) -> int:
        handle._obj.value = at + 1
        return 0

    def _use(self, handle: ctypes.c_void_p, use: Any) -> int:
        use._obj.gpu = 10 * (handle.value or 0)
        return 0

    def _memory(self, handle: ctypes.c_void_p, memory: Any) -> int:
        memory._obj.total, memory._obj.used = 100, 30 * (handle.value or 0)
        return 0


def test_the_busiest_gpu_counts() -> None:
    assert Gpus(Library)() == {"gpu": 0.2, "gpu_memory": 0.6}


@pytest.mark.parametrize("wrong", ["nvmlInit_v2", "nvmlDeviceGetCount_v2", "nvmlDeviceGetHandleByIndex_v2"])
def test_a_library_that_refuses_tells_nothing(wrong: str) -> None:
    assert Gpus(lambda: Library(wrong))() == {}


def test_what_a_gpu_does_not_tell_is_left_out() -> None:
    assert Gpus(lambda: Library("nvmlDeviceGetUtilizationRates"))() == {"gpu_memory": 0.6}


def test_a_library_that_is_not_there_or_lacks_a_function_is_asked_once() -> None:
    asked = []

    def load() -> Any:
        asked.append(1)
        raise OSError("no such file")

    gpus = Gpus(load)
    assert (gpus(), gpus(), len(asked)) == ({}, {}, 1)
    assert Gpus(lambda: object())() == {}
    assert Gpus(lambda: None)() == {}
