"""Drift that stays asks for a new version: which columns, since when, and the range of events to train it on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

from monitoring.alerts import COLUMNS, Told
from monitoring.cells import Lineage
from monitoring.episodes import Book
from monitoring.folds import Out, identity
from schemas import records

TOPIC = "penstock.retraining"


@dataclass(frozen=True, slots=True)
class Asking:
    """When a new version is asked for. after_ms: that an alert must have been open. events, labels: topics to train on.

    labels is empty where none are declared. topic: where requests go.
    """

    deployment: str
    after_ms: int
    events: str
    labels: str = ""
    topic: str = TOPIC

    def requests(self, lineage: Lineage, book: Book, asked: list[str], now: int) -> Iterator[Out]:
        """Yield a request where an alert about data or quality has been open for so long that none was made for.

        asked: ids of alerts that were in one, which this keeps. now: ms of record time, behind the last event.
        """
        open_, known = [record for record in book.told_open() if _counts(record)], book.known
        asked[:] = [identity for identity in asked if identity in known]  # one that comes back was asked for
        if not any(now - record["opened"] >= self.after_ms and record["id"] not in asked for record in open_):
            return
        asked += [record["id"] for record in open_ if record["id"] not in asked]
        yield self._request(lineage, open_, now)

    def _request(self, lineage: Lineage, found: list[Told], now: int) -> Out:
        arm, model, version = lineage
        key = identity(json.dumps([self.deployment, *lineage, sorted(record["id"] for record in found)]))
        request = {
            "id": key,
            "deployment": self.deployment,
            "arm": arm,
            "model": model,
            "version": version,
            "at": now,
            "features": sorted({record["name"] for record in found if record["kind"] in COLUMNS}),
            "reasons": [
                {
                    "alert": record["id"],
                    "kind": record["kind"],
                    "name": record["name"],
                    "onset": record["onset"],
                    "summary": record["summary"],
                }
                for record in found
            ],
            "topic": self.events,
            "labels": self.labels,
            "since": min(record["onset"] for record in found),
            "until": now,
        }
        return Out(self.topic, key.encode(), records.encode("retraining", request))


def _counts(record: Told) -> bool:
    """Say whether an alert is about what a model could learn; labels that stopped are not."""
    return record["kind"] in (*COLUMNS, "group", "quality") and record["detector"] != "silence"
