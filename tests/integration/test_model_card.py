"""`penstock model show` with a real Kafka: where a version is deployed, by whom and why."""

from __future__ import annotations

import json
import secrets
from typing import Any

import pytest
from click.testing import CliRunner

from models.repository import Repository
from penstock.cli import main
from tests.audit_entries import arm, deployed, entry, publish
from tests.integration.events_stand import Stand
from tests.models import graphs

pytestmark = pytest.mark.timeout(240)


def test_the_card_tells_where_a_version_is_deployed_by_whom_and_why(
    stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = graphs.linear_bundle(name="flights", tags=["production"])
    url = str(stand.folder / "models")
    Repository(url).add(bundle)
    stand.change(
        [
            entry(1, "apply", after=deployed(1, arm(bundle.manifest.version)), who="ada", why="first model"),
            entry(2, "note", kind="model", after={"note": "drifts", "version": bundle.manifest.version}),
        ]
    )
    monkeypatch.setattr("penstock.audit.TOPIC", stand.audit)

    def show(*more: str, servers: str = stand.servers) -> str:
        words = ["model", "show", "flights@production", "--repository", url, "--bootstrap-servers", servers, *more]
        done = CliRunner().invoke(main, words)
        assert done.exit_code == 0, done.output
        return done.output

    assert "flights as active since 2026-01-01 00:01:00Z apply by ada (revision 1): first model" in show()
    assert "| flights | active | 2026-01-01 00:01:00Z | 1 | ada | first model |" in show("--markdown")
    facts: dict[str, Any] = json.loads(show("--json"))
    assert [note["text"] for note in facts["history"]["notes"]] == ["drifts"]

    away = json.loads(show("--json", servers="127.0.0.1:1"))
    assert away["history"] is None
    assert "no Kafka broker answers at 127.0.0.1:1" in away["not_known"][0]

    publish(stand.servers, stand.audit, [b"junk"])
    assert "1 records of" in show()
    monkeypatch.setattr("penstock.audit.TOPIC", f"absent.{secrets.token_hex(4)}")
    assert "deployed       none" in show()
