"""How busy the GPUs of the machine are, as NVIDIA's management library tells it; nothing where there is none.

Models are scored on the CPU; a GPU that others keep busy, or a runtime to come, is seen all the same.
"""

from __future__ import annotations

import ctypes
import logging
import threading
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)
LIBRARY, DEVICE = "libnvidia-ml.so.1", Path("/dev/nvidiactl")


class _Utilization(ctypes.Structure):
    _fields_ = (("gpu", ctypes.c_uint), ("memory", ctypes.c_uint))


class _Memory(ctypes.Structure):
    _fields_ = (("total", ctypes.c_ulonglong), ("free", ctypes.c_ulonglong), ("used", ctypes.c_ulonglong))


class Gpus:
    """All of the machine. load: opens the library, None where there is none."""

    def __init__(self, load: Any = None) -> None:
        self._load, self._lock = load or _library, threading.Lock()
        self._library: Any = None
        self._asked = False

    def __call__(self) -> dict[str, float]:
        """Return the shares of time and of memory in use of the busiest GPU; empty where nothing is known."""
        with self._lock:
            if not self._asked:
                self._asked, self._library = True, self._opened()
            try:
                return self._shares() if self._library is not None else {}
            except (OSError, AttributeError) as error:
                log.info("the GPUs are not watched any more: %s", error)
                self._library = None
                return {}

    def _opened(self) -> Any:
        try:
            library = self._load()
            if library is None or library.nvmlInit_v2() != 0:
                return None
        except (OSError, AttributeError) as error:
            log.info("the GPUs are not watched: %s", error)
            return None
        return library

    def _shares(self) -> dict[str, float]:
        count = ctypes.c_uint()
        if self._library.nvmlDeviceGetCount_v2(ctypes.byref(count)) != 0:
            return {}
        found: dict[str, float] = {}
        for at in range(count.value):
            handle, use, memory = ctypes.c_void_p(), _Utilization(), _Memory()
            if self._library.nvmlDeviceGetHandleByIndex_v2(at, ctypes.byref(handle)) != 0:
                continue
            if self._library.nvmlDeviceGetUtilizationRates(handle, ctypes.byref(use)) == 0:
                found["gpu"] = max(found.get("gpu", 0.0), use.gpu / 100)
            if self._library.nvmlDeviceGetMemoryInfo(handle, ctypes.byref(memory)) == 0 and memory.total:
                found["gpu_memory"] = max(found.get("gpu_memory", 0.0), memory.used / memory.total)
        return found


def _library() -> Any:
    return ctypes.CDLL(LIBRARY) if DEVICE.exists() else None
