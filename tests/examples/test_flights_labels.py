"""The labels of the flights: each once, none before it is known, all in the end."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl

from examples.flights import data
from examples.flights.data import Year
from examples.flights.labels import KNOWN_AFTER, Labels
from penstock.client.events import EventEncoder
from penstock.config import load_deployment

FOLDER = Path(data.__file__).parent
BEGIN = datetime(2013, 1, 1, 6, tzinfo=UTC)


def year(hours: list[int]) -> Year:
    departures = pl.Series([BEGIN + timedelta(hours=hour) for hour in hours], dtype=pl.Datetime("ms", "UTC"))
    ids = [f"F{place}" for place in range(len(hours))]
    events = pl.DataFrame({"flight_id": ids, "scheduled_departure": departures})
    return Year(
        events, pl.DataFrame({"flight_id": ids, "month": [1] * len(ids), "late": [True, False] * (len(ids) // 2)})
    )


def test_a_label_comes_once_and_not_before_it_is_known() -> None:
    sent: list[str] = []
    labels = Labels(year([0, 1, 1, 30]), lambda rows: sent.extend(rows["flight_id"]))
    known = BEGIN + KNOWN_AFTER
    labels.until(known - timedelta(milliseconds=1))
    assert sent == []
    labels.until(known)
    assert sent == ["F0"]
    labels.until(known + timedelta(hours=2))
    labels.until(known + timedelta(hours=2))
    assert sent == ["F0", "F1", "F2"]
    labels.rest()
    labels.rest()
    assert sent == ["F0", "F1", "F2", "F3"]
    assert labels.sent == 4


def test_a_label_is_what_the_deployment_declares() -> None:
    rows: list[pl.DataFrame] = []
    Labels(year([0, 1]), rows.append).rest()
    values = EventEncoder(FOLDER / "label.avsc").encode_frame(rows[0])
    assert len(values) == 2
    declared = load_deployment(FOLDER / "deployment.yaml").deployment
    assert declared.labels is not None
    assert declared.labels.reader == json.loads((FOLDER / "label.avsc").read_text())
    assert declared.labels.problems() == []
