"""`penstock reference build --deployment`: a reference of past events is that of the rows that were scored."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner

from models.reference import Reference
from penstock.cli import main
from tests.rig import Rig, encoder, sum_model

pytestmark = pytest.mark.timeout(200)
encode = encoder()
EVENTS = 3000


@pytest.fixture
def scored(rig: Callable[..., Rig]) -> Rig:
    """3,000 events, every fourth with a null, five that are junk, scored; then some more by another version."""
    made = rig()
    made.produce([*map(encode, events().to_dicts()), *[b"junk"] * 5])
    worker = made.worker()
    made.wait_committed(EVENTS + 5)
    assert worker.stop() == 0
    return made


def events() -> pl.DataFrame:
    values = np.random.default_rng(4).normal(size=EVENTS)
    b = [None if at % 4 == 0 else float(at) for at in range(EVENTS)]
    return pl.DataFrame({"id": range(EVENTS), "a": values, "b": b})


def build(rig: Rig, out: Path, *more: str) -> tuple[int, str]:
    place = ["--bootstrap-servers", rig.servers, "--repository", str(rig.folder / "models"), "--out", str(out)]
    result = CliRunner().invoke(main, ["reference", "build", "--deployment", str(rig.file), *place, *more])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.output


def test_a_range_gives_the_reference_of_the_rows_that_were_scored(scored: Rig, tmp_path: Path) -> None:
    out = tmp_path / "reference.json"
    status, output = build(scored, out, "--from", "2020-01-01")
    assert status == 0, output
    frame = events()
    scores = frame.select(score=(pl.col("a").cast(pl.Float32) + pl.col("b").cast(pl.Float32).fill_null(0.0)))
    made, expected = Reference.from_bytes(out.read_bytes()), Reference.from_frame(frame.select("a", "b"), scores)
    assert made.tally.rows == EVENTS
    assert made.features == expected.features
    assert made.tally.cells[: made.slices[1].end].tolist() == expected.tally.cells[: made.slices[1].end].tolist()
    assert made.slices[2].name == "score"
    assert made.tally.cells[made.slices[2].end - 1] == 0
    # and offsets name a part of it
    status, output = build(scored, tmp_path / "part.json", "--from", "1:0", "--to", "1:100")
    assert status == 0, output
    part = Reference.from_bytes((tmp_path / "part.json").read_bytes())
    assert part.tally.rows == 100
    alone = frame.filter(pl.col("id") % 4 == 1)[:100].select("a", "b")
    assert part.features == Reference.from_frame(alone).features


def test_outputs_are_counted_apart_beside_the_events_that_they_are_of(scored: Rig, tmp_path: Path) -> None:
    out = tmp_path / "reference.json"
    status, output = build(scored, out, "--from", "2020-01-01", "--segment", "a", "--apart", "b")
    assert status == 0, output
    made, frame = Reference.from_bytes(out.read_bytes()), events()
    scores = frame.select(score=(pl.col("a").cast(pl.Float32) + pl.col("b").cast(pl.Float32).fill_null(0.0)))
    assert {part.bins.name for part in made.slices if part.segment == "a"} == {"b", "score"}
    assert made.tally.cells.tolist() == made.counter.count(frame.select("a", "b"), scores)[0].tolist()


def test_a_version_that_scored_nothing_there_is_refused_with_who_did(scored: Rig, tmp_path: Path) -> None:
    scored.add_model("sum", "candidate", model=sum_model(scale=2.0))
    status, output = build(scored, tmp_path / "r.json", "--from", "2020-01-01", "--model", "sum@candidate")
    assert status == 2
    assert f"{EVENTS:,} of {scored.version}" in output
    assert not (tmp_path / "r.json").exists()


def test_a_range_without_events_and_an_arm_that_is_not_there_are_refused(scored: Rig, tmp_path: Path) -> None:
    assert "has no events between these ends" in build(scored, tmp_path / "r.json", "--from", "now")[1]
    told = build(scored, tmp_path / "r.json", "--from", "2020-01-01", "--arm", "canary")[1]
    assert "has no arm canary; it has active" in told
