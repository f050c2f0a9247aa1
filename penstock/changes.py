"""What a change of control changed, in words: from the JSON that the audit tells of before and after."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from itertools import zip_longest
from typing import Any

from schemas.control import Entry

Facts = dict[str, str]
NOTHING: Mapping[str, Any] = {"arms": [], "declaration": {}, "paused": False}


def when(ms: int) -> str:
    """Return a time in ms since 1970 as UTC, to the second."""
    try:
        return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
    except (ValueError, OverflowError, OSError):
        return f"{ms} ms"  # a clock of another age


def short(version: str | None) -> str:
    """Return enough of a version's uuid for a person."""
    return (version or "none")[:8]


def lines(before: str | None, after: str | None) -> list[str]:
    """Return each fact that differs, one a line: `+` is new, `-` is gone, `~` has another value."""
    old, new = facts(before), facts(after)
    names = [name for name in dict.fromkeys([*new, *old]) if old.get(name) != new.get(name)]
    width = max(map(len, names), default=0)
    return [f"{_sign(old, new, name)} {name:<{width}}  {_told(old, new, name)}" for name in names]


def _sign(old: Facts, new: Facts, name: str) -> str:
    return "+" if name not in old else "-" if name not in new else "~"


def _told(old: Facts, new: Facts, name: str) -> str:
    return " -> ".join(each[name] for each in (old, new) if name in each)


def facts(told: str | None) -> Facts:
    """Return what the audit tells as names and values: `arms.active.version`, `limits.event_bytes`, ..."""
    if told is None:
        return {}
    try:
        content = json.loads(told)
        return _facts(content) if "declaration" in content else dict(_flat("", _named(content)))
    except (ValueError, KeyError, TypeError, AttributeError):
        return {"text": told}  # nothing that a writer of ours tells


def _named(content: dict[str, Any]) -> dict[str, Any]:
    """Return what a refusal tells with its arms by name."""
    return {**content, "arms": {arm["name"]: arm for arm in content["arms"]}} if "arms" in content else content


def _facts(content: Mapping[str, Any]) -> Facts:
    declaration = dict(content["declaration"])
    declared = declaration.pop("arms")  # without those of the fallback chain, which come last
    arms: Iterable[tuple[Any, Any]] = zip_longest(content["arms"], declared, fillvalue={})
    found = {name: value for arm, told in arms for name, value in _arm(arm, told)}
    found |= dict(_flat("", declaration))
    found |= dict(_schema(content["event_schema"]))
    return found | {"paused": json.dumps(content["paused"])}


def _arm(arm: Mapping[str, Any], declared: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    place = f"arms.{arm['name']}"
    for key in ("ref", "version", "digest"):
        yield f"{place}.{key}", str(arm[key])
    for key, value in declared.items():
        if key not in ("role", "model"):
            yield from _flat(f"{place}.{key}", value)


def _schema(schema: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for field in schema.get("fields", []):
        yield f"event_schema.{field['name']}", json.dumps({k: v for k, v in field.items() if k not in ("name", "doc")})
    rest = {key: value for key, value in schema.items() if key not in ("fields", "doc", "type")}
    yield from _flat("event_schema", rest)


def _flat(place: str, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from _flat(f"{place}.{key}" if place else str(key), inner)
    else:
        yield place, value if isinstance(value, str) else json.dumps(value)


def summary(entry: Entry) -> str:
    """Return in a few words what an entry changed."""
    try:
        told = _of_refusal(entry) if entry.action == "refused" else _of_change(entry)
        return "; ".join(told) or "nothing"
    except (ValueError, KeyError, TypeError, AttributeError):
        return "not readable"


def _of_change(entry: Entry) -> Iterator[str]:
    if entry.subject_kind == "decision":
        return iter([decision(json.loads(entry.after or ""))])
    return _of_state(entry.before, entry.after) if entry.subject_kind == "deployment" else _of_model(entry)


def decision(told: Mapping[str, Any]) -> str:
    """Return in a few words what a decision of the controller changes, or which one was answered."""
    if "number" in told:
        return f"decision {told['number']}"
    kind, arm = told["kind"], told["arm"]
    if kind == "step":
        return f"{arm} {told['before']:g} % -> {told['to']:g} %"
    if kind == "reweigh":
        shares = {**told["evidence"]["shares"], "active": told["to"]}
        return ", ".join(f"{name} {percent:g} %" for name, percent in sorted(shares.items()))
    words = {"promote": f"{arm} becomes active", "withdraw": f"{arm} goes", "rollback": "back to the version before"}
    return words.get(kind, str(kind))


def _of_refusal(entry: Entry) -> Iterator[str]:
    told = json.loads(entry.after or "")
    yield f"revision {told['revision']} not taken"
    yield from (f"{arm['name']} {short(arm['version'])}" for arm in told["arms"])


def _of_model(entry: Entry) -> Iterator[str]:
    old, new = (json.loads(told) if told else {} for told in (entry.before, entry.after))
    if entry.action in ("register", "remove"):
        yield f"{short((new or old).get('version'))} {'added' if new else 'removed'}"
    elif entry.action == "finish":
        yield f"made {new['model']} {short(new.get('version'))}" if new.get("model") else "made no version"
    elif "note" in new:
        yield f"{short(new.get('version'))}: {new['note']}"
    elif "tag" in new:
        yield f"{new['tag']} {short(old.get('version'))} -> {short(new.get('version'))}"
    else:
        yield from (line[2:] for line in lines(entry.before, entry.after))


def _arms(state: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    declared = state["declaration"].get("arms", [])
    pairs: Iterable[tuple[Any, Any]] = zip_longest(state["arms"], declared, fillvalue={})
    return {arm["name"]: {**declared, **arm} for arm, declared in pairs}


def _share(arm: Mapping[str, Any]) -> str:
    return f"{arm['weight']:g} %" if arm.get("weight") is not None else ""


def _of_state(before: str | None, after: str | None) -> Iterator[str]:
    if after is None:
        yield "removed"
    old, new = (json.loads(told) if told else NOTHING for told in (before, after))
    were, are = _arms(old), _arms(new)
    for name in dict.fromkeys([*are, *were]):
        was, now = (short(arms[name]["version"]) if name in arms else "none" for arms in (were, are))
        shares = [_share(arms.get(name, {})) for arms in (were, are)]
        if was != now:
            yield f"{name} {was} -> {now}" + (f" at {shares[1]}" if shares[1] and shares[0] != shares[1] else "")
        elif shares[0] != shares[1]:
            yield f"{name} {shares[0] or 'the rest'} -> {shares[1] or 'the rest'}"
        elif were[name] != are[name]:
            keys = [key for key in {**were[name], **are[name]} if were[name].get(key) != are[name].get(key)]
            yield f"{name} otherwise: {', '.join(keys)}"
    if before is None or after is None:
        return
    if old["paused"] != new["paused"]:
        yield "paused" if new["paused"] else "goes on"
    keys = [key for key in dict.fromkeys([*new["declaration"], *old["declaration"]]) if key != "arms"]
    yield from (key for key in keys if old["declaration"].get(key) != new["declaration"].get(key))
    if old["event_schema"] != new["event_schema"]:
        yield "event schema"


def printable(text: str) -> str:
    """Return text on one line, without what a terminal would take for commands: others wrote it."""
    return "".join(char if char.isprintable() else " " for char in text)
