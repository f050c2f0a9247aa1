"""Pages as Markdown and text: whatever values hold, tables stay tables and terminals stay as they are."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from penstock.pages import FOLD, Facts, Page, Prose, Row, Section, Table, clean, escaped, markdown, shortened, text

HOSTILE = [
    "a | b",
    "a\\| b",
    "\\",
    "`code` and `` more",
    "*bold* _under_ ~~gone~~",
    "[link](http://example.com) ![image](x)",
    "<script>alert(1)</script>",
    "<b>&amp; &#124;",
    "line\nbreak\r\n| --- |",
    "# heading",
    "- item",
    "+ item",
    "1. item",
    "2) item",
    "=====",
    "---",
    "$x$ and $$",
    "> quote",
    "|",
    "...",
]


def cells(page: str) -> list[list[str]]:
    """The rows of every table of the page as a reader of Markdown understands them, heads included."""
    rows: list[list[str]] = []
    inside = False
    for token in MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(page):
        if token.type == "tr_open":
            rows.append([])
            inside = True
        elif token.type == "tr_close":
            inside = False
        elif token.type == "inline" and inside:
            children = token.children or []
            assert {child.type for child in children} <= {"text", "text_special"}, children
            rows[-1].append("".join(child.content for child in children))
    return rows


def a_page(*values: str) -> Page:
    rows = tuple(Row((value, "after"), value) for value in values)
    return Page("t", (Section("s", (Table("value", ("Value", "Next"), rows),)),))


@pytest.mark.parametrize("value", HOSTILE)
def test_a_value_with_marks_of_markdown_is_one_cell_that_shows_it_as_it_is(value: str) -> None:
    assert cells(markdown(a_page(value, "last"))) == [["Value", "Next"], [clean(value), "after"], ["last", "after"]]


@given(st.text())
@example("\u2028| x")
@example("\x85|\x1c|")
def test_any_value_is_one_cell(value: str) -> None:
    assert cells(markdown(a_page(value)))[1:] == [[clean(value), "after"]]


def test_without_escaping_the_reader_would_see_other_cells(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("penstock.pages.escaped", lambda value: value)
    assert cells(markdown(a_page("a | b")))[1] == ["a", "b"]


@pytest.mark.parametrize("value", HOSTILE)
def test_prose_is_a_paragraph_whatever_it_begins_with(value: str) -> None:
    page = markdown(Page("t", (Section("s", (Prose("p", f"{value}\n\nsecond"),)),)))
    kinds = [token.type for token in MarkdownIt("commonmark").enable("table").parse(page)]
    assert kinds == [
        *("heading_open", "inline", "heading_close") * 2,
        *("paragraph_open", "inline", "paragraph_close") * 2,
    ]


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("\x1b[2J\x07gone", "\\x1b[2J\\x07gone"),
        ("tab\tand\nline", "tab and line"),
        ("no\xa0break", "no break"),
        ("right\u202eto left", "right\ufffdto left"),
        ("näh 東京", "näh 東京"),
        ("half \ud800", "half \ufffd"),
    ],
)
def test_what_moves_a_cursor_or_turns_the_writing_is_made_visible(value: str, shown: str) -> None:
    assert clean(value) == shown
    assert shown in text(a_page(value))


def parameters(count: int) -> Page:
    rows = tuple(Row((f"p{n}", str(n)), f"p{n} {n}") for n in range(count))
    return Page("t", (Section("s", (Table("parameter", ("P", "V"), rows, f"{count} parameters"),)),))


def test_a_long_table_is_folded_and_still_a_table() -> None:
    page = markdown(parameters(FOLD + 1))
    assert f"<details><summary>{FOLD + 1} parameters</summary>" in page
    assert page.count("</details>") == 1
    assert len(cells(page)) == FOLD + 2
    assert "<details>" not in markdown(parameters(FOLD))


def test_text_of_a_long_table_is_cut_and_says_so() -> None:
    lines = text(parameters(FOLD + 3)).splitlines()
    assert lines[-1] == "parameter  and 3 more: see --json or --markdown"
    assert len(lines) == FOLD + 1
    assert len(text(parameters(FOLD)).splitlines()) == FOLD


def test_text_aligns_what_is_said_under_one_column() -> None:
    page = Page(
        "t", (Section("s", (Facts((("a", "1"), ("longer", "2"))), Prose("p", "one\n\ntwo"), Table("t", (), ()))),)
    )
    assert text(page) == "a       1\nlonger  2\np       one\n\n        two\nt       none\n"


def test_an_empty_table_says_none() -> None:
    assert "Note: none\n" in markdown(Page("t", (Section("s", (Table("note", ("A",), ()),)),)))


def test_long_values_are_cut() -> None:
    assert shortened("x" * 10, 5) == "xxxx…"
    assert shortened("x" * 5, 5) == "x" * 5


def test_what_needs_no_escape_gets_none() -> None:
    assert escaped("scikit-learn 1.9 (0.71)") == "scikit-learn 1.9 (0.71)"
