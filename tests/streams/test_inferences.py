"""Inferences of any writer read back as frames of the same columns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import polars as pl

from schemas.errors import UnknownSchema
from schemas.inference import InferenceCodec
from schemas.values import Lineage, OutputField
from streams.inferences import InferenceReader, output_of, outputs_in

SCORE = OutputField("score", "scalar", "float")
LABEL = OutputField("label", "label", "long")
CLASSES = OutputField("classes", "map", "double", ("a", "b"))
VECTOR = OutputField("vector", "vector", "double")
FIELDS = [SCORE, LABEL, CLASSES, VECTOR]
LINEAGE = Lineage("d", 7, "canary", "m", "v1", "abc", "in", "canary", 0.5)


class Published:
    """Schemas by fingerprint."""

    def __init__(self, *codecs: InferenceCodec) -> None:
        self._schemas = {codec.fingerprint: codec.schema for codec in codecs}

    def by_id(self, schema_id: int) -> Mapping[str, Any]:
        raise UnknownSchema("no registry")

    def by_fingerprint(self, fingerprint: str) -> Mapping[str, Any]:
        if fingerprint not in self._schemas:
            raise UnknownSchema("nobody has it")
        return self._schemas[fingerprint]


def made(codec: InferenceCodec, first: int, count: int, **columns: Any) -> list[bytes]:
    offsets = list(range(first, first + count))
    values = {
        "score": [0.5] * count,
        "label": [3] * count,
        "classes": [[0.25, 0.75]] * count,
        "vector": [[1.0]] * count,
    }
    rows = {
        "source_partition": [2] * count,
        "source_offset": offsets,
        "event_time": [None] * count,
        **values,
        **columns,
    }
    schema = {name: codec.dtypes[name] for name in codec.columns}
    return codec.encode(
        pl.DataFrame({name: rows[name] for name in codec.columns}, schema=schema), codec.prefix(LINEAGE)
    )


def test_every_kind_of_output_is_read_in_a_form_that_can_be_compared() -> None:
    codec = InferenceCodec("d", FIELDS, [("note", pl.String())])
    reader = InferenceReader(Published(codec), [output_of(each) for each in FIELDS])
    found = reader.frame(made(codec, 5, 2, note=["x", "y"]), [b"k", None])
    assert found.schema == reader.schema
    assert found.row(0, named=True) == {
        "deployment": "d",
        "source_topic": "in",
        "arm": "canary",
        "model": "m",
        "version": "v1",
        "partition": 2,
        "offset": 5,
        "output.score": 0.5,
        "output.label": "3",
        "output.classes": [0.25, 0.75],
        "output.vector": [1.0],
        "key": b"k",
    }
    assert reader.seen == outputs_in(codec.schema) == {each.name: output_of(each) for each in FIELDS}


def test_writers_with_other_outputs_and_records_that_are_none_stand_beside_each_other() -> None:
    codec = InferenceCodec("d", FIELDS, [])
    fewer = InferenceCodec("d", [SCORE, OutputField("label", "scalar", "double")], [])
    unknown = InferenceCodec("d", [SCORE], [])
    reader = InferenceReader(Published(codec, fewer), [output_of(each) for each in FIELDS])
    values = [
        *made(codec, 0, 1),
        b"junk",
        None,
        *made(fewer, 1, 1, label=[0.5]),
        *made(unknown, 2, 1),
        *made(codec, 3, 1),
    ]
    values.append(values[0][:-1])
    found = reader.frame(values, [b"%d" % row for row in range(len(values))])
    assert reader.unreadable == 4
    read = {row["offset"]: row for row in found.rows(named=True)}
    assert sorted(read) == [0, 1, 3]
    assert (read[1]["output.score"], read[1]["output.label"], read[1]["output.vector"]) == (0.5, None, None)
    assert [read[offset]["key"] for offset in (0, 1, 3)] == [b"0", b"3", b"5"]


def test_a_frame_of_nothing_has_the_same_columns() -> None:
    reader = InferenceReader(Published(), [output_of(SCORE)])
    assert reader.frame([], []).schema == reader.schema


def test_only_numbers_have_differences_and_only_classes_decide() -> None:
    kinds = {each.name: (output_of(each).kind, output_of(each).decides) for each in FIELDS}
    assert kinds == {
        "score": ("number", False),
        "label": ("label", True),
        "classes": ("list", True),
        "vector": ("list", False),
    }
    assert output_of(OutputField("late", "scalar", "boolean")).kind == "label"
