"""A page of facts, tables and prose, as Markdown or as aligned text; pure, and safe against what the values hold."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

FOLD = 12  # rows of a table beyond which it is folded
_MARKS = re.compile(r"([\\`*_\[\]<>|~&$#])")
_BLOCK = re.compile(r"^(\d{0,9})([-+=.)])(?=[\s=-]|$)")  # what begins a list or underlines a heading


@dataclass(frozen=True, slots=True)
class Facts:
    """Names and values."""

    pairs: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Row:
    """cells: one for each column of the table. line: the same as text."""

    cells: tuple[str, ...]
    line: str


@dataclass(frozen=True, slots=True)
class Table:
    """label: what each row is. head: of the columns. folded: what a long table is folded under, in our words."""

    label: str
    head: tuple[str, ...]
    rows: tuple[Row, ...]
    folded: str = ""


@dataclass(frozen=True, slots=True)
class Prose:
    """Plain text of a person; empty lines part paragraphs."""

    label: str
    text: str


@dataclass(frozen=True, slots=True)
class Section:
    title: str
    parts: tuple[Facts | Table | Prose, ...]


@dataclass(frozen=True, slots=True)
class Page:
    title: str
    sections: tuple[Section, ...]


def clean(text: str) -> str:
    """Return the text on one line, without what moves a terminal's cursor or turns the direction of writing."""
    spaced = " ".join(text.split())
    return "".join(letter if letter.isprintable() else _named(letter) for letter in spaced)


def _named(letter: str) -> str:
    return " " if unicodedata.category(letter) == "Zs" else f"\\x{ord(letter):02x}" if ord(letter) < 256 else "\ufffd"


def shortened(text: str, most: int = 200) -> str:
    """Return the text, cut where it is longer than `most`."""
    return text if len(text) <= most else text[: most - 1] + "…"


# Markdown


def escaped(text: str) -> str:
    """Return text that Markdown shows as it is, in a cell of a table too."""
    return _BLOCK.sub(r"\1\\\2", _MARKS.sub(r"\\\1", clean(text)))


def markdown(page: Page) -> str:
    """Return the page in the Markdown of CommonMark with tables; long tables are folded into `details`."""
    lines = [f"# {escaped(page.title)}", ""]
    for section in page.sections:
        lines += [f"## {escaped(section.title)}", ""]
        for part in section.parts:
            lines += [*_markdown_of(part), ""]
    return "\n".join(lines).rstrip() + "\n"


def _markdown_of(part: Facts | Table | Prose) -> Iterator[str]:
    if isinstance(part, Facts):
        yield from _grid(("", ""), part.pairs)
    elif isinstance(part, Prose):
        for number, paragraph in enumerate(re.split(r"\n\s*\n", part.text.strip())):
            yield from [""] if number else []
            yield escaped(paragraph)
    elif not part.rows:
        yield f"{escaped(part.label.capitalize())}: none"
    elif part.folded and len(part.rows) > FOLD:
        yield f"<details><summary>{part.folded}</summary>"
        yield ""
        yield from _grid(part.head, [row.cells for row in part.rows])
        yield ""
        yield "</details>"
    else:
        yield from _grid(part.head, [row.cells for row in part.rows])


def _grid(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield "| " + " | ".join(map(escaped, head)) + " |"
    yield "|" + " --- |" * len(head)
    for row in rows:
        yield "| " + " | ".join(map(escaped, row)) + " |"


# text


def text(page: Page) -> str:
    """Return the page as lines of a name and a value; long tables are cut."""
    lines = [line for section in page.sections for part in section.parts for line in _lines_of(part)]
    width = max((len(label) for label, _ in lines), default=0)
    return "".join(f"{label:<{width}}  {clean(value)}".rstrip() + "\n" for label, value in lines)


def _lines_of(part: Facts | Table | Prose) -> Iterator[tuple[str, str]]:
    if isinstance(part, Facts):
        yield from part.pairs
    elif isinstance(part, Prose):
        for number, line in enumerate(part.text.strip().splitlines()):
            yield part.label if number == 0 else "", line
    elif not part.rows:
        yield part.label, "none"
    else:
        most = FOLD if part.folded and len(part.rows) > FOLD else len(part.rows)
        for row in part.rows[:most]:
            yield part.label, row.line
        if most < len(part.rows):
            yield part.label, f"and {len(part.rows) - most} more: see --json or --markdown"
