"""The second judge: `penstock verify` makes every inference again from its event and bundle."""

from __future__ import annotations

import json
import os
import subprocess
import sys

from tests.chaos.stand import Stand
from tests.rig import ROOT

SECONDS, SLOW = 900.0, 20_000  # how long a recomputation may take, and events a second of one that has many


def recompute(stand: Stand) -> tuple[str, int]:
    """Return what `penstock verify` says of all that the group has committed, in words, and how much is wrong."""
    arguments = ["--deployment", str(stand.rig.file), "--json", "--isolation", stand.scenario.isolation]
    arguments += ["--bootstrap-servers", stand.cluster.servers, "--repository", str(stand.rig.folder / "models")]
    if stand.registry is not None:
        arguments += ["--registry", stand.registry.url]
    done = subprocess.run(
        [sys.executable, "-m", "penstock.cli", "verify", *arguments],
        cwd=stand.folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=SECONDS + stand.load.ledger.count / SLOW,
        check=False,
    )
    (stand.folder / "verify.json").write_text(done.stdout)
    if done.returncode not in (0, 1):
        return f"failed with status {done.returncode}: {done.stderr.strip()[-500:]}", 1
    found = json.loads(done.stdout)
    counts = {name: value for name, value in found.items() if isinstance(value, int) and not isinstance(value, bool)}
    told = ", ".join(f"{name.replace('_', ' ')} {count:,}" for name, count in counts.items() if count)
    return f"{told}: {'nothing is wrong' if found['ok'] else 'something is wrong'}", int(not found["ok"])
