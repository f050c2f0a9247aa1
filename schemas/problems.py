"""What pydantic finds wrong in a declaration, in its writer's words: the place, what is asked for, what is there."""

from __future__ import annotations

import difflib
import re
import types
import typing
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from schemas.declared import TOPIC
from schemas.deployment import ARM, MODEL, NAME

WAYS = ("constrained-str", "Constant")  # a step of a fallback chain
PATTERNS = {
    MODEL: "must be NAME@TAG or NAME@VERSION",
    TOPIC: "must be the name of a topic: letters, digits, '.', '_' and '-', 249 at most",
    ARM: "must begin with a lower-case letter or a digit, and go on with these, '_' and '-', 50 at most",
    NAME: "must be letters, digits, '.', '_' and '-', 100 at most",
}
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
    "too_short": "must have {min_length} or more",
    "too_long": "must have {max_length} at most",
}


def problems_of(error: ValidationError, root: type[BaseModel]) -> Iterator[str]:
    """Yield a line for each place that is wrong. Of the ways in which a value may be written, the last one is told."""
    told: dict[str, str] = {}
    for finding in error.errors():
        place = _place(finding["loc"])
        told[place] = _problem(finding, place, root)
    yield from told.values()


def _place(location: tuple[int | str, ...]) -> str:
    """Return where it is; without the names that pydantic gives to the ways in which a value may be written."""
    parts = [str(part) for at, part in enumerate(location) if not (part in WAYS and isinstance(location[at - 1], int))]
    return ".".join(parts) + (" (counted from 0)" if any(isinstance(part, int) for part in location) else "")


def _problem(finding: Any, place: str, root: type[BaseModel]) -> str:
    if finding["type"] == "extra_forbidden":
        keys = _keys_at(root, finding["loc"][:-1])
        return f"{place}: unknown key{suggested(str(finding['loc'][-1]), keys)}"
    if finding["type"] == "missing":
        return f"{place}: is required"
    message = _message(finding)
    return f"{place}: {message} (found {_shown(finding['input'])})" if place else message


def _message(finding: Any) -> str:
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


def _keys_at(model: Any, location: tuple[int | str, ...]) -> list[str]:
    """The keys that pydantic accepts at a location inside a model."""
    for part in location:
        if isinstance(model, type) and issubclass(model, BaseModel):
            fields = {field.alias or name: field.annotation for name, field in model.model_fields.items()}
            model = _without_none(fields.get(str(part)))
        else:  # a key of a dict or a place in a list
            model = (typing.get_args(model) or (None,))[-1]
    if isinstance(model, type) and issubclass(model, BaseModel):
        return sorted(field.alias or name for name, field in model.model_fields.items())
    return []


def _without_none(annotation: Any) -> Any:
    """The X of `X | None`."""
    arguments = typing.get_args(annotation)
    if types.NoneType not in arguments:
        return annotation
    return next(argument for argument in arguments if argument is not types.NoneType)
