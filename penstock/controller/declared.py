"""Policies as files."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from penstock.config import read_yaml
from schemas.errors import DeploymentInvalid
from schemas.policy import Policy
from schemas.problems import problems_of


def load_policy(path: str | Path) -> Policy:
    """Read a policy's YAML file. Raises DeploymentInvalid that lists every problem with its place."""
    declared = read_yaml(Path(path), "deployment, steps, outcome, promotion and rollback")
    try:
        return Policy.model_validate(declared)
    except ValidationError as error:
        raise DeploymentInvalid([f"{path}: {said}" for said in problems_of(error, Policy)]) from None
