"""The chain of the audit: each entry holds the hash of the one before, so that an edit or a cut shows.

The hash is the sha256, in hexadecimal digits, of the entry as canonical JSON (RFC 8785: strings, integers and nulls)
without the hash itself, the signature and its signer.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from schemas.control import Entry, Head, State, canonical

UNHASHED = ("hash", "signature", "signer")
Kind = Literal[
    "edited", "missing", "cut_begin", "cut_end", "forked", "repeated", "head", "state", "unreadable", "other"
]


@dataclass(frozen=True, slots=True)
class Finding:
    """What is wrong with the audit, at which entry; the text says it whole."""

    sequence: int
    kind: Kind
    text: str


def hash_of(entry: Entry) -> str:
    """Return the hash that an entry must have."""
    hashed = {name: value for name, value in asdict(entry).items() if name not in UNHASHED}
    return hashlib.sha256(canonical(hashed).encode()).hexdigest()


def chained(head: Head, **fields: Any) -> Entry:
    """Return the entry that follows `head`; fields: those of Entry but its sequence, previous and hash."""
    entry = Entry(sequence=head.sequence + 1, previous=head.hash, **fields)
    return replace(entry, hash=hash_of(entry))


def head_of(entry: Entry) -> Head:
    """Return the head of a chain that ends with this entry."""
    return Head(entry.sequence, entry.hash)


def verify_chain(entries: Sequence[Entry], head: Head, states: Iterable[State] = ()) -> list[Finding]:
    """Return what is wrong with a whole audit, in the order of its records; nothing for one that is whole.

    head: as the control topic has it, NO_HEAD where it has none. states: those of the control topic.
    """
    return [*_links(entries), *_end(entries, head), *_revisions(entries), *_states(entries, states)]


def verify_end(entries: Sequence[Entry], head: Head) -> list[Finding]:
    """Return why nothing may be written behind these entries, the last ones of an audit."""
    begin = {"cut_begin"} if entries and entries[0].sequence > 1 else set()
    found = [*_links(entries), *_end(entries, head)]
    return [finding for finding in found if finding.kind not in begin]


def contains(entries: Sequence[Entry], known: Head) -> list[Finding]:
    """Return why an audit is not the one in which somebody saw this entry: its end was written anew."""
    there = {entry.hash for entry in entries if entry.sequence == known.sequence}
    if known.hash in there:
        return []
    what = f"is not there, but one with {', '.join(sorted(there))}" if there else "is not there"
    return [Finding(known.sequence, "other", f"entry {known.sequence} with the hash {known.hash} {what}")]


def _links(entries: Sequence[Entry]) -> Iterator[Finding]:
    known: dict[int, list[str]] = {}
    for entry in entries:
        number = entry.sequence
        if hash_of(entry) != entry.hash:
            yield Finding(number, "edited", f"entry {number} was edited: its hash is not that of its content")
        yield from _link(entry, known)
        known.setdefault(number, []).append(entry.hash)


def _link(entry: Entry, known: dict[int, list[str]]) -> Iterator[Finding]:
    number = entry.sequence
    if entry.hash in known.get(number, []):
        yield Finding(number, "repeated", f"entry {number} is there twice")
        return
    if number in known:
        yield Finding(number, "forked", f"the chain is forked: there is more than one entry {number}")
    parents = known.get(number - 1, [])
    if number == 1:
        if entry.previous:
            yield Finding(1, "edited", "entry 1 names an entry before it: the first one was replaced")
    elif not parents:
        below = max((each for each in known if each < number), default=0)
        gap = f"entry {number - 1} is" if below == number - 2 else f"entries {below + 1} to {number - 1} are"
        if known:
            yield Finding(below + 1, "missing", f"{gap} missing from the middle")
        else:
            yield Finding(1, "cut_begin", f"{gap} missing: the beginning was cut off")
    elif entry.previous not in parents:
        yield Finding(
            number, "edited", f"entry {number} does not follow entry {number - 1}: one of them was replaced or edited"
        )


def _end(entries: Sequence[Entry], head: Head) -> Iterator[Finding]:
    last = max((entry.sequence for entry in entries), default=0)
    if head.sequence > last:
        gap = f"entry {last + 1} is" if head.sequence == last + 1 else f"entries {last + 1} to {head.sequence} are"
        yield Finding(last + 1, "cut_end", f"{gap} missing: the end was cut off, for the head names {head.sequence}")
    elif head.sequence < last:
        names = f"names entry {head.sequence}" if head.sequence else "is missing"
        yield Finding(last, "head", f"the head of the control topic {names}, but the audit goes on to entry {last}")
    elif last and head.hash not in {entry.hash for entry in entries if entry.sequence == last}:
        yield Finding(last, "head", f"entry {last} is not the one that the head of the control topic names")


def _revisions(entries: Sequence[Entry]) -> Iterator[Finding]:
    """Each change must begin where the one before it ended: a lost update shows here.

    A removal takes no number, and what comes after it counts on.
    """
    latest: dict[str, Entry] = {}
    counted: dict[str, int] = {}
    for entry in entries:
        if not entry.changes_state:
            continue
        before = latest.get(entry.subject)
        latest[entry.subject] = entry
        last = counted.get(entry.subject, 0)
        counted[entry.subject] = entry.revision_after or entry.revision_before or last
        whole = before is not None or entries[0].sequence == 1
        if not whole:
            continue
        was = before.revision_after if before else None
        if entry.revision_before != was or entry.before != (before.after if before else None):
            yield Finding(
                entry.sequence,
                "state",
                f"entry {entry.sequence} changes {entry.subject} from revision {entry.revision_before or 'none'}, but "
                f"what stood before it was {was or 'none'}: an update was lost",
            )
        elif entry.revision_after is not None and entry.revision_after != last + 1:
            made = f"makes revision {entry.revision_after} of {entry.subject} after {last or 'none'}"
            yield Finding(entry.sequence, "state", f"entry {entry.sequence} {made}")


def _states(entries: Sequence[Entry], states: Iterable[State]) -> Iterator[Finding]:
    latest = {entry.subject: entry for entry in entries if entry.changes_state}
    for state in states:
        entry = latest.pop(state.deployment, None)
        name, number = state.deployment, state.audit_sequence
        if entry is None or entry.sequence < number:
            yield Finding(number, "state", f"{name}: the control topic names entry {number}, which the audit lacks")
        elif (entry.sequence, entry.hash) != (number, state.audit_hash):
            yield Finding(
                entry.sequence,
                "state",
                f"{name}: entry {entry.sequence} changed it last, but the control topic has that of entry {number}",
            )
        elif (entry.revision_after, entry.after) != (state.revision, state.told()):
            yield Finding(number, "state", f"{name}: the control topic holds another state than entry {number} tells")
    for name, entry in latest.items():
        if entry.revision_after is None:
            continue  # removed
        yield Finding(
            entry.sequence, "state", f"{name}: entry {entry.sequence} made a state that the control topic does not hold"
        )
