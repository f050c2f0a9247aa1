"""What the parts of a deployment's declaration are made of: strict keys, names of topics, sizes and durations."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import BaseModel, ConfigDict

from schemas.moments import UNITS

Framing = Literal["auto", "confluent", "single_object", "json"]
TOPIC = r"^[A-Za-z0-9._-]{1,249}$"
_SIZES = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "kB": 1_000, "MB": 1_000_000, "GB": 1_000_000_000}


class Declared(BaseModel):
    """Strict base: an unknown key is an error, values do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


def parse_size(text: object) -> object:
    """`1MiB` or a plain number of bytes, as a number of bytes; what is no text is left for pydantic to judge.

    Raises ValueError for other text.
    """
    return _parsed(text, _SIZES, "B", "must be a whole number of bytes, or one with a unit such as 512MiB or 2GB")


def parse_duration(text: object) -> object:
    """`3d`, `12h` or a plain number of seconds, in seconds; what is no text is left for pydantic to judge.

    Raises ValueError for other text.
    """
    return _parsed(text, UNITS, "s", "must be a whole number of seconds, or one with a unit such as 90s, 12h or 3d")


def _parsed(text: object, units: dict[str, int], plain: str, asked: str) -> object:
    if not isinstance(text, str):
        return text
    if (match := re.fullmatch(r"(\d+)\s*([A-Za-z]*)", text)) and (match[2] or plain) in units:
        return int(match[1]) * units[match[2] or plain]
    raise ValueError(asked)
