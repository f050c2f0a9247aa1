"""The page: whole HTML that needs nothing from elsewhere, and in which no name can be more than a name."""

from __future__ import annotations

from html.parser import HTMLParser
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.reference import Reference
from monitoring.hindsight import Span
from penstock.report.charts import HEIGHT, WIDTH, bars, lines
from penstock.report.content import content
from penstock.report.extras import sections
from penstock.report.markup import VOID, Markup, tag
from penstock.report.page import page
from penstock.report.section import Section
from tests.monitoring.traffic import events
from tests.penstock.report.made import LINEAGE, course, episode, found

EVIL = "<script>alert(1)</script>\"'>&amp;<img src=http://x.test/a onerror=b>\u202e\x00]]>--></style>"


class Read(HTMLParser):
    """Reads a page strictly: what opens must close, in order."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []

    def handle_starttag(self, name: str, attrs: Any) -> None:
        self.tags.append((name, dict(attrs)))
        self.open.append(name)

    def handle_startendtag(self, name: str, attrs: Any) -> None:
        self.tags.append((name, dict(attrs)))

    def handle_endtag(self, name: str) -> None:
        assert self.open.pop() == name

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    @classmethod
    def of(cls, text: str) -> Read:
        reader = cls()
        reader.feed(text)
        reader.close()
        assert reader.open == []
        return reader


def whole(**changed: Any) -> Read:
    return Read.of(page(content(found(**changed))))


ALLOWED = {
    *("html", "head", "meta", "title", "style", "body", "main", "h1", "h2", "p", "div", "b", "table", "thead", "tbody"),
    *(
        "tr",
        "th",
        "td",
        "figure",
        "figcaption",
        "svg",
        "line",
        "path",
        "rect",
        "span",
        "details",
        "summary",
        "i",
        "g",
        "h3",
    ),
}


def check_alone(read: Read) -> None:
    """Raise unless the page has only known tags, no handlers and no addresses."""
    assert {name for name, _ in read.tags} <= ALLOWED
    for _, attributes in read.tags:
        assert not {name for name in attributes if name.startswith("on") or name in ("src", "href", "xlink:href")}
        assert "url(" not in (attributes.get("style") or "")
    (style,) = [text for text in read.texts if "color-scheme" in text]
    assert "url(" not in style
    assert "@import" not in style


def test_the_page_is_whole_and_needs_nothing_from_elsewhere() -> None:
    read = whole()
    check_alone(read)
    (policy,) = [attrs["content"] for name, attrs in read.tags if attrs.get("http-equiv") == "Content-Security-Policy"]
    assert str(policy).startswith("default-src 'none'")
    assert any(attrs.get("name") == "viewport" for _, attrs in read.tags)
    text = " ".join(read.texts)
    for said in (
        "Report on flights",
        "wind",
        "rain",
        "carrier",
        "critical",
        "and still open",
        "3 events were profiled after",
    ):
        assert said in text


@pytest.mark.parametrize("bad", ["<script>x</script>", '<p onclick="x">y</p>', '<a href="http://x.test">y</a>'])
def test_markup_that_is_not_allowed_would_be_found(bad: str) -> None:
    read = Read.of(page(content(found()), [Markup(bad)]))
    with pytest.raises(AssertionError):
        check_alone(read)


def test_no_name_or_value_of_a_user_becomes_markup() -> None:
    known = Reference.from_frame(
        pl.DataFrame({EVIL: [EVIL, "b", "c"] * 10}), pl.DataFrame({EVIL + "2": [1.0, 2.0, 3.0] * 10})
    )
    lineage = LINEAGE._replace(arm=EVIL, model=EVIL, version=EVIL)
    bad = episode(arm=EVIL, model=EVIL, version=EVIL, name=EVIL, summary=EVIL, severity="warning")
    read = whole(deployment=EVIL, courses={lineage: course(0.0, known)}, episodes=[bad])
    check_alone(read)
    shown = EVIL.replace("\u202e", "\ufffd").replace("\x00", "\ufffd")
    assert sum(shown in text for text in read.texts) > 10
    assert not any("\u202e" in text for text in read.texts)


def test_columns_with_alerts_are_open_and_others_folded() -> None:
    read = whole()
    shown = [attrs for name, attrs in read.tags if name == "details" and attrs.get("class") == "column"]
    assert ["open" in attrs for attrs in shown] == [True, False, False, False]


def test_columns_apart_are_told_by_segment_and_only_those_that_differ_in_detail() -> None:
    known = Reference.from_frame(*events(20_000, 99), ["carrier"])
    told = content(found(courses={LINEAGE: course(1.0, known)}))
    apart = [column for column in told["versions"][0]["columns"] if column["segment"] == "carrier"]
    assert {column["value"] for column in apart} == {"UA", "AA", "DL"}
    read = Read.of(page(told))
    check_alone(read)
    assert "By segment" in read.texts
    assert read.texts.count("late where carrier is UA") == 2  # in the table, and in detail: it moved with all others
    calm = Read.of(page(content(found(courses={LINEAGE: course(0.0, known)}))))
    assert calm.texts.count("late where carrier is UA") == 1
    assert "By segment" not in whole().texts


def test_the_share_of_outliers_is_told_where_the_reference_counts_them() -> None:
    known = Reference.from_frame(*events(20_000, 99), unusual=True)
    told = content(found(courses={LINEAGE: course(4.0, known)}))
    (version,) = told["versions"]
    assert version["unusual"]["reference"] == pytest.approx(0.001, abs=0.0005)
    assert version["unusual"]["now"] > 0.01
    read = Read.of(page(told))
    check_alone(read)
    assert "more unusual than 99.9 % of the training rows" in " ".join(read.texts)
    assert content(found())["versions"][0]["unusual"] is None


def test_without_profiles_and_alerts_it_says_so() -> None:
    text = " ".join(whole(courses={}, episodes=[]).texts)
    assert "No profile of this range was found" in text
    assert "No alert was open" in text


def test_without_a_detector_with_evidence_its_drawing_is_left_out() -> None:
    assert "Evidence, logarithm" in " ".join(whole().texts)
    assert "Evidence, logarithm" not in " ".join(whole(courses={LINEAGE: course(0.0, alarm=None)}).texts)


def test_sections_of_others_are_shown_and_left_out_where_there_is_nothing() -> None:
    section = Section("quality", {"auc": 0.7}, tag("h2", "Quality"))

    def some(*_: object) -> list[Section]:
        return [section]

    def none(*_: object) -> list[Section]:
        return []

    made = sections(None, "flights", Span(0, 1), [none, some, none])  # type: ignore[arg-type]
    assert made == [section]
    assert "Quality" in Read.of(page(content(found()), [each.markup for each in made])).texts


@given(st.text(), st.text())
def test_a_text_comes_back_as_it_is_but_for_what_is_no_letter(text: str, attribute: str) -> None:
    read = Read.of(tag("p", text, title=attribute))
    shown = ["".join(letter if letter.isprintable() else "\ufffd" for letter in each) for each in (text, attribute)]
    assert "".join(read.texts) == shown[0]
    assert read.tags == [("p", {"title": shown[1]})]


def test_void_elements_close_themselves() -> None:
    assert next(tag(name) for name in sorted(VOID)) == "<br/>"
    assert tag("rect", tag("title", "x"), x=1.5) == '<rect x="1.5"><title>x</title></rect>'


def test_drawings_stay_within_their_frame_and_gaps_are_gaps() -> None:
    drawn = lines("PSI", [0.0, None, 5.0, 10.0, None], 10.0, [3.0, 30.0])
    (path,) = [attrs["d"] for name, attrs in Read.of(drawn).tags if name == "path"]
    assert path is not None
    assert path.count("M") == 2
    numbers = [float(n) for part in path.replace("M", " ").replace("L", " ").split() for n in part.split("H")]
    assert all(0 <= number <= WIDTH for number in numbers)
    assert sum(name == "line" for name, _ in Read.of(drawn).tags) == 1  # the mark above the edge is left out
    shown = bars(["a", "b"], [0.5, 0.5], [1.0, 0.0])
    (behind, front) = [attrs["d"] for name, attrs in Read.of(shown).tags if name == "path"]
    assert (str(behind).count("M"), str(front).count("M")) == (2, 1)
    assert f"V{HEIGHT / 2:.1f}" in str(behind)
