"""Files of events as encoded messages: CSV, JSON lines, Parquet. An error names file, line and column."""

from __future__ import annotations

import contextlib
import csv
import datetime
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, ClassVar

from penstock.client.errors import EventInvalid, FileInvalid
from penstock.client.events import EventEncoder
from penstock.client.fitting import unknown_field
from penstock.client.parsing import MISFITS, Parse, from_json, parser
from penstock.client.producer import key_bytes

ROWS = 4096  # events per chunk


@dataclass(frozen=True, slots=True)
class Chunk:
    """Consecutive events of a file: messages, their keys, and their event times in seconds since 1970."""

    values: list[bytes]
    keys: list[bytes | None]
    times: list[float | None]


class EventFile:
    """A file of events, encoded chunk by chunk.

    done, total: how far it is, in `unit`; ignored: columns that the schema does not have.
    Raises FileInvalid when the file cannot be read.
    """

    unit: ClassVar[str] = "bytes"

    def __init__(self, path: str | Path, encoder: EventEncoder) -> None:
        self.path, self.encoder = Path(path), encoder
        self.done = 0
        self.ignored: tuple[str, ...] = ()
        try:
            self.total = self.path.stat().st_size
        except OSError as error:
            raise FileInvalid(f"{path}: cannot be read ({error.strerror})") from None

    def chunks(self, key: str | None = None, event_time: str | None = None) -> Iterator[Chunk]:
        """The file from its start; `key` and `event_time` are fields of the schema.

        Raises EventInvalid with file, line and field; FileInvalid.
        """
        raise NotImplementedError


class TextFile(EventFile):
    """A file of lines."""

    def chunks(self, key: str | None = None, event_time: str | None = None) -> Iterator[Chunk]:
        self.done = 0
        seconds = _seconds(self.encoder, event_time)
        try:
            with self.path.open("rb") as stream:
                for events in _chunked(self.events(stream)):
                    self.done = stream.tell()
                    yield Chunk(
                        values=[self.encoder.write(event) for event in events],
                        keys=[key_bytes(event.get(key)) if key else None for event in events],
                        times=[seconds(event.get(event_time)) if event_time else None for event in events],
                    )
        except OSError as error:
            raise FileInvalid(f"{self.path}: cannot be read ({error.strerror})") from None
        self.done = self.total

    def events(self, stream: BinaryIO) -> Iterator[dict[str, Any]]:
        """The events, each checked against the schema."""
        raise NotImplementedError

    def _checked(self, event: dict[str, Any], line: int) -> dict[str, Any]:
        misfit = self.encoder.record.first_misfit(event)
        if misfit is not None:
            raise misfit.at(f"{self.path}: line {line}")
        return event


class CsvFile(TextFile):
    """Comma-separated values with a header line, UTF-8; an empty cell is null where the field may be null."""

    def events(self, stream: BinaryIO) -> Iterator[dict[str, Any]]:
        rows = csv.reader((self._text(line, number) for number, line in enumerate(stream, start=1)), strict=True)
        try:
            columns = self._columns(next(rows, []))
            width = len(columns)
            for row in rows:
                if not row:
                    continue
                if len(row) != width:
                    raise FileInvalid(f"{self.path}: line {rows.line_num}: {len(row)} values, the header has {width}")
                event = {}
                for column, cell in zip(columns, row, strict=True):
                    if column is not None:
                        name, parse = column
                        try:
                            event[name] = parse(cell)
                        except MISFITS:
                            raise self._misfit(name, cell, rows.line_num) from None
                yield self._checked(event, rows.line_num)
        except csv.Error as error:
            raise FileInvalid(f"{self.path}: line {rows.line_num}: {error}") from None

    def _columns(self, header: list[str]) -> list[tuple[str, Parse] | None]:
        """Per column the field's name and parser; None for a column that is not in the schema."""
        fields = {field["name"]: field for field in self.encoder.fields}
        if len(set(header)) != len(header):
            twice = next(name for name in header if header.count(name) > 1)
            raise FileInvalid(f"{self.path}: line 1: the column {twice!r} stands twice in the header")
        self.ignored = tuple(name for name in header if name not in fields)
        for name, expected in self.encoder.record.fields.items():
            if name not in header and "default" not in fields[name] and not expected.fits(None):
                hint = unknown_field(name, dict.fromkeys(self.ignored or header)).removeprefix("it ")
                raise EventInvalid(name, None, expected.words, found=f"the header {hint}", place=f"{self.path}: line 1")
        return [(name, parser(fields[name]["type"])) if name in fields else None for name in header]

    def _text(self, line: bytes, number: int) -> str:
        try:
            return line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            raise FileInvalid(f"{self.path}: line {number}: is not UTF-8 text ({error.reason})") from None

    def _misfit(self, name: str, cell: str, line: int) -> EventInvalid:
        words = self.encoder.record.fields[name].words
        return EventInvalid(name, cell, words, place=f"{self.path}: line {line}", found=f"found {cell[:80]!r}")


class JsonLinesFile(TextFile):
    """One JSON object a line. Times: ISO 8601 text or the integer; bytes: text of the code points 0 to 255."""

    def events(self, stream: BinaryIO) -> Iterator[dict[str, Any]]:
        converters = {
            field["name"]: convert for field in self.encoder.fields if (convert := from_json(field["type"])) is not None
        }
        for number, line in enumerate(stream, start=1):
            if not line.strip():
                continue
            try:
                event = json.loads(line)
            except ValueError as error:
                raise FileInvalid(f"{self.path}: line {number}: is not JSON: {error}") from None
            if not isinstance(event, dict):
                raise FileInvalid(f"{self.path}: line {number}: must be a JSON object, not {type(event).__name__}")
            for name, convert in converters.items():
                if isinstance(event.get(name), str):
                    with contextlib.suppress(*MISFITS):  # stays text, which the check refuses with the field's name
                        event[name] = convert(event[name])
            yield self._checked(event, number)


class ParquetFile(EventFile):
    """Parquet, read in slices by polars."""

    unit = "events"

    def __init__(self, path: str | Path, encoder: EventEncoder) -> None:
        super().__init__(path, encoder)
        try:
            import polars as pl
        except ImportError:
            raise FileInvalid(
                f"{path}: Parquet needs polars: install penstock[worker], or use CSV or JSON lines"
            ) from None
        try:
            self._scan = pl.scan_parquet(self.path)
            names = self._scan.collect_schema().names()
            self.total = int(self._scan.select(pl.len()).collect().item())
        except (pl.exceptions.PolarsError, OSError) as error:
            raise FileInvalid(f"{path}: is not a readable Parquet file: {error}") from None
        self.ignored = tuple(name for name in names if name not in encoder.record.fields)
        self._names = [name for name in names if name in encoder.record.fields]

    def chunks(self, key: str | None = None, event_time: str | None = None) -> Iterator[Chunk]:
        self.done = 0
        seconds = _seconds(self.encoder, event_time)
        while self.done < self.total:
            frame = self._scan.select(self._names).slice(self.done, ROWS).collect()
            try:
                values = self.encoder.encode_frame(frame, first_row=self.done)
            except EventInvalid as error:
                raise error.at(f"{self.path}: {error.place}".removesuffix(": ")) from None
            missing = [None] * len(frame)
            keys = frame[key].to_list() if key in self._names else missing
            times = frame[event_time].to_list() if event_time in self._names else missing
            yield Chunk(values, [key_bytes(each) for each in keys], [seconds(each) for each in times])
            self.done += len(frame)


FORMATS: dict[str, type[EventFile]] = {
    ".csv": CsvFile,
    ".jsonl": JsonLinesFile,
    ".ndjson": JsonLinesFile,
    ".parquet": ParquetFile,
}


def open_file(path: str | Path, encoder: EventEncoder) -> EventFile:
    """The file by its ending."""
    kind = FORMATS.get(Path(path).suffix.lower())
    if kind is None:
        raise FileInvalid(f"{path}: unknown kind of file; its name must end with {', '.join(FORMATS)}")
    return kind(path, encoder)


def _chunked(events: Iterator[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    chunk = []
    for event in events:
        chunk.append(event)
        if len(chunk) == ROWS:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def _seconds(encoder: EventEncoder, event_time: str | None) -> Callable[[Any], float | None]:
    """From a value of the field to seconds since 1970. Raises EventInvalid when the field is no time."""
    if event_time is None:
        return lambda value: None
    expected = encoder.record.fields.get(event_time)
    if expected is None or not expected.fits(datetime.datetime.now(datetime.UTC)):
        found = "it is none" if expected else unknown_field(event_time, encoder.record.fields)
        raise EventInvalid(event_time, None, "a timestamp field", found=found)
    micros = expected.words.count(" of us ") > 0

    def seconds(value: Any) -> float | None:
        if isinstance(value, datetime.datetime):
            return (value if value.tzinfo else value.replace(tzinfo=datetime.UTC)).timestamp()
        return None if value is None else float(value) / (1_000_000 if micros else 1_000)

    return seconds
