"""Entries of the audit: read from their records, and drafted for what models bring about."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from models.repository import Entry
from penstock import audit
from penstock.cloudevents import event_of, type_of
from penstock.history import history_of
from schemas.errors import RecordInvalid
from tests.audit_entries import SCHEMA, applied, encode, entry, install
from tests.models import graphs


@pytest.fixture(autouse=True)
def _known_schema(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch.setattr)


def test_an_entry_comes_back_from_its_record() -> None:
    signed = replace(applied(1)[0], signature=b"\x00\xff", signer="ada", revision_before=None)
    assert audit.decode(encode(signed)) == signed
    assert {field["name"] for field in SCHEMA["fields"]} == set(audit.Recorded.__dataclass_fields__)


@pytest.mark.parametrize("spoil", [lambda data: data[:-1], lambda data: data + b"0", lambda data: b"x" + data[1:]])
def test_what_is_no_record_of_the_audit_is_refused(spoil: Any) -> None:
    with pytest.raises(RecordInvalid):
        audit.decode(spoil(encode(applied(1)[0])))
    with pytest.raises(RecordInvalid):
        audit.decode(None)


def test_a_state_is_a_json_object_or_nothing() -> None:
    assert audit.state(None) is None
    assert audit.state("null") is None
    assert audit.state('{"a": 1}') == {"a": 1}
    for text in ("[]", "1", "{", '{"a": Infinity}'):
        with pytest.raises(ValueError, match=r"JSON|Expecting"):
            audit.state(text)


def written(draft: audit.Draft, sequence: int) -> audit.Recorded:
    """What a writer of the audit makes of a draft."""
    return entry(sequence, draft.action, draft.subject, kind=draft.subject_kind, before=draft.before, after=draft.after)


def test_a_registered_version_says_of_what_it_was_made_and_how_good_it_is() -> None:
    bundle = graphs.linear_bundle(author="Ada", metrics={"auc": 0.7}, training={"data": "flights", "run_id": "run-7"})
    draft = audit.registered(Entry(bundle.manifest, bundle.digest, {}, ("candidate",)), "weekly")
    said = json.loads(draft.after or "")
    assert (said["version"], said["digest"], said["author"]) == (bundle.manifest.version, bundle.digest, "Ada")
    assert (said["training"]["run_id"], said["metrics"], said["tags"]) == ("run-7", {"auc": 0.7}, ["candidate"])
    made = written(draft, 1)
    assert event_of(made, "/penstock/x").type == "io.penstock.model.registered"
    assert len(history_of([made]).of("linear", bundle.manifest.version).registered) == 1


def test_a_finished_experiment_says_what_it_found_and_which_version_it_made() -> None:
    draft = audit.experiment_finished("run-7", {"auc": 0.7}, model="flights", version="v")
    assert json.loads(draft.after or "") == {
        "run_id": "run-7",
        "metrics": {"auc": 0.7},
        "model": "flights",
        "version": "v",
    }
    assert type_of(draft.subject_kind, draft.action) == "io.penstock.experiment.finished"
    assert event_of(written(draft, 1), "/penstock/x").subject == "run-7"
    assert json.loads(audit.experiment_finished("run-8", {}).after or "")["version"] is None
