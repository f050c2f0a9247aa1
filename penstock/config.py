"""Where settings come from: options, environment, a running embedded broker, and a deployment's YAML file."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from penstock.errors import ConfigError

if TYPE_CHECKING:
    from schemas.deployment import Deployment

STATE_FOLDER = Path(".penstock")
KAFKA_PREFIX = "PENSTOCK_KAFKA_"
MEMBER_PREFIX = "group."
BOOTSTRAP = "PENSTOCK_BOOTSTRAP_SERVERS"


def kafka_settings(bootstrap_servers: str | None = None, environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return the librdkafka settings that reach the cluster.

    The address is the option, else PENSTOCK_BOOTSTRAP_SERVERS, else the embedded broker that `penstock broker start`
    left running here. PENSTOCK_KAFKA_SECURITY_PROTOCOL=SASL_SSL becomes `security.protocol`, and so on for every
    librdkafka setting but those of a group's members, see `member_settings`.
    Raises ConfigError when no address is known.
    """
    settings = {name: value for name, value in _kafka(environ).items() if not name.startswith(MEMBER_PREFIX)}
    servers = bootstrap_servers or environ.get(BOOTSTRAP) or _embedded_address()
    if not servers:
        raise ConfigError(
            f"no Kafka broker is known: give --bootstrap-servers HOST:PORT, set {BOOTSTRAP}, "
            "or start one here with `penstock broker start`"
        )
    return {**settings, "bootstrap.servers": servers}


def member_settings(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return the librdkafka settings that only a consumer that joins a group may have: `group.protocol` and the like.

    Producers and admin clients warn of them.
    """
    return {name: value for name, value in _kafka(environ).items() if name.startswith(MEMBER_PREFIX)}


def _kafka(environ: Mapping[str, str]) -> dict[str, str]:
    return {
        name.removeprefix(KAFKA_PREFIX).lower().replace("_", "."): value
        for name, value in environ.items()
        if name.startswith(KAFKA_PREFIX)
    }


def _embedded_address() -> str | None:
    try:
        address = json.loads((STATE_FOLDER / "broker.json").read_text())["bootstrap_servers"]
    except (OSError, ValueError, KeyError):
        return None
    return str(address)


def repository_url(option: str | None = None, environ: Mapping[str, str] = os.environ) -> str:
    """Return the model repository's fsspec URL: the option, else PENSTOCK_REPOSITORY, else `.penstock/models`."""
    return option or environ.get("PENSTOCK_REPOSITORY") or str(STATE_FOLDER / "models")


def names_file(text: str) -> bool:
    """Say whether a command was given a deployment's YAML file, and not the name of a deployment under control."""
    return text.endswith((".yaml", ".yml")) or Path(text).is_file()


@dataclass(frozen=True, slots=True)
class Loaded:
    """A deployment's declaration with the event schema it names."""

    deployment: Deployment
    reader: dict[str, Any]  # the event schema: the columns that the deployment reads
    path: Path


def load_deployment(path: str | Path) -> Loaded:
    """Read a deployment's YAML file and its event schema.

    Raises schemas.errors.DeploymentInvalid that lists every problem with its place and, for an
    unknown key, the likely one.
    """
    from pydantic import ValidationError

    from schemas.deployment import Deployment
    from schemas.errors import DeploymentInvalid
    from schemas.problems import problems_of

    path = Path(path)
    declared = read_yaml(path)
    try:
        deployment = Deployment.model_validate(declared)
    except ValidationError as error:
        raise DeploymentInvalid([f"{path}: {said}" for said in problems_of(error, Deployment)]) from None
    reader = _read_schema(path, path.parent / deployment.input.schema_file, "input")
    deployment = _with_label_schema(path, deployment)
    problems = _unknown_fields(path, deployment, reader)
    if deployment.labels is not None:
        problems += [f"{path}: {problem}" for problem in deployment.labels.problems()]
    if problems:
        raise DeploymentInvalid(problems)
    return Loaded(deployment, reader, path)


def read_yaml(path: Path, keys: str = "name, input, output and arms") -> dict[str, Any]:
    import yaml

    from schemas.errors import DeploymentInvalid

    try:
        with path.open() as file:  # which errors then name
            declared = yaml.safe_load(file)
    except OSError as error:
        raise DeploymentInvalid(
            [f"{path}: cannot be read ({error.strerror}); give the path of a YAML file with the keys {keys}"]
        ) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise DeploymentInvalid([f"{path}: is not YAML: {error}"]) from None
    if not isinstance(declared, dict):
        raise DeploymentInvalid([f"{path}: must hold the keys {keys}, not {type(declared).__name__}"])
    return declared


def _with_label_schema(path: Path, deployment: Deployment) -> Deployment:
    """Return the declaration with the labels' schema in the place of its path: who reads it later has no such file."""
    labels = deployment.labels
    if labels is None or not isinstance(labels.schema_file, str):
        return deployment
    schema = _read_schema(path, path.parent / labels.schema_file, "labels")
    return deployment.model_copy(update={"labels": labels.model_copy(update={"schema_file": schema})})


def _read_schema(path: Path, file: Path, key: str) -> dict[str, Any]:
    from schemas.errors import DeploymentInvalid

    place = f"{path}: {key}.schema"
    try:
        reader = json.loads(file.read_text())
    except OSError as error:
        raise DeploymentInvalid([f"{place}: {file} cannot be read ({error.strerror})"]) from None
    except ValueError as error:
        raise DeploymentInvalid([f"{place}: {file} is not JSON: {error}"]) from None
    if not isinstance(reader, dict) or reader.get("type") != "record" or not isinstance(reader.get("fields"), list):
        raise DeploymentInvalid([f"{place}: {file} must be an Avro record schema"])
    return reader


def _unknown_fields(path: Path, deployment: Deployment, reader: dict[str, Any]) -> list[str]:
    """Fields that the declaration names and the event schema lacks."""
    from schemas.problems import suggested

    known = {field.get("name") for field in reader["fields"] if isinstance(field, dict)}
    named = [(f"input.checks.{name}", name) for name in deployment.input.checks]
    named += [("output.echo", name) for name in deployment.output.echo]
    named += [(f"missing.{name}", name) for name in deployment.missing]
    if (monitor := deployment.monitor) is not None:
        named += [("monitor.segments", name) for name in monitor.segments]
        named += [("monitor.fairness", name) for name in monitor.fairness]
    named += [("input.event_time", deployment.input.event_time)] if deployment.input.event_time else []
    return [
        f"{path}: {place}: the event schema has no field {name!r}{suggested(name, sorted(map(str, known)))}"
        for place, name in named
        if name.split(".")[0] not in known
    ]
