"""How a command that runs for long ends when it cannot go on: who supervises decides by the status."""

from __future__ import annotations

import pytest

from penstock.cli.common import refusals
from penstock.supervisor import FENCED, OUTGROWN, REFUSED
from schemas.errors import Explained
from streams.errors import Fenced, Outgrown, Refused


@pytest.mark.parametrize(("error", "status"), [(Refused, REFUSED), (Fenced, FENCED), (Outgrown, OUTGROWN)])
def test_each_kind_of_end_has_its_status_and_its_words(
    error: type[Explained], status: int, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended, refusals():
        raise error("what to do")
    assert ended.value.code == status
    assert capsys.readouterr().err == "Error: what to do\n"
