"""The documents tell the truth: keys, metrics, dependencies, commands, files, links; and these checks can fail."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any, get_args

import pytest
from packaging.requirements import Requirement
from prometheus_client import CollectorRegistry
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from monitoring.metrics import MonitorMetrics
from schemas.deployment import (
    Arm,
    Check,
    Constant,
    Deployment,
    Input,
    Limits,
    Monitor,
    Operations,
    Output,
    Quality,
    Quotas,
)
from schemas.labels import Labels, Metric
from schemas.values import Reason
from scripts.project_checks import ROOT, document_problems, forbidden_problems, problems, size_problems, texts
from streams.findings import COUNTS, WRONG
from streams.metrics import WorkerMetrics

DOCS = {path.name: text for path, text in texts(ROOT) if path.suffix == ".md"}
SECTIONS: list[type[BaseModel]] = [
    Deployment,
    Input,
    Check,
    Output,
    Arm,
    Constant,
    Monitor,
    Operations,
    Quality,
    Labels,
    Metric,
    Limits,
    Quotas,
]


def rows(text: str) -> dict[str, list[str]]:
    """The rows of a document's tables whose first cell is inline code: name -> the other cells."""
    found = {}
    for line in text.splitlines():
        if match := re.match(r"^\| `([^`]+)` \|(.*)\|$", line):
            found[match[1]] = [cell.strip() for cell in match[2].split(" | ")]
    return found


def section(text: str, heading: str) -> str:
    (found,) = re.findall(rf"(?ms)^## {heading}\n(.*?)(?=^## |\Z)", text)
    return str(found)


def test_this_checkout_has_no_problem() -> None:
    assert problems(ROOT) == []


@pytest.mark.parametrize("model", SECTIONS)
def test_every_key_of_a_deployment_is_documented_with_its_default(model: type[BaseModel]) -> None:
    documented = rows(section(DOCS["deployment.md"], model.__name__))
    fields = {field.alias or name: field for name, field in model.model_fields.items()}
    assert documented.keys() == fields.keys()
    for key, field in fields.items():
        default: Any = field.default
        told = documented[key][0].strip("`")
        if isinstance(default, BaseModel):
            continue
        expected = "required" if default is PydanticUndefined else "none" if default is None else str(default)
        assert told == expected, f"{model.__name__}.{key}"


@pytest.mark.parametrize(
    ("model", "key"),
    [
        (Arm, "role"),
        (Input, "framing"),
        (Check, "otherwise"),
        (Labels, "task"),
        (Deployment, "delivery"),
        (Monitor, "detector"),
    ],
)
def test_every_choice_of_a_key_is_documented(model: type[BaseModel], key: str) -> None:
    text = " ".join(rows(section(DOCS["deployment.md"], model.__name__))[key])
    assert [choice for choice in get_args(model.model_fields[key].annotation) if f"`{choice}`" not in text] == []


@pytest.mark.parametrize("page", ["deployment.md", "arms.md"])
def test_the_example_of_a_deployment_is_valid(page: str) -> None:
    import yaml

    (example,) = re.findall(r"```yaml\n(.*?)```", DOCS[page], re.S)
    assert Deployment.model_validate(yaml.safe_load(example)).name == "flights"


def exposed(registry: CollectorRegistry) -> set[str]:
    return {family.name + ("_total" if family.type == "counter" else "") for family in registry.collect()}


def test_every_metric_is_documented() -> None:
    worker, monitor = CollectorRegistry(), CollectorRegistry()
    WorkerMetrics(worker, deployment="d", arm="active", slot="0")
    MonitorMetrics(monitor, "d")
    assert rows(section(DOCS["operations.md"], "Metrics of a worker")).keys() == exposed(worker)
    assert rows(section(DOCS["operations.md"], "Metrics of a monitor")).keys() == exposed(monitor)


def test_every_reason_of_a_dead_letter_is_documented() -> None:
    text = DOCS["operations.md"].partition("### Reasons\n")[2].partition("\n## ")[0]
    assert list(rows(text)) == list(get_args(Reason))


def test_every_count_of_a_verification_is_documented_with_whether_it_is_wrong() -> None:
    lines = [line.split(" | ") for line in section(DOCS["operations.md"], "Verifying what was recorded").splitlines()]
    told = {name: cells[-1] for cells in lines if len(cells) == 3 for name in cells[0].strip("| ").split(", ")}
    assert told.keys() - {"count"} == COUNTS.keys()
    assert {name for name, wrong in told.items() if wrong.startswith("yes")} == set(WRONG)


def test_every_direct_dependency_has_a_reason() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    texts_ = [
        *project["dependencies"],
        *(text for extra in project["optional-dependencies"].values() for text in extra),
    ]
    direct = {Requirement(text).name for text in texts_} - {"penstock"}
    documented = {name.split("[")[0] for name in rows(DOCS["dependencies.md"])}
    assert documented == direct


def documents(tmp_path: Path, text: str) -> list[str]:
    (tmp_path / "streams").mkdir()
    (tmp_path / "streams" / "worker.py").write_text("class Worker: ...\n")
    (tmp_path / "page.md").write_text(text)
    return list(document_problems(tmp_path, {Path("page.md"): text}))


@pytest.mark.parametrize(
    "text",
    [
        "[gone](gone.md)",
        "# A\n[gone](#b)",
        "```bash\npenstock wrok d.yaml\n```",
        "```bash\n. x && penstock worker d.yaml --slotted 1\n```",
        "```bash\npenstock worker\n```",
        "```bash\nscripts/nothing\n```",
        "`penstock worker --slotted`",
        "`penstock broker start|halt`",
        "`streams/nothing.py`",
        "`streams.nothing`",
        "`streams.worker.Nothing`",
    ],
)
def test_a_document_that_names_what_does_not_exist_is_found(tmp_path: Path, text: str) -> None:
    (problem,) = documents(tmp_path, text)
    assert problem.startswith("page.md: ")


@pytest.mark.parametrize(
    "text",
    [
        "# A b\n[here](#a-b)",
        "```bash\nX=1 penstock worker d.yaml --slot 1  # comment\n```",
        "`penstock broker start|stop|status`",
        "`streams/worker.py` and `streams.worker.Worker` and the topic `penstock.schemas`",
        "## Rollout (later)\n`penstock apply FILE`\n### Deeper\n`streams.nothing`",
    ],
)
def test_a_document_that_names_what_exists_passes(tmp_path: Path, text: str) -> None:
    assert documents(tmp_path, text) == []


def test_a_section_after_a_later_one_is_checked_again(tmp_path: Path) -> None:
    assert len(documents(tmp_path, "## X (later)\n`streams.nothing`\n## Y\n`streams.nothing`")) == 1


def test_long_modules_and_functions_are_found_and_docstrings_do_not_count(tmp_path: Path) -> None:
    doc = '    """' + "x\n" * 70 + '    """\n'
    (tmp_path / "fine.py").write_text("def f() -> None:\n" + doc + "    x = 1\n" * 59)
    (tmp_path / "long.py").write_text("def f() -> None:\n" + "    x = 1\n" * 60 + "# more\n" * 500)
    found = list(size_problems(tmp_path))
    assert [problem.split(":")[0] for problem in found] == ["long.py", "long.py"]


@pytest.mark.parametrize("text", ["see py" + "pi.org", "open /ro" + "ot/x", "# TO" + "DO: later"])
def test_strings_that_do_not_belong_here_are_found(tmp_path: Path, text: str) -> None:
    (tmp_path / "file.md").write_text(text)
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv" / "file.md").write_text(text)
    (tmp_path / "picture.png").write_bytes(b"\xff\xfe\x00")
    assert len(list(forbidden_problems(tmp_path))) == 1
