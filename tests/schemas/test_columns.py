"""How the columns of a writer become those of the deployment."""

from __future__ import annotations

from typing import Any

import pytest

from tests.schemas.test_decode import decoder, message


@pytest.mark.parametrize("kind", ["double", "int", "string"])
def test_a_null_that_only_the_writer_allows_costs_its_message(kind: Any) -> None:
    value = {"double": 1.5, "int": 7, "string": "a"}[kind]
    reader = {"type": "record", "name": "N", "fields": [{"name": "f", "type": kind}]}
    writer = {"type": "record", "name": "N", "fields": [{"name": "f", "type": ["null", kind]}]}
    decoded = decoder(reader, writer).decode([message(writer, {"f": one}) for one in (value, None, value)])
    assert [(item.row, item.reason) for item in decoded.rejected] == [(1, "wrong_type")]
    assert decoded.frame["f"].to_list() == [value, value]


def test_columns_of_another_order_or_fewer_are_taken_by_name() -> None:
    names = ["a", "b", "c"]
    writer = {"type": "record", "name": "W", "fields": [{"name": name, "type": "long"} for name in names]}
    values = [message(writer, {"a": row, "b": 10 + row, "c": 300 + row}) for row in range(3)]
    for wanted in (["c", "a"], ["b"], ["c", "b", "a"]):
        reader = {"type": "record", "name": "W", "fields": [{"name": name, "type": "long"} for name in wanted]}
        frame = decoder(reader, writer).decode(values).frame
        assert frame.columns == wanted
        assert frame.row(2) == tuple({"a": 2, "b": 12, "c": 302}[name] for name in wanted)
