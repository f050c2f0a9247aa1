"""Structured logs: one line an event, as text for people or as JSON for machines."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime


class JsonLines(logging.Formatter):
    """One JSON object a line: time, level, logger, message, the bound fields, and an exception's text."""

    def __init__(self, fields: dict[str, str]) -> None:
        super().__init__()
        self._fields = fields

    def format(self, record: logging.LogRecord) -> str:
        entry = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **self._fields,
        }
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return json.dumps(entry, ensure_ascii=False)


def set_up(form: str, fields: dict[str, str], level: int = logging.INFO) -> None:
    """Send logs to standard error. form: `text` or `json`; fields: what every line of this process carries."""
    handler = logging.StreamHandler(sys.stderr)
    if form == "json":
        handler.setFormatter(JsonLines(fields))
    else:
        names = " ".join(f"{name}={value}" for name, value in fields.items())
        handler.setFormatter(logging.Formatter(f"%(asctime)s %(levelname)s {names}: %(message)s"))
    logging.basicConfig(level=level, handlers=[handler], force=True)
