"""Training rows in files, read in chunks: memory is bounded by the chunk, however long the files are."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import polars as pl

from penstock.errors import TrainingRowsInvalid

CHUNK = 50_000  # rows
INFERRED = 10_000  # rows of a CSV file from which the types of its columns are read
BUCKET = 200_000  # offsets whose rows are put in order at a time
_PARTITION, _OFFSET, _BUCKET = "\0partition", "\0offset", "\0bucket"  # columns that no event can have
SUFFIXES = (".parquet", ".csv")
_LONG = (pl.UInt32, pl.Int64)
_INT = (pl.Int8, pl.Int16, pl.Int32, pl.UInt8, pl.UInt16)


@dataclass(frozen=True)
class TrainingFiles:
    """Parquet and CSV files with the same columns; a folder stands for all of them in it."""

    paths: tuple[Path, ...]

    @classmethod
    def found(cls, given: Sequence[Path]) -> TrainingFiles:
        """Return the files that are meant. Raises TrainingRowsInvalid for what is none."""
        paths: list[Path] = []
        for path in given:
            inside = [path] if path.is_file() else sorted(each for each in path.rglob("*") if each.suffix in SUFFIXES)
            if not inside or any(each.suffix not in SUFFIXES for each in inside):
                raise TrainingRowsInvalid(f"{path} is no Parquet or CSV file: name files that end in .parquet or .csv")
            paths += inside
        return cls(tuple(paths))

    @cached_property
    def columns(self) -> dict[str, Any]:
        """The columns of the files by name, with the type that an event's field has: name -> polars type.

        Raises TrainingRowsInvalid for a file that cannot be read, and where two files disagree.
        """
        found: dict[str, Any] = {}
        for path in self.paths:
            for name, dtype in _asked(path, lambda path=path: _scan(path).collect_schema()).items():
                told = event_type(dtype)
                if found.setdefault(name, told) != told:
                    raise TrainingRowsInvalid(
                        f"{path}: column {name} is {told}, but {found[name]} in a file before it: write all files with "
                        "the same types"
                    )
        return found

    def check(self, names: Sequence[str]) -> None:
        """Raise TrainingRowsInvalid, naming the likely one, where columns are absent."""
        for name in names:
            if name not in self.columns:
                close = difflib.get_close_matches(name, self.columns, 1)
                hint = f"did you mean {close[0]!r}?" if close else f"they have {', '.join(self.columns)}"
                raise TrainingRowsInvalid(f"no file has a column {name!r}; {hint}")

    def frames(self, names: Sequence[str]) -> Iterator[pl.DataFrame]:
        """Yield the rows of some columns, in order; a file that lacks one has nulls there.

        Raises TrainingRowsInvalid for a file that cannot be read.
        """
        for path in self.paths:
            here = _scan(path)
            known = _asked(path, here.collect_schema)
            wanted = [
                pl.col(name).cast(self.columns[name])
                if name in known
                else pl.lit(None, dtype=self.columns[name]).alias(name)
                for name in names
            ]
            chunks = iter(here.select(wanted).collect_batches(chunk_size=CHUNK, maintain_order=True))
            while (chunk := _asked(path, lambda chunks=chunks: next(chunks, None))) is not None:
                yield chunk


def event_type(dtype: Any) -> Any:
    """Return the type that a value of a column has in an event: Avro knows fewer of them."""
    if dtype in _INT:
        return pl.Int32()
    if dtype in _LONG:
        return pl.Int64()
    if dtype.is_numeric():
        return pl.Float32() if dtype == pl.Float32 else pl.Float64()
    if dtype in (pl.Categorical, pl.Enum):
        return pl.String()
    if isinstance(dtype, pl.Array | pl.List):
        return pl.List(event_type(dtype.inner))
    return dtype


def _scan(path: Path) -> pl.LazyFrame:
    if path.suffix == ".csv":
        return pl.scan_csv(path, infer_schema_length=INFERRED)
    return pl.scan_parquet(path)


def _asked(path: Path, ask: Any) -> Any:
    """Return an answer of polars. Raises TrainingRowsInvalid that names the file."""
    try:
        return ask()
    except (pl.exceptions.PolarsError, OSError) as error:
        told = str(error).strip().splitlines()
        hint = "; write it as Parquet, where columns have types" if path.suffix == ".csv" else ""
        raise TrainingRowsInvalid(f"{path} cannot be read: {told[0] if told else type(error).__name__}{hint}") from None


class Spool:
    """Frames kept in files of a folder, which is the caller's to remove, to be read as often as needed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files: dict[str, list[Path]] = {}
        self._buckets: dict[str, set[tuple[int, int]]] = {}

    def put(self, what: str, frame: pl.DataFrame) -> None:
        """Keep a frame."""
        files = self._files.setdefault(what, [])
        files.append(self._folder / f"{what}-{len(files)}.arrow")
        frame.write_ipc(files[-1])

    def frames(self, what: str) -> Iterator[pl.DataFrame]:
        """Yield the frames of a kind in the order in which they came."""
        return (pl.read_ipc(file) for file in self._files.get(what, []))

    def put_at(self, what: str, places: pl.DataFrame, frame: pl.DataFrame) -> None:
        """Keep a frame by the places of its rows: columns `partition` and `offset`, each place once."""
        bucket = (places["offset"] // BUCKET).alias(_BUCKET)
        kept = frame.with_columns(places["partition"].alias(_PARTITION), places["offset"].alias(_OFFSET), bucket)
        for (partition, at), part in kept.partition_by(_PARTITION, _BUCKET, as_dict=True).items():
            self._buckets.setdefault(what, set()).add((int(partition), int(at)))
            self.put(f"{what}-{partition}-{at}", part)

    def ordered(self, what: str) -> Iterator[pl.DataFrame]:
        """Yield what was kept by places in their order: kinds of the same events have their rows in the same order."""
        for partition, at in sorted(self._buckets.get(what, ())):
            found = pl.concat([*self.frames(f"{what}-{partition}-{at}")]).sort(_OFFSET)
            yield found.drop(_PARTITION, _OFFSET, _BUCKET)
