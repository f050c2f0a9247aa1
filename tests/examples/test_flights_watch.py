"""What the demo shows of the alerts."""

from __future__ import annotations

import random
from types import SimpleNamespace
from typing import Any

from fastavro.utils import generate_one

from examples.flights.watch import Alerts
from schemas import records


def message(**fields: Any) -> Any:
    random.seed(0)
    alert: Any = generate_one(records.schema("alert"))
    encoded = records.encode("alert", {**alert, "deployment": "flights", "state": "opened", **fields})
    return SimpleNamespace(value=lambda: encoded)


def test_the_shadows_features_are_counted_and_not_shown() -> None:
    alerts = Alerts({}, "penstock.alerts", "flights")
    alerts.take([message(id="1", arm="shadow", kind="feature"), message(id="2", deployment="other")])
    assert (list(alerts.opened), list(alerts.new), alerts.told) == (["1"], [], False)

    alerts.take([message(id="3", arm="active", kind="feature"), message(id="4", arm="shadow", kind="output")])
    assert [alert["id"] for alert in alerts.new] == ["3", "4"]
    assert alerts.told


def test_an_alert_that_closes_did_not_open() -> None:
    alerts = Alerts({}, "penstock.alerts", "flights")
    alerts.take([message(id="1", arm="active", state="closed")])
    assert (list(alerts.opened), list(alerts.closed), alerts.told) == ([], ["1"], False)
