"""`penstock reference` over files: what is profiled, what is refused, and how it rides in a bundle."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from models.bundle import MODEL, Bundle
from models.reference import Reference
from models.repository import Repository
from penstock import training_rows
from penstock.training_rows import CHUNK, Spool
from tests.models import graphs
from tests.penstock.test_model_commands import penstock, refused, said, url

__all__ = ["url"]
pytestmark = pytest.mark.usefixtures("url")


def rows(count: int = 500, seed: int = 0) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    numbers = {name: rng.normal(size=count).astype(np.float32) for name in "abc"}
    return pl.DataFrame({**numbers, "carrier": rng.choice(["UA", "AA"], count), "score": rng.random(count)})


def built(*words: str) -> Reference:
    said("reference", "build", *words, "--out", "made.json", "--force")
    return Reference.from_bytes(Path("made.json").read_bytes())


@pytest.mark.parametrize("suffix", [".parquet", ".csv"])
def test_all_columns_of_a_file_but_the_outputs_are_features(suffix: str) -> None:
    frame = rows().with_columns(pl.col("a", "b", "c").cast(pl.Float64))
    path = Path(f"train{suffix}")
    frame.write_csv(path) if suffix == ".csv" else frame.write_parquet(path)
    made = built(str(path), "--output", "late=score")
    expected = Reference.from_frame(frame.drop("score"), frame.select(late="score"))
    assert made.to_bytes() == expected.to_bytes()


def test_files_and_folders_are_one_table_in_chunks() -> None:
    parts = [rows(CHUNK + 10, 1), rows(300, 2), rows(200, 3)]
    Path("folder").mkdir()
    for at, part in enumerate(parts):
        part.write_parquet(Path("folder" if at < 2 else ".") / f"{at}.parquet")
    made = built("folder", "2.parquet", "--feature", "a", "--feature", "carrier")
    expected = Reference.from_frame(pl.concat(parts).select("a", "carrier"), unusual=True)
    assert made.to_bytes() == expected.to_bytes()


def test_with_a_model_its_fields_and_its_answers_are_profiled() -> None:
    bundle = graphs.linear_bundle()
    bundle.write(Path("linear.zip"))
    frame = rows()
    frame.write_parquet("train.parquet")
    made = built("train.parquet", "--model", "linear.zip")
    assert [(part.kind, part.name) for part in made.slices] == [
        ("feature", "a"),
        ("feature", "b"),
        ("feature", "c"),
        ("output", "score"),
    ]
    assert made.tally.rows == 500
    score = made.slices[3]
    assert made.tally.cells[score.end - 1] == 0  # none missing: the model answered
    assert [part.name for part in built("train.parquet", "--model", "linear.zip", "--no-scores").slices] == list("abc")


def test_outputs_and_features_are_counted_apart_by_segments_of_files_and_of_scored_rows() -> None:
    frame = rows(CHUNK + 3_000)
    frame.write_parquet("train.parquet")
    made = built("train.parquet", "--output", "late=score", "--segment", "carrier", "--apart", "a")
    expected = Reference.from_frame(frame.drop("score"), frame.select(late="score"), ["carrier"], ["a"], unusual=True)
    assert made.to_bytes() == expected.to_bytes()
    plain = built("train.parquet", "--output", "late=score", "--no-unusual")
    assert plain.to_bytes() == Reference.from_frame(frame.drop("score"), frame.select(late="score")).to_bytes()
    assert "late where carrier is UA" in [part.name for part in made.slices]
    graphs.linear_bundle().write(Path("linear.zip"))
    scored = built("train.parquet", "--model", "linear.zip", "--segment", "b")
    assert {part.bins.name for part in scored.slices if part.segment == "b"} == {"score"}
    assert sum(int(scored.tally.cells[part.start : part.end].sum()) for part in scored.slices if part.segment) == 53_000


def test_segments_that_cannot_be_counted_are_refused() -> None:
    rows(4).write_parquet("train.parquet")
    few = refused("reference", "build", "train.parquet", "--output", "score", "--segment", "carrier")
    assert "no value of the segment carrier has 1,000 training rows" in few
    alone = penstock("reference", "build", "train.parquet", "--apart", "a")
    assert (alone.exit_code, "name one with --segment" in alone.output) == (2, True)


def test_rows_of_the_same_events_are_in_the_same_order_whatever_order_they_came_in(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(training_rows, "BUCKET", 10)
    rng, spool = np.random.default_rng(1), Spool(tmp_path)
    for what, size in (("features", 7), ("outputs", 16)):
        order = rng.permutation(150)
        for start in range(0, 150, size):
            at = order[start : start + size]
            spool.put_at(what, pl.DataFrame({"partition": at % 3, "offset": at // 3}), pl.DataFrame({"x": at}))
    first, second = (pl.concat(spool.ordered(what))["x"].to_list() for what in ("features", "outputs"))
    assert first == second == sorted(range(150), key=lambda each: (each % 3, each // 3))
    assert max(map(len, spool.ordered("features"))) == 10


def test_rows_that_the_model_refuses_are_left_out_and_counted() -> None:
    graphs.linear_bundle().write(Path("linear.zip"))
    rows(10).with_columns(a=pl.Series([None, 1.0] * 5, dtype=pl.Float32)).write_parquet("train.parquet")
    output = said("reference", "build", "train.parquet", "--model", "linear.zip")
    assert "rows that the model refuses were left out: 5 missing_value" in output
    assert "of 5 rows" in output


def test_a_model_that_refuses_all_rows_is_told() -> None:
    graphs.linear_bundle().write(Path("linear.zip"))
    rows(4).with_columns(a=pl.Series([None] * 4, dtype=pl.Float32)).write_parquet("train.parquet")
    assert "refuses every row" in refused("reference", "build", "train.parquet", "--model", "linear.zip")


def test_show_prints_every_bin_with_its_share() -> None:
    pl.DataFrame({"x": [1.0, 1.0, 2.0, None], "who": ["a", "a", "b\x1b[31m", None]}).write_parquet("t.parquet")
    built("t.parquet")
    text = said("reference", "show", "made.json")
    assert "of 4 rows, 2 columns" in text
    assert "feature x (number)" in text
    assert "\x1b" not in text
    lines = {line.split("  ")[1].strip(): line for line in text.splitlines() if line.startswith("  ")}
    assert "50.000%" in lines["a"]
    assert "25.000%" in lines["missing"]
    told = json.loads(said("reference", "show", "made.json", "--column", "who", "--json"))
    (column,) = told["columns"]
    assert {each["bin"]: each["count"] for each in column["bins"]} == {
        "a": 2,
        "b\x1b[31m": 1,
        "rare": 0,
        "new": 0,
        "missing": 1,
    }
    assert "has no column 'y'; it has x, who" in refused("reference", "show", "made.json", "--column", "y")


def test_attach_makes_a_new_version_with_the_same_model_that_the_repository_takes(url: str) -> None:
    bundle = graphs.linear_bundle(tags=["candidate"])
    bundle.write(Path("linear.zip"))
    rows().write_parquet("train.parquet")
    made = built("train.parquet", "--model", "linear.zip")
    assert "has no reference profile" in refused("reference", "show", "linear.zip")
    said("reference", "attach", "made.json", "linear.zip", "--out", "watched.zip")
    watched = Bundle.read("watched.zip")
    assert watched.parts[MODEL] == bundle.parts[MODEL]
    assert watched.manifest.version != bundle.manifest.version
    assert watched.reference == made.to_bytes()
    said("model", "add", "watched.zip")
    assert made.digest in said("reference", "show", watched.manifest.ref)
    said("reference", "attach", "made.json", watched.manifest.ref, "--out", "again")
    assert Bundle.read("again").reference == made.to_bytes()
    assert Repository(url).load(watched.manifest.ref).digest == watched.digest


def test_a_reference_with_outputs_of_another_model_is_not_attached() -> None:
    graphs.linear_bundle().write(Path("linear.zip"))
    rows().write_parquet("train.parquet")
    built("train.parquet", "--output", "late=score")
    text = refused("reference", "attach", "made.json", "linear.zip", "--out", "watched.zip")
    assert "has the output late, which" in text
    assert not Path("watched.zip").exists()


def test_what_is_there_is_not_overwritten_unless_told() -> None:
    rows().write_parquet("train.parquet")
    Path("reference.json").write_text("mine")
    assert "reference.json is there already" in refused("reference", "build", "train.parquet")
    assert Path("reference.json").read_text() == "mine"
    said("reference", "build", "train.parquet", "--force")


def test_rows_that_cannot_be_read_are_refused_with_the_file_and_the_way_out(tmp_path: Path) -> None:
    Path("broken.parquet").write_bytes(b"PAR1 and no more")
    assert "broken.parquet cannot be read" in refused("reference", "build", "broken.parquet")
    Path("notes.txt").write_text("x")
    assert "notes.txt is no Parquet or CSV file" in refused("reference", "build", "notes.txt")
    Path("late.csv").write_text("x\n" + "1\n" * 20_000 + "word\n")
    assert "late.csv cannot be read" in (told := refused("reference", "build", "late.csv"))
    assert "write it as Parquet" in told
    pl.DataFrame({"x": [1.0]}).write_parquet("one.parquet")
    pl.DataFrame({"x": ["a"]}).write_parquet("two.parquet")
    assert "two.parquet: column x is String, but Float64" in refused("reference", "build", "one.parquet", "two.parquet")
    assert "no file has a column 'xx'; did you mean 'x'?" in refused(
        "reference", "build", "one.parquet", "--feature", "xx"
    )


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["--deployment", "flights"],
        ["--deployment", "flights", "--from", "7d ago", "--feature", "a"],
        ["train.parquet", "--deployment", "flights", "--from", "7d ago"],
        ["train.parquet", "--model", "m@production", "--feature", "a"],
        ["train.parquet", "--output", "=x"],
    ],
)
def test_options_that_do_not_go_together_are_usage_errors(words: list[str]) -> None:
    rows(5).write_parquet("train.parquet")
    assert penstock("reference", "build", *words).exit_code == 2
