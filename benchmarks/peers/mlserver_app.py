"""MLServer on Kafka, by settings alone, with a custom runtime.

usage: python mlserver_app.py SERVERS JOB.json SOURCE TARGET GROUP MODEL [BATCH]
BATCH: how many requests its adaptive batching puts together at most; 1, the default, turns it off.

It reads inference requests of the V2 protocol as JSON, not the events of the other peers: `request` makes one of an
event's features, its record needs HEADERS, and `score` reads an answer, which has the key of its request. It joins no
group and commits nothing, and it reads only what arrives after it started, whatever JOB.json and GROUP say.
"""

from __future__ import annotations

import json
import socket
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

MODEL = "peer"
HEADERS = [("mlserver-model", MODEL.encode())]  # a record without it is refused
WITHIN = 0.005  # seconds that adaptive batching waits for a full batch
LOOPBACK = "127.0.0.1"


def request(number: int, row: Sequence[float]) -> bytes:
    """Return the inference request of event `number`; the record's key must be the number, too."""
    entry = {"name": "features", "shape": [1, len(row)], "datatype": "FP32", "data": list(row)}
    return json.dumps({"id": str(number), "inputs": [entry]}).encode()


def score(value: bytes) -> float:
    """Return the score of an answer."""
    return float(json.loads(value)["outputs"][0]["data"][0])


def settings(servers: str, source: str, target: str) -> dict[str, Any]:
    """The server's settings: its documentation's, with what a small model on few cores asks for."""
    http, grpc, metrics = free_ports(3)
    return {
        "debug": False,
        "host": LOOPBACK,
        "http_port": http,
        "grpc_port": grpc,
        "metrics_port": metrics,
        "kafka_enabled": True,
        "kafka_servers": servers,
        "kafka_topic_input": source,
        "kafka_topic_output": target,
        "parallel_workers": 0,  # in this process: a worker costs more than it does for a small model
        # By default two lines for each request.
        "logging_settings": {
            "version": 1,
            "disable_existing_loggers": False,
            "loggers": {"mlserver": {"level": "WARNING"}, "uvicorn": {"level": "WARNING"}},
        },
    }


def model_settings(model: Path, batch: int) -> dict[str, Any]:
    told: dict[str, Any] = {
        "name": MODEL,
        "implementation": "mlserver_runtime.Runtime",
        "parameters": {"uri": str(model)},
    }
    return told | ({"max_batch_size": batch, "max_batch_time": WITHIN} if batch > 1 else {})


def free_ports(count: int) -> list[int]:
    """Return ports that were free a moment ago, all different."""
    with ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind((LOOPBACK, 0))
        return [each.getsockname()[1] for each in sockets]


def main(servers: str, source: str, target: str, model: str, batch: int) -> None:
    from mlserver.cli.main import main as command  # type: ignore[import-not-found]

    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder, MODEL)
        root.mkdir()
        (root / "settings.json").write_text(json.dumps(settings(servers, source, target)))
        (root / "model-settings.json").write_text(json.dumps(model_settings(Path(model).resolve(), batch)))
        sys.argv = ["mlserver", "start", str(root)]
        command()


if __name__ == "__main__":
    _, servers_, _, source_, target_, _, model_, *extra = sys.argv
    main(servers_, source_, target_, model_, int(extra[0]) if extra else 1)
