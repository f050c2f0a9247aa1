"""Expressions: what they need, and what is refused with a reason."""

from __future__ import annotations

import pytest

from schemas.expressions import LONGEST, Expression, Name


@pytest.mark.parametrize(
    "text",
    [
        "revenue",
        "-revenue + 2.5 * minutes",
        "10 if late and score > 0.5 else -1",
        "0 < score <= 1",
        "abs(score - late) // 0.1 % 3",
        "max(score, 1 - score, 0)",
        "not late or True",
        " label.late - output.late ",
        "revenue != 0",
    ],
)
def test_what_is_known_is_taken(text: str) -> None:
    assert Expression(text).text == text


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "is no expression"),
        ("revenue +", "is no expression: invalid syntax at character"),
        ("a = 1", "is no expression"),
        ("(" * 300 + "1" + ")" * 300, "500 are the most"),
        ("x ** 2", r"x \*\* 2: this operator is not known; .*write x \* x"),
        ("x @ y", "this operator is not known"),
        ("~x", "~x: this operator is not known"),
        ("x in y", "this comparison is not known"),
        ("x is y", "this comparison is not known"),
        ("exp(x)", "there is no function exp; there are abs, min, max"),
        ("__import__('os').system('true')", "there is no function"),
        ("abs(x, y)", "abs takes one value"),
        ("min(x)", "min takes two values or more"),
        ("max(*x, y)", "max takes values only"),
        ("max(x, y, key=abs)", "max takes values only"),
        ("x == 'yes'", "'yes' is no number"),
        ("1e300 * x", "is too large"),
        ("x + None", "None is no number"),
        ("1j * x", "is no number"),
        ("x.y", r"x\.y is not known; there are numbers"),
        ("label.x.y", "is not known"),
        ("x[0]", "is not known"),
        ("[x, y]", "is not known"),
        ("lambda: x", "is not known"),
        ("(x := 1)", "is not known"),
        ("f'{x}'", "is not known"),
        ("[y for y in x]", "is not known"),
        ("abs", "x"),
    ],
)
def test_what_is_not_known_is_refused_by_name(text: str, told: str) -> None:
    if text == "abs":  # a plain name, which the schemas do not have
        assert Expression(text).names == [Name("abs")]
        return
    with pytest.raises(ValueError, match=told):
        Expression(text)


@pytest.mark.parametrize("text", ["-" * (LONGEST - 1) + "1", "1+" * 200 + "1"])
def test_deep_ones_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="more than 100 parts"):
        Expression(text)


def test_long_ones_are_taken() -> None:
    assert Expression(" + ".join("abcdefgh"[at % 8] for at in range(90))).names


def test_names_are_fields_of_the_label_or_outputs() -> None:
    found = Expression("max(revenue, label.fee) * score if output.late else late")
    assert [str(name) for name in found.names] == ["label.fee", "late", "output.late", "revenue", "score"]
    assert found.fields({"revenue", "late"}) == {"revenue", "late", "fee"}
    assert found.outputs({"revenue", "late"}) == {"score", "late"}
    assert Expression("label + output").fields({"label"}) == {"label"}
