"""A real Prometheus Alertmanager for tests: that of Debian's package, fetched with apt and unpacked, no root needed.

Debian's program has the folder of its templates built in, where nobody but root can put them. In what is unpacked that
path is replaced by one of the same length which means the folder that it is started in.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from penstock.datafolder import free_port
from penstock.maven import cache_folder

PACKAGE = "prometheus-alertmanager"
SHARED = b"/usr/share/prometheus/alertmanager"
HERE = b"./" * (len(SHARED) // 2)
START_SECONDS = 60.0


def binary() -> Path:
    """Return the program, from the machine, the cache, or Debian's archive. Skips the test without apt, but in CI."""
    if (installed := shutil.which(PACKAGE)) is not None:
        return Path(installed)
    kept = cache_folder() / "debian" / PACKAGE
    if not kept.exists():
        if shutil.which("apt-get") is None and not os.environ.get("CI"):
            pytest.skip(f"neither {PACKAGE} nor apt-get is on this machine")
        kept.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=kept.parent) as folder:
            unpacked = _unpacked(Path(folder))
            with contextlib.suppress(OSError):  # another test was quicker
                unpacked.rename(kept)  # whole or not at all
    return kept / PACKAGE


def _unpacked(folder: Path) -> Path:
    for place in ("state/lists/partial", "cache/archives/partial"):
        (folder / place).mkdir(parents=True)
    own = {"Dir::State": folder / "state", "Dir::Cache": folder / "cache", "Dir::State::status": "/var/lib/dpkg/status"}
    options = [word for name, value in own.items() for word in ("-o", f"{name}={value}")]
    apt = ["apt-get", *options, "-o", "APT::Sandbox::User=", "-qq"]  # apt checks the archive's signatures and sums
    for words in (["update"], ["download", PACKAGE]):
        subprocess.run([*apt, *words], cwd=folder, check=True, timeout=240)
    [package] = folder.glob("*.deb")
    subprocess.run(["dpkg-deb", "-x", package, folder / "content"], check=True, timeout=60)
    share = folder / "content" / SHARED.decode().lstrip("/")
    content = (folder / "content" / "usr" / "bin" / PACKAGE).read_bytes()
    assert SHARED in content
    assert len(HERE) == len(SHARED)
    (share / PACKAGE).write_bytes(content.replace(SHARED, HERE))
    (share / PACKAGE).chmod(0o755)
    return share


class RealAlertmanager:
    """One on loopback without a cluster. receiver: a webhook that it notifies, as soon as it may."""

    def __init__(self, folder: Path, receiver: str) -> None:
        self._folder, self._port = folder, free_port()
        config = {
            "route": {
                "receiver": "test",
                "group_by": ["..."],
                "group_wait": "100ms",
                "group_interval": "500ms",
                "repeat_interval": "1h",
            },
            "receivers": [{"name": "test", "webhook_configs": [{"url": receiver, "send_resolved": True}]}],
        }
        self._config = folder / "alertmanager.yml"
        self._config.write_text(json.dumps(config))
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        """Start it and block until its API answers."""
        program = binary()
        with (self._folder / "alertmanager.log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    program,
                    f"--config.file={self._config}",
                    f"--storage.path={self._folder / 'data'}",
                    f"--web.listen-address=127.0.0.1:{self._port}",
                    "--cluster.listen-address=",
                ],
                cwd=program.parent,
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            assert self._process.poll() is None, log_of(self._folder)
            assert time.monotonic() < deadline, log_of(self._folder)
            time.sleep(0.1)

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(20)
            self._process = None

    def active(self) -> list[dict[str, Any]]:
        """The alerts that it takes for firing."""
        with urllib.request.urlopen(f"{self.url}/api/v2/alerts?active=true", timeout=10) as answer:
            found: list[dict[str, Any]] = json.loads(answer.read())
        return found

    def wait_for(self, *names: str, seconds: float = 60) -> list[dict[str, Any]]:
        """Block until exactly these fire, by the label `name`."""
        deadline = time.monotonic() + seconds
        while True:
            found = self.active()
            if sorted(each["labels"]["name"] for each in found) == sorted(names):
                return found
            assert time.monotonic() < deadline, f"{names} do not fire, but {found}"
            time.sleep(0.1)

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/-/ready", timeout=2) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False


def log_of(folder: Path) -> str:
    return (folder / "alertmanager.log").read_text()[-2000:]
