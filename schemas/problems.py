"""What pydantic finds wrong in a declaration, in its writer's words: the place, what is asked for, what is there."""

from __future__ import annotations

import difflib
import re
import types
import typing
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from pydantic import BaseModel, ValidationError

from schemas.declared import TOPIC
from schemas.deployment import ARM, MODEL, NAME, REFERENCE
from schemas.labels import NAME as METRIC

PATTERNS = {
    MODEL: "must be NAME@TAG or NAME@VERSION",
    TOPIC: "must be the name of a topic: letters, digits, '.', '_' and '-', 249 at most",
    ARM: "must begin with a lower-case letter or a digit, and go on with these, '_' and '-', 50 at most",
    NAME: "must be letters, digits, '.', '_' and '-', 100 at most",
    METRIC: "must begin with a letter or '_', and go on with these and digits, 60 at most",
    REFERENCE: "must be bundle, or rolling with 1 to 28 days: rolling 7d",
}
UNSHOWN = ("extra_forbidden", "missing")  # what is there says nothing
KEY = "[key]"  # so pydantic ends the place of a key that is wrong itself
WORDS = {
    "greater_than": "must be above {gt:g}",
    "greater_than_equal": "must be {ge:g} or more",
    "less_than": "must be below {lt:g}",
    "less_than_equal": "must be {le:g} or less",
    "finite_number": "must be a finite number",
    "float_type": "must be a number",
    "float_parsing": "must be a number, without a unit",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number, without a unit",
    "int_from_float": "must be a whole number",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "string_type": "must be text; put it into quotes",
    "list_type": "must be a list: write [ ] around it",
    "dict_type": "must be keys with their values",
    "model_type": "must be keys with their values",
    "too_short": "must have {min_length} or more",
    "too_long": "must have {max_length} at most",
}


class _Place(NamedTuple):
    """Where a finding is: its keys and numbers, as in the file. model: what is declared there, None: nobody knows.

    is_way: it is about one of several ways in which the value there may be written, as a whole.
    """

    parts: tuple[int | str, ...]
    model: Any
    is_way: bool = False

    def __str__(self) -> str:
        counted = any(isinstance(part, int) for part in self.parts)
        return ".".join(map(str, self.parts)) + (" (counted from 0)" if counted else "")


def problems_of(error: ValidationError, root: type[BaseModel]) -> Iterator[str]:
    """Yield a line for each place that is wrong. Of a value that may be written in several ways all are told.

    Where one of them fits as a whole, and something within it is wrong, only that is told.
    """
    found = [(_place(finding["loc"], root), finding) for finding in error.errors()]
    told: dict[str, list[str]] = {}
    shown: dict[str, str] = {}
    for place, finding in found:
        size = len(place.parts)
        if place.is_way and any(other.parts[:size] == place.parts and len(other.parts) > size for other, _ in found):
            continue
        said = told.setdefault(str(place), [])
        if (message := _message(finding, place, root)) not in said:
            said.append(message)
        if finding["type"] not in UNSHOWN and place.parts:
            shown[str(place)] = f" (found {_shown(finding['input'])})"
    for where, said in told.items():
        yield (f"{where}: " if where else "") + "; or ".join(said) + shown.get(where, "")


def _place(location: tuple[int | str, ...], root: type[BaseModel]) -> _Place:
    """Return where it is, without the names that pydantic gives to ways of writing a value, and to keys."""
    place = _Place((), root)
    for part in location:
        ways = _ways(place.model)
        if len(ways) > 1:
            chosen = next((way for way in ways if getattr(way, "__name__", "") == part), None)
            place = _Place(place.parts, chosen, is_way=True)
        elif part != KEY:
            place = _Place((*place.parts, part), _inside(ways[0], part))
    return place


def _message(finding: Any, place: _Place, root: type[BaseModel]) -> str:
    if finding["type"] == "extra_forbidden":
        keys = _keys_of(_place(finding["loc"][:-1], root).model)
        return f"unknown key{suggested(str(finding['loc'][-1]), keys)}"
    if finding["type"] == "missing":
        return "is required"
    context: Mapping[str, Any] = finding.get("ctx", {})
    if finding["type"] == "string_pattern_mismatch" and context["pattern"] in PATTERNS:
        return PATTERNS[context["pattern"]]
    if finding["type"] in WORDS:
        return WORDS[finding["type"]].format(**context)
    message: str = finding["msg"].removeprefix("Value error, ").replace("Input should be", "must be")
    if finding["type"] == "literal_error" and isinstance(finding["input"], str):
        known = re.findall("'([^']*)'", context["expected"])
        close = difflib.get_close_matches(finding["input"], known, n=1, cutoff=0.5)
        return message + (f"; did you mean {close[0]!r}?" if close else "")
    return message


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:80]}..."


def suggested(wrong: str, known: list[str]) -> str:
    """Return the end of a sentence that names what was probably meant, or all that is known."""
    close = difflib.get_close_matches(wrong, known, n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else f"; known are {', '.join(known)}"


def _keys_of(model: Any) -> list[str]:
    """The keys that pydantic accepts where a model is declared; none where none is."""
    (model, *_) = _ways(model)
    return sorted(_fields(model)) if _is_model(model) else []


def _inside(model: Any, part: int | str) -> Any:
    """What is declared at a key of a model or dict, or at a place in a list."""
    return _fields(model).get(str(part)) if _is_model(model) else (typing.get_args(model) or (None,))[-1]


def _is_model(model: Any) -> bool:
    return isinstance(model, type) and issubclass(model, BaseModel)


def _fields(model: type[BaseModel]) -> dict[str, Any]:
    return {field.alias or name: field.annotation for name, field in model.model_fields.items()}


def _ways(annotation: Any) -> list[Any]:
    """Return the ways in which a value may be written, other than as null; at least one."""
    if typing.get_origin(annotation) is typing.Annotated:
        return _ways(typing.get_args(annotation)[0])
    if typing.get_origin(annotation) not in (typing.Union, types.UnionType):
        return [annotation]
    return [way for each in typing.get_args(annotation) if each is not types.NoneType for way in _ways(each)]
