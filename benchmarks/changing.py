"""Changes the desired state again and again, as `penstock apply` and `penstock rollback` do, by their Python entries.

A process of its own, `python -m benchmarks.changing`, told its task on standard input: an operator sits elsewhere, and
what a change costs there is not to slow the reader that measures.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from benchmarks.errors import StandFailed
from models.repository import Repository
from penstock.config import Loaded, load_deployment
from schemas.control import Version, arms_of
from streams.control_writer import Author, Writer
from streams.rollout import Change, World, applied, rolled_back

AUTHOR = Author("benchmark", "here", "to measure")


@dataclass(frozen=True, slots=True)
class Changed:
    """A change: the revision that it made, and when it began and was committed, in seconds since 1970."""

    revision: int
    began: float
    ended: float


class Changer:
    """Takes a deployment from one version to the other and back: by applying `file`, then by a rollback, and so on."""

    def __init__(self, kafka: Mapping[str, str], file: str, repository: str) -> None:
        self._kafka, self._loaded = kafka, load_deployment(file)
        self._arms = arms_of(self._loaded.deployment, _versions(self._loaded, Repository(repository)))

    def change(self) -> Changed:
        """Make the next change. Raises what a writer raises."""
        began = time.time()
        written = Writer(self._kafka).change(self._decide, AUTHOR, whole=True)
        if written is None:
            raise StandFailed(
                f"{self._loaded.deployment.name}: there was nothing to change, so nothing can be measured"
            )
        return Changed(written.states[0].revision, began, time.time())

    def _decide(self, world: World) -> Change | None:
        change = applied(world, self._loaded.deployment, self._loaded.reader, self._arms)
        return change or rolled_back(world, self._loaded.deployment.name)


def _versions(loaded: Loaded, repository: Repository) -> dict[str, Version]:
    found = {ref: repository.resolve(ref) for ref in loaded.deployment.references.values()}
    return {ref: Version(each.manifest.name, each.manifest.version, each.digest) for ref, each in found.items()}


def main(text: bytes) -> None:
    """Make `count` changes, one each `every` seconds from now on, and print each as a line of JSON."""
    task: dict[str, Any] = json.loads(text)
    changer, began = Changer(task["kafka"], task["file"], task["repository"]), time.time() + task["after"]
    for number in range(task["count"]):
        time.sleep(max(0.0, began + number * task["every"] - time.time()))
        made = changer.change()
        print(json.dumps([made.revision, made.began, made.ended]), flush=True)


if __name__ == "__main__":
    main(sys.stdin.buffer.read())
