"""Schema folders, the composition of sources, and the memory they use. The topic: tests/integration."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import pytest

from schemas.documents import Cache, safe_fingerprint
from schemas.errors import SchemaRefused, SourceUnavailable, UnknownSchema
from schemas.sources import SchemaFolder, SchemaRegistry, SchemaTopic, Writers
from schemas.wire import fingerprint


def schema(name: str) -> dict[str, Any]:
    return {"type": "record", "name": name, "fields": [{"name": "x", "type": "double"}]}


class Fake:
    """A source that holds some schemas, or does not answer."""

    def __init__(self, *schemas: Mapping[str, Any], down: bool = False, where: str = "the-topic") -> None:
        self.topic, self.down = where, down
        self.held = {fingerprint(one): one for one in schemas}
        self.asked: list[str] = []

    def by_id(self, schema_id: int) -> Mapping[str, Any]:
        return next(iter(self.held.values()))

    def by_fingerprint(self, wanted: str) -> Mapping[str, Any]:
        self.asked.append(wanted)
        if self.down:
            raise SourceUnavailable("down")
        if wanted not in self.held:
            raise UnknownSchema(wanted)
        return self.held[wanted]


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def write(folder: Path, name: str, document: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / name
    file.write_text(document if isinstance(document, str) else json.dumps(document))
    return file


def test_a_folder_finds_schemas_in_it_and_below(tmp_path: Path) -> None:
    write(tmp_path, "a.avsc", schema("A"))
    write(tmp_path / "more", "b.avsc", schema("B"))
    write(tmp_path, "c.txt", "no schema")
    folder = SchemaFolder(tmp_path)
    for name in "AB":
        assert folder.by_fingerprint(fingerprint(schema(name))) == schema(name)


def test_a_file_that_is_added_later_is_found(tmp_path: Path) -> None:
    clock = Clock()
    folder = SchemaFolder(tmp_path, clock)
    for clock.now in (0.0, 0.9):
        with pytest.raises(UnknownSchema, match=str(tmp_path)):
            folder.by_fingerprint(fingerprint(schema("A")))
    write(tmp_path, "a.avsc", schema("A"))
    clock.now = 1.5
    assert folder.by_fingerprint(fingerprint(schema("A"))) == schema("A")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "not a schema in JSON"),
        ("[" * 100_000, "not a schema in JSON"),
        ('"string"', "a record"),
        ('{"type": "record", "name": "A", "fields": [{"name": "a", "type": "A"}]}', "recursive"),
        ('{"type": "record", "name": "A", "fields": [{"name": "a", "type": "strnig"}]}', "strnig"),
        ('"' + "x" * (1 << 20) + '"', "the limit is 1048576"),
    ],
)
def test_a_file_that_is_no_schema_is_named(tmp_path: Path, text: str, says: str) -> None:
    write(tmp_path, "bad.avsc", text)
    with pytest.raises(SchemaRefused, match=says) as caught:
        SchemaFolder(tmp_path)
    assert "bad.avsc" in str(caught.value)


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SchemaRefused, match="no such folder"):
        SchemaFolder(tmp_path / "nowhere")


def test_a_folder_knows_no_ids(tmp_path: Path) -> None:
    with pytest.raises(UnknownSchema, match="registry"):
        SchemaFolder(tmp_path).by_id(7)


def test_the_folder_is_asked_before_the_topic(tmp_path: Path) -> None:
    write(tmp_path, "a.avsc", schema("A") | {"doc": "from the folder"})
    topic = Fake(schema("A"), schema("B"))
    writers = Writers(topic=cast(SchemaTopic, topic), registry=None, folder=SchemaFolder(tmp_path))
    assert writers.by_fingerprint(fingerprint(schema("A")))["doc"] == "from the folder"
    assert topic.asked == []
    assert writers.by_fingerprint(fingerprint(schema("B"))) == schema("B")


def test_an_unknown_fingerprint_names_every_place_that_was_asked(tmp_path: Path) -> None:
    writers = Writers(topic=cast(SchemaTopic, Fake()), folder=SchemaFolder(tmp_path))
    with pytest.raises(UnknownSchema) as caught:
        writers.by_fingerprint("ab" * 8)
    assert f"schema {'ab' * 8}: not in {tmp_path} or the-topic" in str(caught.value)
    with pytest.raises(UnknownSchema, match="no schema folder or topic is configured"):
        Writers().by_fingerprint("ab" * 8)


def test_a_topic_that_does_not_answer_is_not_an_unknown_schema(tmp_path: Path) -> None:
    writers = Writers(topic=cast(SchemaTopic, Fake(down=True)), folder=SchemaFolder(tmp_path))
    with pytest.raises(SourceUnavailable):
        writers.by_fingerprint("ab" * 8)


def test_ids_are_asked_of_the_registry() -> None:
    assert Writers(registry=cast(SchemaRegistry, Fake(schema("A")))).by_id(7) == schema("A")
    with pytest.raises(UnknownSchema, match="no registry is configured; name one with --registry"):
        Writers().by_id(7)


def test_a_cache_forgets_the_oldest_and_the_old() -> None:
    clock = Clock()
    cache: Cache[int] = Cache(2, 10.0, clock)
    for key in "abc":
        cache.put(key, ord(key))
    assert [cache.get(key) for key in "abc"] == [None, ord("b"), ord("c")]
    assert len(cache) == 2
    clock.now += 11
    assert cache.get("c") is None


def test_what_libraries_raise_about_a_schema_becomes_a_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: Any) -> str:
        raise KeyError("odd")

    monkeypatch.setattr("schemas.documents.fingerprint_of", broken)
    with pytest.raises(SchemaRefused, match="here: not an Avro schema: KeyError"):
        safe_fingerprint(schema("A"), "here")
