"""`penstock validate`: whether a deployment can run, found out before anything runs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from penstock.cli.common import repository_option, said_plainly
from penstock.cli.model import open_repository

if TYPE_CHECKING:
    from models.bundle import Bundle
    from models.repository import Repository
    from penstock.config import Loaded
    from schemas.deployment import Arm


@click.command("validate")
@click.argument("deployment", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@repository_option
def command(deployment: Path, repository: str | None) -> None:
    """Check DEPLOYMENT (a YAML file) against its event schema and the models of its arms, and list every mismatch."""
    with said_plainly():
        from penstock.config import load_deployment

        loaded = load_deployment(deployment)
        found = list(problems(loaded, open_repository(repository)))
    for problem in found:
        click.echo(f"{deployment}: {problem}", err=True)
    if found:
        raise click.ClickException(f"{len(found)} problem{'s' if len(found) > 1 else ''}; nothing was started")
    arms = ", ".join(f"{arm.role} {arm.model}" for arm in loaded.deployment.arms)
    click.echo(f"{deployment}: {loaded.deployment.name} can run ({arms})")


def problems(loaded: Loaded, repository: Repository) -> Iterator[str]:
    """Every reason why the deployment cannot run, each with its place."""
    from schemas.errors import SchemaError
    from schemas.resolve import columns_of

    try:
        columns_of(loaded.reader)
    except SchemaError as error:
        yield f"input.schema: {error}"
        return
    yield from _event_time_problem(loaded)
    bundles: dict[int, Bundle] = {}
    for place, arm in enumerate(loaded.deployment.arms):
        for problem in _arm_problems(loaded, arm, repository, bundles, place):
            yield f"arms.{place} ({arm.role} {arm.model}): {problem}"
    yield from _monitor_problems(loaded, bundles)
    yield from _output_problems(loaded, bundles)


def _event_time_problem(loaded: Loaded) -> Iterator[str]:
    import polars as pl

    from schemas.resolve import columns_of

    name = loaded.deployment.input.event_time
    dtype = columns_of(loaded.reader).get(name) if name else None
    if dtype is not None and not isinstance(dtype, pl.Datetime) and dtype != pl.Int64:
        yield f"input.event_time: {name!r} is {dtype}; declare it as timestamp-millis, timestamp-micros or long"


def _arm_problems(
    loaded: Loaded, arm: Arm, repository: Repository, bundles: dict[int, Bundle], place: int
) -> Iterator[str]:
    from models.contract import mismatches
    from models.describe import disagreements
    from models.errors import ModelError
    from models.graph import examine

    try:
        bundle = bundles[place] = repository.load(arm.model)
        yield from disagreements(bundle.manifest, examine(bundle.model))
    except ModelError as error:
        yield str(error)
        return
    yield from mismatches(loaded.reader, bundle.manifest, loaded.deployment.missing)


def _monitor_problems(loaded: Loaded, bundles: dict[int, Bundle]) -> Iterator[str]:
    """What `penstock monitor` would refuse: an active model that says nothing about its training data."""
    for place, bundle in bundles.items():
        arm = loaded.deployment.arms[place]
        if loaded.deployment.monitor and arm.role == "active" and bundle.reference is None:
            yield (
                f"monitor: {arm.model} has no reference profile to compare with; build its bundle with one "
                "(models.reference.Reference.from_frame), or take `monitor` out"
            )


def _output_problems(loaded: Loaded, bundles: dict[int, Bundle]) -> Iterator[str]:
    """Inferences that cannot be declared, and arms that share a topic but not their outputs."""
    from schemas.errors import SchemaError
    from schemas.inference import InferenceCodec
    from schemas.resolve import columns_of

    columns = columns_of(loaded.reader)
    deployment = loaded.deployment
    echo = [(name, columns[name]) for name in deployment.output.echo if name in columns]
    fields = {place: list(bundle.manifest.fields) for place, bundle in bundles.items()}
    active = next((fields[p] for p, arm in enumerate(deployment.arms) if arm.role == "active" and p in fields), None)
    for place, outputs in fields.items():
        arm = deployment.arms[place]
        try:
            InferenceCodec(deployment.name, outputs, echo)
        except SchemaError as error:
            yield f"arms.{place} ({arm.role} {arm.model}): {error}"
        if arm.topic is None and active is not None and outputs != active:
            names, others = [field.name for field in active], [field.name for field in outputs]
            yield (
                f"arms.{place} ({arm.role} {arm.model}): writes to {deployment.output.topic} as the active arm does, "
                f"but its outputs are {others} and not {names}, or of other types; give the arm a topic"
            )
