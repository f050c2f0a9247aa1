"""Where a user sits who changes control on a real Kafka."""

from __future__ import annotations

from typing import Any

from click.testing import CliRunner, Result

from models.bundle import Bundle
from models.repository import Repository
from penstock.cli import main
from tests.integration.planes import Plane
from tests.rig import Rig, sum_model


class Desk:
    """A person in a folder with a deployment's file, a repository with two versions and a broker."""

    def __init__(self, rig: Rig, plane: Plane) -> None:
        self.rig, self.plane, self.name = rig, plane, rig.name
        self.repository = Repository(str(rig.folder / "models"))
        self.first = rig.version
        self.second = self.add(tags=["candidate"])

    def add(self, tags: list[str], features: tuple[str, ...] = ("a", "b"), model: bytes | None = None) -> str:
        built = Bundle.build(name="sum", model=model or sum_model(), features=list(features))
        return self.repository.add(built, tags=tags).manifest.version

    def declare(self, **changes: Any) -> None:
        self.rig.declared |= changes
        self.rig.write()

    def type(self, *words: str) -> Result:
        result = CliRunner().invoke(main, words)
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        return result

    def said(self, *words: str) -> str:
        result = self.type(*words)
        assert result.exit_code == 0, result.output
        return result.output

    def refused(self, *words: str) -> str:
        result = self.type(*words)
        assert result.exit_code == 2, result.output
        return result.output

    def denied(self, *words: str) -> str:
        """The command ran, and its answer is no, or it did not come to its end."""
        result = self.type(*words)
        assert result.exit_code == 1, result.output
        return result.output

    def apply(self, *more: str) -> str:
        return self.said("apply", str(self.rig.file), *more)

    def arms(self) -> dict[str, str]:
        return {arm.name: arm.version for arm in self.plane.read().states[self.name].arms}

    def revision(self) -> int:
        return self.plane.read().states[self.name].revision
