"""HTML and SVG out of values: whatever is not markup already is escaped, so that no name or value can be any."""

from __future__ import annotations

import html
from collections.abc import Iterable

VOID = frozenset({"meta", "line", "path", "rect", "br"})  # of these nothing stands inside


class Markup(str):
    """Text that is markup already: only `tag` and `together` make it."""

    __slots__ = ()


Child = str | int | Markup | None


def tag(name: str, /, *children: Child, **attributes: str | float | None) -> Markup:
    """Return an element.

    children: texts are escaped, None is left out. attributes: `class_` is class, `stroke_width` is stroke-width and
    `viewBox` stays; None is left out.
    """
    given = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{_escaped(_text(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    if name in VOID and not children:
        return Markup(f"<{name}{given}/>")
    return Markup(f"<{name}{given}>{together(children)}</{name}>")


def together(children: Iterable[Child]) -> Markup:
    """Return children one after the other; texts are escaped."""
    return Markup("".join(_child(part) for part in children if part is not None))


def _child(part: str | int | Markup) -> str:
    return part if isinstance(part, Markup) else _escaped(str(part))


def _escaped(text: str) -> str:
    """Return text that is shown as it is, without what turns the direction of writing or is no letter."""
    return html.escape("".join(letter if letter.isprintable() else "\ufffd" for letter in text), quote=True)


def _text(value: str | float) -> str:
    return value if isinstance(value, str) else f"{value:g}"
