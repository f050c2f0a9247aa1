"""`penstock validate`: whether a deployment can run, found out before anything runs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import click

from penstock.cli.common import Refusal, open_repository, repository_option, said_plainly

if TYPE_CHECKING:
    from models.bundle import Bundle
    from penstock.config import Loaded


class Bundles(Protocol):
    """Finds the bundle of a reference; a repository is one."""

    def load(self, ref: str) -> Bundle:
        """Raises an error of models."""


@click.command("validate")
@click.argument("deployment", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@repository_option
def command(deployment: Path, repository: str | None) -> None:
    """Check DEPLOYMENT (a YAML file) against its event schema and the models of its arms, and list every mismatch.

    Exit status: 0 it can run, 2 it cannot.
    """
    with said_plainly():
        from penstock.config import load_deployment

        loaded = load_deployment(deployment)
        found = list(problems(loaded, open_repository(repository)))
    for problem in found:
        click.echo(f"{deployment}: {problem}", err=True)
    if found:
        raise Refusal(f"{len(found)} problem{'s' if len(found) > 1 else ''}; nothing was started")
    arms = ", ".join(f"{name} {model}" for name, model in loaded.deployment.references.items())
    click.echo(f"{deployment}: {loaded.deployment.name} can run ({arms})")


def problems(loaded: Loaded, repository: Bundles) -> Iterator[str]:
    """Every reason why the deployment cannot run, each with its place."""
    from schemas.errors import SchemaError
    from schemas.resolve import columns_of

    try:
        columns_of(loaded.reader)
    except SchemaError as error:
        yield f"input.schema: {error}"
        return
    yield from _event_time_problem(loaded)
    bundles: dict[str, Bundle] = {}
    for name, model in loaded.deployment.references.items():
        for problem in _arm_problems(loaded, name, model, repository, bundles):
            yield f"arm {name} ({model}): {problem}"
    yield from _monitor_problems(loaded, bundles)
    yield from _label_problems(loaded, bundles)
    yield from _output_problems(loaded, bundles)


def _event_time_problem(loaded: Loaded) -> Iterator[str]:
    import polars as pl

    from schemas.resolve import columns_of

    name = loaded.deployment.input.event_time
    dtype = columns_of(loaded.reader).get(name) if name else None
    if dtype is not None and not isinstance(dtype, pl.Datetime) and dtype != pl.Int64:
        yield f"input.event_time: {name!r} is {dtype}; declare it as timestamp-millis, timestamp-micros or long"


def _arm_problems(
    loaded: Loaded, name: str, model: str, repository: Bundles, bundles: dict[str, Bundle]
) -> Iterator[str]:
    from models.contract import mismatches
    from models.describe import disagreements
    from models.errors import ModelError
    from models.graph import examine

    try:
        bundle = bundles[name] = repository.load(model)
        yield from disagreements(bundle.manifest, examine(bundle.model))
    except ModelError as error:
        yield str(error)
        return
    yield from mismatches(loaded.reader, bundle.manifest, loaded.deployment.missing)


def _monitor_problems(loaded: Loaded, bundles: dict[str, Bundle]) -> Iterator[str]:
    """What workers and `penstock monitor` would refuse: an active model that says nothing about its training data."""
    from models.errors import ReferenceInvalid
    from models.reference import Reference
    from penstock.cli.monitor import weights_problem
    from schemas.deployment import ACTIVE

    bundle, monitor = bundles.get(ACTIVE), loaded.deployment.monitor
    if monitor and monitor.weights and len(bundles) == len(loaded.deployment.references):
        told = [each.reference for each in bundles.values() if each.reference is not None]
        try:
            problem = weights_problem(monitor.weights, map(Reference.from_bytes, told)) if told else ""
        except ReferenceInvalid as error:
            problem = str(error)
        if problem:
            yield problem
    if loaded.deployment.monitor and bundle is not None and bundle.reference is None:
        yield (
            f"monitor: {loaded.deployment.references[ACTIVE]} has no reference profile to compare with; put one in "
            "with `penstock reference build` and `penstock reference attach`, or take `monitor` out"
        )


def _label_problems(loaded: Loaded, bundles: dict[str, Bundle]) -> Iterator[str]:
    """Labels and segments that do not fit the models whose workers sample: those of the active arm and of shadows."""
    from models.reference import Reference
    from schemas.errors import DeploymentInvalid, SchemaError
    from schemas.resolve import columns_of
    from streams.segments import segments_of

    deployment, columns = loaded.deployment, columns_of(loaded.reader)
    if deployment.labels is not None:
        try:
            columns_of(deployment.labels.reader)
        except SchemaError as error:
            yield f"labels.schema: {error}"
    for name, bundle in bundles.items():
        if name not in deployment.groups or deployment.sampling is None:
            continue
        place = f"arm {name} ({deployment.references[name]})"
        try:
            if deployment.labels is not None:
                yield from (f"{place}: {found}" for found in deployment.labels.mismatches(bundle.manifest.fields))
                judged = deployment.labels.output_of(bundle.manifest.fields)
                if problem := deployment.labels.misfit(judged):
                    yield f"{place}: {problem}"
            reference = Reference.from_bytes(bundle.reference) if bundle.reference is not None else None
            segments_of(deployment.segments, columns, reference)
        except DeploymentInvalid as error:
            yield from (f"{place}: {problem}" for problem in error.problems)
        except SchemaError as error:
            yield f"{place}: {error}"


def _output_problems(loaded: Loaded, bundles: dict[str, Bundle]) -> Iterator[str]:
    """Inferences that cannot be declared, and arms that share a topic but not their outputs."""
    from models.errors import ContractBroken
    from models.runtimes.constant import Constant
    from schemas.deployment import ACTIVE
    from schemas.errors import SchemaError
    from schemas.inference import InferenceCodec
    from schemas.resolve import columns_of

    columns, deployment, models = columns_of(loaded.reader), loaded.deployment, loaded.deployment.references
    echo = [(name, columns[name]) for name in deployment.output.echo if name in columns]
    fields = {name: list(bundle.manifest.fields) for name, bundle in bundles.items()}
    active = fields.get(ACTIVE)
    for name, outputs in fields.items():
        try:
            InferenceCodec(deployment.name, outputs, echo)
        except SchemaError as error:
            yield f"arm {name} ({models[name]}): {error}"
        if active is not None and outputs != active and not deployment.is_shadow(name):
            names, others = [field.name for field in active], [field.name for field in outputs]
            yield (
                f"arm {name} ({models[name]}): writes to {deployment.output.topic} as the active arm does, but its "
                f"outputs are {others} and not {names}, or of other types; try it as a shadow, which has its own topic"
            )
    if active is not None and deployment.constant is not None:
        try:
            Constant(active, deployment.constant)
        except ContractBroken as error:
            yield from error.mismatches
