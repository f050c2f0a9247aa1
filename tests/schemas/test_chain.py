"""The chain of the audit: whole ones pass, and every way to falsify one is found and named."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from schemas.chain import chained, contains, hash_of, head_of, verify_chain, verify_end
from schemas.control import NO_HEAD, Entry, Head, State, canonical
from tests.schemas.test_control import state

ROOT = Path(__file__).resolve().parents[2]
Chain = list[Entry]


def follow(head: Head, **fields: Any) -> Entry:
    given = {"who": "Ada", "host": "here", "action": "note", "why": "", "subject_kind": "model", "subject": "flights"}
    return chained(head, **{"id": f"id {head.sequence + 1}", "at_ms": 1000 + head.sequence, **given, **fields})


def chain(length: int = 6) -> Chain:
    entries: Chain = []
    for _ in range(length):
        entries.append(follow(head_of(entries[-1]) if entries else NO_HEAD))
    return entries


def applied(entries: Chain, new: State, old: State | None = None, **more: Any) -> State:
    """Add the entry that makes a state, and return the state as the control topic holds it."""
    entry = follow(
        head_of(entries[-1]) if entries else NO_HEAD,
        action="apply",
        subject_kind="deployment",
        subject=new.deployment,
        revision_before=old.revision if old else None,
        revision_after=new.revision,
        before=old.told() if old else None,
        after=new.told(),
        **more,
    )
    entries.append(entry)
    return replace(new, audit_sequence=entry.sequence, audit_hash=entry.hash)


def resealed(entry: Entry, **changes: Any) -> Entry:
    """Edit an entry and make its hash anew."""
    edited = replace(entry, **changes)
    return replace(edited, hash=hash_of(edited))


def rehashed(entries: Chain, place: int, **changes: Any) -> Chain:
    """Edit an entry and make all hashes from there on anew, as one who knows how would."""
    kept, head = entries[:place], head_of(entries[place - 1]) if place else NO_HEAD
    for number, entry in enumerate(entries[place:]):
        kept.append(resealed(entry, **(changes if number == 0 else {}), previous=head.hash))
        head = head_of(kept[-1])
    return kept


def found(entries: Chain, head: Head | None = None, states: tuple[State, ...] = ()) -> list[tuple[int, str]]:
    whole = verify_chain(entries, head if head is not None else head_of(entries[-1]), states)
    assert all(str(finding.sequence) in finding.text for finding in whole)
    return [(finding.sequence, finding.kind) for finding in whole]


def test_a_whole_chain_has_no_finding() -> None:
    assert found(chain()) == []
    assert found([], NO_HEAD) == []


def test_the_hash_is_that_of_the_document_that_another_language_would_write() -> None:
    entry = follow(Head(4, "ab"), why="é")
    text = (
        '{"action":"note","after":null,"at_ms":1004,"before":null,"host":"here","id":"id 5","previous":"ab",'
        '"revision_after":null,"revision_before":null,"sequence":5,"subject":"flights","subject_kind":"model",'
        '"who":"Ada","why":"é"}'
    )
    assert json.loads(text)["why"] == "é"
    assert entry.hash == hashlib.sha256(text.encode()).hexdigest()


def test_the_example_of_the_rollout_page_has_the_hash_that_it_says() -> None:
    page = (ROOT / "docs" / "rollout.md").read_text(encoding="utf-8")
    (line,) = re.findall(r"```json\n(.*)\n```", page)
    (told,) = re.findall(r"its hash is `([0-9a-f]{64})`", page)
    entry = Entry(**json.loads(line))
    assert canonical(json.loads(line)) == line
    assert hash_of(entry) == hashlib.sha256(line.encode()).hexdigest() == told


def test_a_signature_does_not_change_the_hash() -> None:
    entry = chain(1)[0]
    assert hash_of(replace(entry, signature=b"s", signer="Ada")) == entry.hash


@pytest.mark.parametrize(
    "field",
    ["id", "at_ms", "who", "host", "action", "why", "subject_kind", "subject", "revision_after", "before", "after"],
)
def test_an_edit_of_any_field_is_found(field: str) -> None:
    entries = chain()
    value = 7 if field in ("at_ms", "revision_after") else "other"
    entries[2] = replace(entries[2], **{field: value})
    assert (3, "edited") in found(entries)


@pytest.mark.parametrize(
    ("spoil", "finding"),
    [
        (lambda c: c[1:], (1, "cut_begin")),
        (lambda c: c[3:], (1, "cut_begin")),
        (lambda c: c[:2] + c[3:], (3, "missing")),
        (lambda c: c[:2] + c[5:], (3, "missing")),
        (lambda c: c[:-1], (6, "cut_end")),
        (lambda c: c[:-4], (3, "cut_end")),
        (lambda c: [], (1, "cut_end")),
        (lambda c: [*c, c[-1]], (6, "repeated")),
        (lambda c: [*c, follow(head_of(c[3]), who="Eve")], (5, "forked")),
        (lambda c: [*c[:4], follow(head_of(c[3]), who="Eve"), *c[4:]], (5, "forked")),
        (lambda c: [*c, follow(head_of(c[5]), who="Eve")], (7, "head")),
        (lambda c: [*c[:5], follow(head_of(c[4]), who="Eve")], (6, "head")),
        (lambda c: [*c[:2], resealed(c[2], who="Eve"), *c[3:]], (4, "edited")),
        (lambda c: rehashed(c, 2, who="Eve"), (6, "head")),
        (lambda c: [replace(c[0], previous="ab"), *c[1:]], (1, "edited")),
    ],
)
def test_every_way_to_falsify_a_chain_is_found(spoil: Callable[[Chain], Chain], finding: tuple[int, str]) -> None:
    entries = chain()
    assert finding in found(spoil(entries), head_of(entries[-1]))


def test_a_head_that_was_removed_is_found() -> None:
    assert found(chain(), NO_HEAD) == [(6, "head")]


def test_a_gap_is_found_once_and_what_follows_it_is_still_checked() -> None:
    entries = chain()
    spoilt = [*entries[:2], *entries[3:5], replace(entries[5], who="Eve")]
    assert found(spoilt, head_of(entries[-1])) == [(3, "missing"), (6, "edited")]


def test_an_audit_that_was_written_anew_lacks_an_entry_that_was_seen() -> None:
    entries = chain()
    anew = rehashed(entries, 1, who="Eve")
    assert found(anew) == []
    assert contains(entries, head_of(entries[3])) == []
    assert [finding.kind for finding in contains(anew, head_of(entries[3]))] == ["other"]
    assert [finding.kind for finding in contains(entries[:2], head_of(entries[3]))] == ["other"]


def test_states_are_what_their_entries_tell() -> None:
    entries = chain(2)
    first = applied(entries, state(1))
    second = applied(entries, state(2, "v2"), first)
    assert found(entries, states=(second,)) == []
    assert (4, "state") in found(entries, states=(first,))
    assert (4, "state") in found(entries, states=())
    assert (4, "state") in found(entries, states=(replace(second, paused=True),))
    assert (4, "state") in found(entries, states=(replace(second, audit_hash="ab"),))
    assert (9, "state") in found(entries, states=(replace(second, audit_sequence=9),))


def test_an_update_that_was_lost_is_found() -> None:
    entries: Chain = []
    first = applied(entries, state(1))
    applied(entries, state(2, "v2"), first)
    third = applied(entries, state(2, "v3"), first)  # decided on the first one, too
    assert (3, "state") in found(entries, states=(third,))


def test_revisions_count_without_gaps() -> None:
    entries: Chain = []
    first = applied(entries, state(1))
    third = applied(entries, state(3, "v2"), first)
    assert found(entries, states=(third,)) == [(2, "state")]


def test_states_before_a_beginning_that_was_cut_off_are_not_called_lost() -> None:
    entries: Chain = []
    first = applied(entries, state(1))
    second = applied(entries, state(2, "v2"), first)
    assert found(entries[1:], states=(second,)) == [(1, "cut_begin")]


def removed(entries: Chain, old: State) -> None:
    """Add the entry that removes a deployment."""
    told = {"revision_before": old.revision, "before": old.told(), "subject": old.deployment}
    entries.append(follow(head_of(entries[-1]), action="remove", subject_kind="deployment", **told))


def test_a_deployment_that_was_removed_has_no_state_and_goes_on_counting() -> None:
    entries: Chain = []
    first = applied(entries, state(1))
    removed(entries, first)
    assert found(entries) == []
    assert (2, "state") in found(entries, states=(first,))  # the control topic has it still
    again = applied(entries, state(2))
    assert found(entries, states=(again,)) == []
    assert found(entries[1:], states=(again,)) == [(1, "cut_begin")]


@pytest.mark.parametrize("revision", [1, 3])
def test_a_deployment_that_begins_again_at_another_revision_is_found(revision: int) -> None:
    entries: Chain = []
    removed(entries, applied(entries, state(1)))
    again = applied(entries, state(revision))
    assert found(entries, states=(again,)) == [(3, "state")]


def test_a_removal_of_another_state_than_the_last_is_found() -> None:
    entries: Chain = []
    first = applied(entries, state(1))
    applied(entries, state(2, "v2"), first)
    removed(entries, first)
    assert found(entries) == [(3, "state")]


def test_a_refusal_that_workers_tell_of_changes_no_state() -> None:
    entries: Chain = []
    first = applied(entries, state(1))
    entries.append(follow(head_of(entries[-1]), action="refused", subject_kind="deployment"))
    assert found(entries, states=(first,)) == []


def test_the_end_of_an_audit_is_enough_to_write_onto() -> None:
    entries = chain()
    assert verify_end(entries[3:], head_of(entries[-1])) == []
    assert verify_end([], NO_HEAD) == []
    for spoilt in (entries[3:5], [*entries[3:], follow(head_of(entries[3]))], [], [*entries[2:4], entries[5]]):
        assert verify_end(spoilt, head_of(entries[-1]))
