"""Alerts as they leave for other systems: CloudEvents for webhooks, and what the API of an Alertmanager takes; pure.

The same record gives the same event, whoever makes it and how often: receivers know a repeat by its id.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from penstock.cloudevents import PREFIX, Event
from schemas.silences import Silence

NAME = "Penstock"  # of alerts in an Alertmanager, with their kind behind it
LABELS = ("deployment", "arm", "model", "version", "kind", "name", "detector", "severity")
FIRES = timedelta(minutes=5)  # unless it is told again, an Alertmanager then takes an alert for resolved
Posted = dict[str, Any]


def event_of_alert(alert: Mapping[str, Any], source: str) -> Event:
    """Return the event of an alert record. source: a URI reference that names the cluster."""
    identity = f"{alert['id']}-{alert['number']}-{alert['state']}"
    kind = f"{PREFIX}.alert.{alert['state']}"
    event = {
        "specversion": "1.0",
        "id": identity,
        "source": source,
        "type": kind,
        "subject": alert["deployment"],
        "time": stamp(alert["at"]),
        "datacontenttype": "application/json",
        "data": {name: stamp(value) if isinstance(value, datetime) else value for name, value in alert.items()},
    }
    value = json.dumps(event, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
    return Event(identity, kind, alert["deployment"], value)


def labels_of(alert: Mapping[str, Any]) -> dict[str, str]:
    """Return the labels that an Alertmanager knows an alert by; empty ones are none."""
    severity = alert["severity"] if alert["state"] != "closed" else alert["worst"]
    told = {**{name: str(alert[name]) for name in LABELS}, "severity": severity}
    return {"alertname": NAME + alert["kind"].title(), **{name: value for name, value in told.items() if value}}


def posted(alert: Mapping[str, Any], now: datetime, link: str = "", ack: Silence | None = None) -> Posted:
    """Return an alert as the Alertmanager API v2 takes it: firing for a while from now, or resolved.

    link: where a person reads more. ack: somebody looks at it.
    """
    starts = min(alert["onset"], alert["at"], now)
    ends = now + FIRES if alert["state"] != "closed" else max(starts, min(alert["at"], now))
    annotations = {
        "summary": alert["summary"],
        "description": alert["action"],
        "alert": alert["id"],
        "members": ", ".join(alert["members"]),
        "acked": f"{ack.who}: {ack.why}" if ack is not None else "",
    }
    return {
        "labels": labels_of(alert),
        "annotations": {name: value for name, value in annotations.items() if value},
        "startsAt": stamp(starts),
        "endsAt": stamp(ends),
        **({"generatorURL": link} if link else {}),
    }


def resolved(labels: Mapping[str, str], now: datetime) -> Posted:
    """Return what ends an alert that an Alertmanager knows by labels which it has no more."""
    return {"labels": dict(labels), "annotations": {}, "endsAt": stamp(now)}


def stamp(moment: datetime) -> str:
    """Return a time as RFC 3339 says it, in UTC."""
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
