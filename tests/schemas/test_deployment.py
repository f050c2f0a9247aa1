"""What a declaration says: sizes with units, and which of its states are told apart."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from schemas.deployment import Deployment

SCHEMA = {"type": "record", "name": "E", "fields": [{"name": "a", "type": "double"}]}


def declared(**limits: Any) -> Deployment:
    return Deployment.model_validate(
        {
            "name": "d",
            "input": {"topic": "e", "schema": "event.avsc"},
            "output": {"topic": "i"},
            "arms": [{"role": "active", "model": "m@production"}],
            "limits": limits,
        }
    )


@pytest.mark.parametrize(("text", "size"), [("512MiB", 512 << 20), ("2GiB", 2 << 30), ("2GB", 2 * 10**9), (7, 7)])
def test_memory_is_a_number_of_bytes_or_a_size(text: object, size: int) -> None:
    assert declared(model_memory=text).limits.model_memory == size


@pytest.mark.parametrize("text", ["a lot", "2TiB", "-1", 0, None])
def test_what_is_no_size_is_refused(text: object) -> None:
    with pytest.raises(ValidationError, match="model_memory"):
        declared(model_memory=text)


def test_a_limit_on_memory_is_no_new_revision_because_it_changes_no_inference() -> None:
    assert declared(model_memory="2GiB").revision(SCHEMA) == declared().revision(SCHEMA) == REVISION
    assert declared(model_seconds=2.0).revision(SCHEMA) != REVISION


REVISION = 1_645_545_870  # of this declaration, in inferences that were made before the limit existed
