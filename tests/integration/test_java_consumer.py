"""Inferences are for everybody: a Java application reads them with nothing but the cluster's address."""

from __future__ import annotations

import datetime as dt
import json
import secrets
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from confluent_kafka import Producer

from penstock import jvm, maven
from schemas.inference import InferenceCodec, Lineage
from schemas.sources import SchemaTopic
from schemas.values import OutputField

pytestmark = pytest.mark.timeout(600)  # the first run on a machine downloads 28 MB

HERE = Path(__file__).parent
UTC = dt.UTC
ECHO: list[tuple[str, pl.DataType]] = [
    ("flight", pl.String()),
    ("distance", pl.Int32()),
    ("carrier", pl.Enum(["UA", "AA"])),
    ("scheduled", pl.Datetime("ms", "UTC")),
    ("international", pl.Boolean()),
    ("delays", pl.List(pl.Float64())),
]


def java(bootstrap_servers: str, topic: str, count: int) -> subprocess.CompletedProcess[str]:
    jars = maven.fetch(maven.Lock.read(HERE / "jars" / "consumer.toml"))
    script = [str(HERE / "consumer.js"), bootstrap_servers, topic, str(count)]
    options = ["-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Dfile.encoding=UTF-8"]
    main = "org.mozilla.javascript.tools.shell.Main"
    arguments = jvm.command(jars, main, "-version", "200", "-opt", "-1", *script, options=options)
    return subprocess.run(arguments, capture_output=True, text=True, timeout=150)


def codec() -> InferenceCodec:
    outputs = [
        OutputField("late_probability", "scalar", "double"),
        OutputField("late", "label", "string"),
        OutputField("classes", "vector", "double", classes=("early", "late")),
    ]
    return InferenceCodec(f"flights-{secrets.token_hex(4)}", outputs, ECHO)


def frame(of: InferenceCodec) -> pl.DataFrame:
    scheduled = dt.datetime(2013, 1, 1, 10, 15, tzinfo=UTC)
    rows: dict[str, Sequence[Any]] = {
        "source_partition": [0, 3],
        "source_offset": [41, 1 << 40],
        "event_time": [1_357_035_300_000, None],
        "late_probability": [0.25, None],
        "late": ["früh", None],
        "classes": [[0.75, 0.25], None],
        "flight": ["UA1545", None],
        "distance": [1400, None],
        "carrier": ["AA", None],
        "scheduled": [scheduled, None],
        "international": [True, None],
        "delays": [[1.5, None], []],
    }
    return pl.DataFrame(
        {name: pl.Series(rows[name], dtype=dict(ECHO).get(name, of.dtypes[name])) for name in of.columns}
    )


def lineage(of: InferenceCodec) -> Lineage:
    names = ("flights", "1d0c", "0123456789abcdef", "flights.events")
    return Lineage("flights", 7, "active", *names, "canary", 0.05, "missing_value")


def write(bootstrap_servers: str, topic: str, values: list[bytes]) -> None:
    producer = Producer({"bootstrap.servers": bootstrap_servers, "transactional.id": topic})
    producer.init_transactions(10)
    producer.begin_transaction()
    for value in values:
        producer.produce(topic, value, partition=0)
    producer.commit_transaction(10)


def test_java_reads_inferences_with_the_schema_that_the_messages_name(
    bootstrap_servers: str, topic: Callable[..., str]
) -> None:
    inferences = codec()
    schemas = SchemaTopic({"bootstrap.servers": bootstrap_servers})
    schemas.publish(inferences.schema)
    schemas.close()
    name = topic(2, "inferences")
    values = inferences.encode(frame(inferences), inferences.prefix(lineage(inferences)))
    write(bootstrap_servers, name, values)

    done = java(bootstrap_servers, name, len(values))

    assert done.returncode == 0, done.stderr
    read = [json.loads(line) for line in done.stdout.splitlines()]
    made = {
        "deployment": "flights",
        "revision": 7,
        "arm": "active",
        "model": "flights",
        "version": "1d0c",
        "event_schema": "0123456789abcdef",
        "source_topic": "flights.events",
        "assigned": "canary",
        "propensity": 0.05,
        "fallback": "missing_value",
    }
    full = {
        "source_partition": 0,
        "source_offset": 41,
        "event_time": 1_357_035_300_000,
        "late_probability": 0.25,
        "late": "früh",
        "classes": [0.75, 0.25],
        "flight": "UA1545",
        "distance": 1400,
        "carrier": "AA",
        "scheduled": 1_357_035_300_000,
        "international": True,
        "delays": [1.5, None],
    }
    empty: dict[str, Any] = {**dict.fromkeys(full), "source_partition": 3, "source_offset": 1 << 40, "delays": []}
    assert read == [{**made, **full}, {**made, **empty}]


def test_without_the_published_schema_java_cannot_read_them(bootstrap_servers: str, topic: Callable[..., str]) -> None:
    published, inferences = codec(), codec()
    schemas = SchemaTopic({"bootstrap.servers": bootstrap_servers})
    schemas.publish(published.schema)
    schemas.close()
    name = topic(1, "inferences")
    write(bootstrap_servers, name, inferences.encode(frame(inferences), inferences.prefix(lineage(inferences))))

    done = java(bootstrap_servers, name, 2)

    assert done.returncode == 4
    assert f"no schema {inferences.fingerprint} in penstock.schemas" in done.stderr
