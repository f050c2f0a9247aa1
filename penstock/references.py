"""References made from training rows: files as they are or scored by a model, or events that a deployment scored.

What must be computed is computed once and kept in a temporary folder, because a reference is made in two passes.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import polars as pl

from models.building import build
from models.bundle import Bundle
from models.reference import Reference
from models.repository import Repository
from models.runtimes.onnx import load
from penstock.errors import TrainingRowsInvalid
from penstock.training_rows import Spool, TrainingFiles
from streams.runner import Runner

if TYPE_CHECKING:
    from streams.building import Wanted
    from streams.reading import Point

MODEL_SECONDS = 60.0  # that a chunk of rows may take


@dataclass(frozen=True, slots=True)
class Made:
    """A reference, and what a person should know of how it came to be, as sentences."""

    reference: Reference
    notes: tuple[str, ...] = ()


class Besides(NamedTuple):
    """What is counted besides the columns: as of models.reference.Reference.from_frame."""

    segments: Sequence[str] = ()
    apart: Sequence[str] = ()
    unusual: bool = False


NOTHING = Besides()


def of_files(
    files: TrainingFiles, features: Sequence[str], outputs: Mapping[str, str], besides: Besides = NOTHING
) -> Made:
    """Return the reference of columns of files. outputs: name of an output -> its column.

    Raises TrainingRowsInvalid, ReferenceInvalid.
    """
    files.check([*features, *outputs.values()])

    def answers() -> Iterator[pl.DataFrame]:
        chosen = [pl.col(column).alias(name) for name, column in outputs.items()]
        return (frame.select(chosen) for frame in files.frames(list(dict.fromkeys(outputs.values()))))

    return Made(build(lambda: files.frames(features), answers if outputs else None, *besides))


def of_scored_files(files: TrainingFiles, bundle: Bundle, besides: Besides = NOTHING) -> Made:
    """Return the reference of the fields that a model reads, and of what it answers; rows that it refuses are left out.

    Raises TrainingRowsInvalid, ReferenceInvalid, or an error of models.
    """
    manifest = bundle.manifest
    levels = [field.name for field in manifest.partitions.fields] if manifest.partitions else []
    names = list(dict.fromkeys([*manifest.features, *levels]))
    files.check(names)
    refused, example, kept = Counter[str](), "", 0
    with (
        closing(load(bundle, {name: files.columns[name] for name in names})) as model,
        tempfile.TemporaryDirectory(prefix="penstock-reference-") as folder,
    ):
        runner, spool = Runner(model, MODEL_SECONDS), Spool(Path(folder))
        for frame in files.frames(names):
            ran = runner.run(frame)
            scored = frame.select(manifest.features)
            spool.put("features", scored if ran.rows is None else scored[ran.rows])
            spool.put("outputs", ran.outputs)
            refused.update(each.reason for each in ran.refused)
            example = example or next((each.detail for each in ran.refused), "")
            kept += len(ran.outputs)
        if not kept:
            raise TrainingRowsInvalid(f"{manifest.ref} refuses every row of the files; the first: {example or 'none'}")
        made = build(lambda: spool.frames("features"), lambda: spool.frames("outputs"), *besides)
    told = ", ".join(f"{count:,} {reason}" for reason, count in refused.most_common())
    return Made(made, (f"rows that the model refuses were left out: {told}; the first: {example}",) if refused else ())


@dataclass(frozen=True, slots=True)
class Past:
    """Which past events of a deployment are meant. model: a reference to the version that scored; None: the arm's."""

    kafka: Mapping[str, str]
    repository: str
    wanted: Wanted
    arm: str
    model: str | None
    begin: Point
    end: Point
    registry: str | None = None
    schema_folder: Path | None = None


def of_topic(past: Past, besides: Besides = NOTHING) -> Made:
    """Return the reference of events that a deployment scored, and of the outputs that it published of them.

    Raises Refused, ReferenceInvalid, or an error of models or schemas.
    """
    from schemas.decode import EventDecoder
    from schemas.sources import SchemaTopic
    from streams.assembly import writers_of
    from streams.reading import TopicReader
    from streams.scored import PastScores
    from streams.stretch import stretch_of

    deployment = past.wanted.deployment
    manifest = _bundle(past).manifest
    schemas = SchemaTopic(past.kafka)
    reader = TopicReader(past.kafka, f"penstock.{deployment.name}.reference")
    try:
        writers = writers_of(schemas, past.registry, past.schema_folder)
        decoder = EventDecoder(
            past.wanted.reader,
            writers=writers,
            framing=deployment.input.framing,
            checks=deployment.input.checks,
            event_bytes=deployment.limits.event_bytes,
        )
        stretch = stretch_of(reader, deployment.input.topic, past.begin, past.end)
        scores = PastScores(reader, deployment, stretch, past.arm, manifest)
        with tempfile.TemporaryDirectory(prefix="penstock-reference-") as folder:
            spool = Spool(Path(folder))
            for found in scores.outputs(writers):
                spool.put_at("outputs", *found)
            for found in scores.features(decoder):
                spool.put_at("features", *found)
            made = build(lambda: spool.ordered("features"), lambda: spool.ordered("outputs"), *besides)
    finally:
        reader.close()
        schemas.close()
    return Made(made, tuple(_notes(stretch.told(), stretch.cut, scores.others, manifest.version)))


def _notes(told: Sequence[object], cut: Mapping[int, int], others: Counter[str], version: str) -> Iterator[str]:
    yield f"of the events {', '.join(map(str, told))}, those that version {version} scored"
    if cut:
        yield "retention has removed events of the range, or may have; the reference is of those that are left"
    for other, count in others.most_common(5):
        yield f"{count:,} events were scored by version {other} and left out"


def _bundle(past: Past) -> Bundle:
    """Return the version that scored: the one named, or what the arm has now."""
    from penstock.errors import ConfigError

    repository = Repository(past.repository)
    if past.model is not None:
        return repository.load(past.model)
    if past.arm in past.wanted.pins:
        return repository.load_pinned(*past.wanted.pins[past.arm])
    references = past.wanted.deployment.references
    if past.arm not in references:
        raise ConfigError(
            f"deployment {past.wanted.deployment.name} has no arm {past.arm}; it has {', '.join(references)}"
        )
    return repository.load(references[past.arm])
