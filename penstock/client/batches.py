"""Many inferences as one polars frame: the topic's messages decoded block-wise, like the worker decodes events."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import polars as pl
from confluent_kafka import Message

from penstock.client.errors import RecordUnreadable
from penstock.client.records import RecordDecoder, fingerprint_of, unreadable
from schemas.decode import EventDecoder

POSITION: dict[str, Any] = {
    "_key": pl.Binary,
    "_partition": pl.Int32,
    "_offset": pl.Int64,
    "_timestamp": pl.Datetime("ms", "UTC"),
}


class FrameDecoder:
    """Frames of a topic's messages; keeps one block decoder per schema."""

    def __init__(self, decoder: RecordDecoder) -> None:
        self._decoder = decoder
        self._blocks: dict[bytes, EventDecoder] = {}

    def decode(self, messages: Sequence[Message]) -> tuple[pl.DataFrame, list[RecordUnreadable]]:
        """The readable messages in their order, and what is wrong with the others.

        Raises schemas.errors.SourceUnavailable when the schema topic does not answer.
        """
        wrong: list[RecordUnreadable] = []
        groups: dict[bytes, list[int]] = {}
        for row, message in enumerate(messages):
            try:
                groups.setdefault(fingerprint_of(message), []).append(row)
            except RecordUnreadable as error:
                wrong.append(error)
        parts = [self._part(fingerprint, messages, rows, wrong) for fingerprint, rows in groups.items()]
        if not parts:
            return pl.DataFrame(schema=POSITION), wrong
        frame = pl.concat(parts, how="diagonal_relaxed") if len(parts) > 1 else parts[0]
        return (frame.sort("_row") if len(parts) > 1 else frame).drop("_row"), wrong

    def _part(
        self, fingerprint: bytes, messages: Sequence[Message], rows: list[int], wrong: list[RecordUnreadable]
    ) -> pl.DataFrame:
        """The rows of one schema, with their positions and their places in `messages`."""
        try:
            decoder = self._block(messages[rows[0]], fingerprint)
        except RecordUnreadable as error:
            wrong.extend(unreadable(messages[row], error.reason) for row in rows)
            return pl.DataFrame(schema={**POSITION, "_row": pl.Int64})
        decoded = decoder.decode([messages[row].value() for row in rows])
        for rejection in decoded.rejected:
            wrong.append(unreadable(messages[rows[rejection.row]], f"{rejection.reason}: {rejection.detail}"))
        kept = rows if decoded.rows is None else [rows[row] for row in decoded.rows.tolist()]
        return decoded.frame.with_columns(
            pl.Series("_key", [messages[row].key() for row in kept], dtype=pl.Binary),
            pl.Series("_partition", [messages[row].partition() for row in kept], dtype=pl.Int32),
            pl.Series("_offset", [messages[row].offset() for row in kept], dtype=pl.Int64),
            pl.Series("_timestamp", [messages[row].timestamp()[1] for row in kept], dtype=pl.Int64).cast(
                POSITION["_timestamp"]
            ),
            pl.Series("_row", kept, dtype=pl.Int64),
        )

    def _block(self, message: Message, fingerprint: bytes) -> EventDecoder:
        if fingerprint not in self._blocks:
            schema = self._decoder.schema(message, fingerprint)
            self._blocks[fingerprint] = EventDecoder(schema, writers=self._decoder.writers, framing="single_object")
        return self._blocks[fingerprint]
