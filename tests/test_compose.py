"""docker-compose.yml and Dockerfile against the compose schema, the real command line and the files of this tree."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from compose_spec import PyCompose

from penstock.embedded import KAFKA
from schemas.deployment import Deployment
from scripts.commands import command_problem

ROOT = Path(__file__).resolve().parent.parent
TEXT = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
COMPOSE: dict[str, Any] = yaml.safe_load(TEXT)
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
COMMANDS = {
    name: service["command"] for name, service in SERVICES.items() if "build" in service and "entrypoint" not in service
}


def parsed(text: str) -> PyCompose:
    """The file as the schema's parser sees it, after YAML's own merge keys; raises ValueError."""
    compose = PyCompose.from_yaml(yaml.safe_dump(yaml.safe_load(text)))
    compose.validate()
    return compose


def test_the_file_fits_the_compose_schema() -> None:
    compose = parsed(TEXT)
    assert set(compose.service_names()) == set(SERVICES)


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("healthcheck:", "healthchek:"),
        ("service_healthy", "healthy"),
        ("interval: 5s", "interval: soon"),
        ("image:", "imgae:"),
    ],
)
def test_the_compose_schema_refuses_a_misspelt_file(right: str, wrong: str) -> None:
    assert right in TEXT
    with pytest.raises(ValueError, match=r"."):
        parsed(TEXT.replace(right, wrong))


def test_kafka_worker_shadow_monitor_and_producer_are_started() -> None:
    starts = {name: command[0] for name, command in COMMANDS.items()}
    assert {"worker", "shadow", "monitor", "producer"} <= starts.keys()
    assert starts["worker"] == starts["shadow"] == "worker"
    assert SERVICES["kafka"]["image"] == f"apache/kafka:{KAFKA}"


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_is_one_that_the_command_line_understands(name: str) -> None:
    assert command_problem(COMMANDS[name], whole=True) is None


def test_a_renamed_option_would_be_noticed() -> None:
    assert "No such option" in (command_problem([*COMMANDS["worker"], "--slotted"], whole=True) or "")
    assert "No such command" in (command_problem(["work"], whole=True) or "")
    assert "is missing" in (command_problem(["worker"], whole=True) or "")
    assert "is not one of" in (command_problem(["worker", "d.yaml", "--log-format", "xml"], whole=True) or "")


def test_what_services_wait_for_and_mount_is_declared() -> None:
    for name, service in SERVICES.items():
        assert set(service.get("depends_on", {})) <= SERVICES.keys(), name
        assert {volume.split(":")[0] for volume in service.get("volumes", [])} <= COMPOSE["volumes"].keys(), name


def test_what_must_be_healthy_has_a_health_check() -> None:
    for service in SERVICES.values():
        for needed, condition in service.get("depends_on", {}).items():
            assert condition["condition"] != "service_healthy" or "healthcheck" in SERVICES[needed]


def test_files_that_commands_name_exist_and_reach_the_image() -> None:
    for command in COMMANDS.values():
        for word in command:
            if word.startswith("examples/"):
                assert (ROOT / word).exists(), word
    copied = re.findall(r"^COPY (?:--\S+ )?(.*) \S+$", (ROOT / "Dockerfile").read_text(encoding="utf-8"), re.M)
    for name in " ".join(copied).split():
        assert (ROOT / name).exists(), name


def test_the_input_topic_is_the_one_that_the_deployment_reads() -> None:
    declared = yaml.safe_load((ROOT / "examples/flights/deployment.yaml").read_text(encoding="utf-8"))
    deployment = Deployment.model_validate(declared)
    assert f"--topic={deployment.input.topic}" in SERVICES["topics"]["command"]


def test_ports_are_published_on_loopback_only() -> None:
    for service in SERVICES.values():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))
