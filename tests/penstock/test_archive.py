"""The archive of a quick start: made once, tried once, never needed."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from penstock import archive
from penstock.errors import BrokerFailed


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PENSTOCK_CACHE", str(tmp_path))
    return tmp_path


def written_by(options: list[str]) -> None:
    Path(options[0].removeprefix("-XX:AOTCacheOutput=")).write_bytes(b"archive")


def not_again(options: list[str]) -> None:
    pytest.fail("trained again")


def test_the_first_start_trains_and_says_so_and_later_ones_use_what_came_of_it(cache: Path) -> None:
    jars, first, second = [cache / "a.jar"], io.StringIO(), io.StringIO()

    options = archive.options(jars, written_by, first)

    assert archive.options(jars, not_again, second) == options
    assert Path(options[0].removeprefix("-XX:AOTCache=")).read_bytes() == b"archive"
    assert "Preparing quick starts" in first.getvalue()
    assert second.getvalue() == ""


def test_other_jars_have_an_archive_of_their_own_and_the_old_one_goes(cache: Path) -> None:
    archive.options([cache / "a.jar"], written_by, io.StringIO())
    [option, *_] = archive.options([cache / "b.jar"], written_by, io.StringIO())

    assert [str(path) for path in (cache / "archives").glob("*.aot")] == [option.removeprefix("-XX:AOTCache=")]


def test_a_training_that_fails_is_told_and_not_tried_again(cache: Path) -> None:
    def fails(options: list[str]) -> None:
        raise BrokerFailed("no more disk")

    stream = io.StringIO()

    assert archive.options([cache / "a.jar"], fails, stream) == []
    assert "no archive was made (no more disk); the broker starts without it" in stream.getvalue()
    assert archive.options([cache / "a.jar"], not_again, stream) == []


def test_a_training_that_writes_nothing_is_a_failed_one(cache: Path) -> None:
    assert archive.options([cache / "a.jar"], lambda _: None, io.StringIO()) == []
