"""Model cards: the order of sections, what is known, what is not, and what a version went through."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any

import polars as pl
import pytest

from models.manifest import Card
from models.reference import Reference
from models.repository import Entry
from models.summary import summary_of
from penstock.card import NAMES, Known, card, facts
from penstock.history import History, history_of
from penstock.pages import markdown, text
from tests.audit_entries import NEW, OLD, arm, deployed, entry
from tests.models import graphs
from tests.penstock.test_pages import cells

STATED = {
    "intended_use": "Tell passengers that they will be late.\n\nNot for crews.",
    "limitations": "Trained on one winter.",
    "ethical_notes": "Nothing about people is read.",
    "owners": ["Delays team"],
    "license": "Apache-2.0",
    "references": ["Mitchell et al. 2019"],
}
PROOF = {
    "determinism": {"bitwise": True, "tolerance": 0.0, "rows": 512, "rounds": 8},
    "onnxruntime": "1.31.0",
    "cpu": "a cpu",
}


def an_entry(**manifest: Any) -> Entry:
    content = {
        "version": OLD,
        "name": "flights",
        "author": "Ada",
        "description": "Will it be late?",
        "framework": "scikit-learn",
        "libraries": {"numpy": "2.3"},
        "metrics": {"auc": 0.7, "f1": 0.5},
        "training": {"data": "flights of 2013", "data_sha256": "ab" * 32, "run_id": "run-7", "parameters": {"C": 1.0}},
        "card": STATED,
        **manifest,
    }
    bundle = graphs.linear_bundle(**content)
    return Entry(bundle.manifest, bundle.digest, PROOF, ("production",), "2026-01-01T00:00:00+00:00")


def known(*entries: Any, **more: Any) -> Known:
    history = history_of(entries).of("flights", OLD)
    return Known(**{"entry": an_entry(), "history": history, **more})


BOTH = deployed(1, arm(OLD))
LIFE = (
    entry(1, "register", kind="model", after={"version": OLD}, who="trainer"),
    entry(2, "tag", kind="model", after={"model": "flights", "tag": "production", "version": OLD}),
    entry(3, "apply", after=BOTH, why="first | best"),
    entry(4, "note", kind="model", after={"note": "drifts in spring", "version": OLD}, who="grace"),
    entry(5, "apply", before=BOTH, after=deployed(2, arm(NEW)), why="better"),
    entry(
        6, "rollback", before=deployed(2, arm(NEW)), after=deployed(3, arm(OLD, weight=5.0)), who="ops", why="alerts"
    ),
    entry(7, "refused", "delays", after=deployed(1, arm(OLD), deployment="delays"), who="worker", why="no memory"),
)


def test_the_sections_have_the_order_of_model_cards() -> None:
    titles = re.findall(r"(?m)^## (.*)$", markdown(card(known(*LIFE))))
    assert titles == [
        "Model details",
        "Intended use",
        "Metrics",
        "Training data",
        "Inputs and outputs",
        "Reference profile",
        "Determinism",
        "Operators and size",
        "Ethical considerations",
        "Limitations",
        "Deployments",
        "Notes and tags",
    ]


def test_every_fact_is_in_text_and_in_markdown() -> None:
    one = known(*LIFE)
    for page in (text(card(one)), markdown(card(one)).replace("\\", "")):
        for fact in (
            f"flights@{OLD}",
            one.entry.digest,
            "Ada",
            "scikit-learn, numpy 2.3",
            "Will it be late?",
            "Delays team",
            "Apache-2.0",
            "Mitchell et al. 2019",
            "Not for crews.",
            "Trained on one winter.",
            "Nothing about people is read.",
            "flights of 2013",
            "ab" * 32,
            "run-7",
            "bitwise, over 512 rows in 8 random splits and orders (onnxruntime 1.31.0, a cpu)",
            "drifts in spring",
            "better",
            "no memory",
            "trainer",
        ):
            assert fact in page, (fact, page)


def test_tables_tell_where_it_is_and_was_deployed_by_whom_and_why() -> None:
    rows = cells(markdown(card(known(*LIFE))))
    assert ["flights", "active 5 %", "2026-01-01 00:06:00Z", "3", "ops", "alerts"] in rows
    began = ["2026-01-01 00:03:00Z", "ada", "apply: first | best"]
    assert ["flights", "active", *began, "2026-01-01 00:05:00Z", "ada", "apply: better"] in rows
    assert ["delays", "2026-01-01 00:07:00Z", "worker", "no memory"] in rows
    assert ["production", "2026-01-01 00:02:00Z", "now", "ada"] in rows
    assert ["2026-01-01 00:04:00Z", "grace", "drifts in spring"] in rows


def test_text_tells_the_same_in_lines() -> None:
    lines = text(card(known(*LIFE))).splitlines()
    now = "flights as active 5 % since 2026-01-01 00:06:00Z rollback by ops (revision 3): alerts"
    assert [line.partition("  ")[2].strip() for line in lines if line.startswith("deployed")] == [now]
    (was,) = [line for line in lines if line.startswith("was deployed")]
    assert was.endswith(
        "from 2026-01-01 00:03:00Z apply by ada (revision 1): first | best, "
        "until 2026-01-01 00:05:00Z apply by ada (revision 2): better"
    )


def test_what_nobody_stated_is_said() -> None:
    page = markdown(card(known(entry=an_entry(card={}, training={}, metrics={}))))
    for title in ("Intended use", "Ethical considerations", "Limitations"):
        assert f"## {title}\n\nnot stated\n" in page
    assert ["owners", "not stated"] in cells(page)
    assert ["training", "not recorded"] in cells(page)
    assert "Metric: none" in page
    assert "Deployed: none" in page


def test_without_a_broker_it_says_that_deployments_are_not_known_and_why() -> None:
    one = Known(an_entry(), None, "no Kafka broker is known")
    assert ["deployed", "not known: no Kafka broker is known"] in cells(markdown(card(one)))
    assert "none" not in [line.partition("  ")[2].strip() for line in text(card(one)).splitlines() if "deploy" in line]
    assert (facts(one)["history"], facts(one)["not_known"]) == (None, ["no Kafka broker is known"])
    assert facts(known(*LIFE))["not_known"] == []


def test_entries_that_were_not_understood_are_said() -> None:
    page = text(card(known(*LIFE, entry(8, "apply", after="{"))))
    assert "entries 8 of the audit are not understood" in page
    assert "not understood" not in text(card(known(*LIFE)))


def test_many_parameters_are_folded_and_long_values_cut() -> None:
    parameters = {f"p{number}": number for number in range(500)} | {"nested": {"a": ["x" * 1000]}, "none": None}
    one = known(entry=an_entry(training={"parameters": parameters}))
    page = markdown(card(one))
    assert "<details><summary>502 parameters</summary>" in page
    assert ["p499", "499"] in cells(page)
    assert max(map(len, page.splitlines())) < 500
    assert "and 490 more" in text(card(one))
    assert facts(one)["manifest"]["training"]["parameters"] == parameters


def test_many_features_are_counted() -> None:
    names = [f"f{number}" for number in range(60)]
    model = graphs.linear(60)
    page = text(card(known(entry=an_entry(model=model, features=names))))
    assert f"f{NAMES - 1} and {60 - NAMES} more" in page


def test_a_reference_is_told_in_words_with_the_rows_it_was_made_of() -> None:
    frame = pl.DataFrame({"a": [float(n) for n in range(100)], "carrier": ["UA"] * 60 + ["B6"] * 30 + [None] * 10})
    reference = Reference.from_frame(frame)
    page = text(card(known(columns=summary_of(reference), rows=reference.tally.rows)))
    assert re.search(r"data rows +100 \(of the reference profile\)", page)
    assert "feature carrier: UA 66.7%, B6 33.3%; 10.0% missing" in page
    assert re.search(r"feature a: 90 % in \S+ \.\. \S+, median in .*; 0.0% missing", page)


def test_a_reference_that_cannot_be_read_is_not_known() -> None:
    one = known(columns=None, why_no_columns="the bundle was altered")
    assert "not known: the bundle was altered" in text(card(one))
    assert facts(one)["reference"] is None


def test_a_manifest_that_means_harm_breaks_no_table() -> None:
    hostile = "x | y <script> \x1b[2J\n| --- |"
    stated = {**STATED, "owners": [hostile], "intended_use": hostile}
    content = {"author": hostile, "description": hostile, "metrics": {hostile: 1.0}, "libraries": {hostile: hostile}}
    plain, wild = (markdown(card(known(*LIFE, entry=each))) for each in (an_entry(), an_entry(card=stated, **content)))
    assert "\x1b" not in wild
    assert "<script" not in wild.replace("\\<", "")
    assert len(cells(wild)) == len(cells(plain)) - 1  # one metric instead of two
    assert {len(row) for row in cells(wild)} == {len(row) for row in cells(plain)}


def test_facts_are_json_with_all_that_is_known() -> None:
    found = json.loads(json.dumps(facts(known(*LIFE))))
    assert found["manifest"]["card"] == STATED
    assert [each["since"]["who"] for each in found["history"]["deployed"]] == ["ada", "ops"]
    assert found["name"] == "flights"


def test_a_card_is_optional_strict_and_absent_from_manifests_without_one() -> None:
    from models.bundle import Bundle
    from models.errors import BundleInvalid

    bare = an_entry(card={}).manifest
    assert bare.card == Card()
    assert b'"card"' not in bare.to_json()
    assert Bundle.build(name="m", model=graphs.linear(), features=["a", "b", "c"], card=STATED).manifest.card == Card(
        **STATED
    )
    with pytest.raises(BundleInvalid, match=r"card\.intended: Extra inputs"):
        an_entry(card={"intended": "x"})


def test_nothing_is_told_of_another_version() -> None:
    other = replace(known(), history=history_of(LIFE).of("flights", NEW))
    page = text(card(other))
    assert "flights as active from" in page
    assert "drifts in spring" not in page
    assert History() != other.history
