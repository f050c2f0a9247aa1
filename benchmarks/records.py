"""One JSON file for all that was measured on a machine; each command puts its part beside those of the others."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
from pathlib import Path
from typing import Any

from benchmarks.errors import OtherMachine

PACKAGES = ("confluent-kafka", "fastavro", "onnxruntime", "polars", "numpy")


def machine() -> dict[str, Any]:
    """Return what the figures are measured on and with."""
    model = next((line for line in _lines("/proc/cpuinfo") if line.startswith("model name")), ": unknown")
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {
        "processor": model.split(":")[1].strip(),
        "cores": os.cpu_count(),
        "memory_gib": round(memory / (1 << 30)),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "packages": {name: importlib.metadata.version(name) for name in PACKAGES},
    }


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []


def load(file: Path) -> dict[str, Any]:
    """Return what lies in the file; what every file begins with where there is none.

    Raises OtherMachine where it was measured on or with something else: figures of two machines do not compare.
    """
    here = machine()
    if not file.exists():
        return {"machine": here, "jobs": {}}
    found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    if found.get("machine") != here:
        raise OtherMachine(f"{file} has figures of another machine or other packages: give --json another file")
    return found


def check(file: Path | None) -> None:
    """Refuse another machine's file before anything is measured. Raises OtherMachine."""
    if file is not None:
        load(file)


def put(file: Path | None, part: str, found: Any, within: str | None = None) -> None:
    """Put a part into the file, or into a part of it, in place of one of the same name. file: None does nothing."""
    if file is None:
        return
    known = load(file)
    place = known if within is None else known.setdefault(within, {})
    place[part] = found
    file.write_text(json.dumps(known, indent=1), encoding="utf-8")
