"""A wheel built from this checkout, in an empty environment: what it carries, and that base dependencies suffice."""

from __future__ import annotations

import importlib.metadata
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PACKAGES = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
LOCK = (ROOT / "requirements.lock").read_text(encoding="utf-8")
ENTRIES = {entry.split("==")[0]: entry for entry in re.findall(r"(?m)^[a-z0-9].*(?:\n[ ].*)*", LOCK)}


def run(*command: str | Path, cwd: Path = ROOT) -> str:
    done = subprocess.run([str(word) for word in command], cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def needed_by_base() -> set[str]:
    """Names of the base dependencies and of all that they need, from the metadata installed here."""
    wanted = {Requirement(text).name for text in PROJECT["project"]["dependencies"]}
    found: set[str] = set()
    while wanted - found:
        name = (wanted - found).pop()
        found.add(name)
        for text in importlib.metadata.requires(name) or []:
            requirement = Requirement(text)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                wanted.add(requirement.name)
    return {normalised(name) for name in found}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy without anything that git ignores or that only lies about."""
    copy = tmp_path_factory.mktemp("clone")
    ignore = shutil.ignore_patterns("__pycache__", ".*")
    for name in (*PACKAGES, "tests", "benchmarks", "examples", "scripts"):
        if (ROOT / name).exists():
            shutil.copytree(ROOT / name, copy / name, ignore=ignore)
    for name in ("pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md"):
        shutil.copy(ROOT / name, copy / name)
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check")
    run(
        *pip,
        "wheel",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "--no-index",
        "--wheel-dir",
        copy / "dist",
        ".",
        cwd=copy,
    )
    (built,) = (copy / "dist").glob("*.whl")
    return built


@pytest.fixture(scope="module")
def empty(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Python of a fresh environment with the wheel and, by the lock with hashes, what its base dependencies are."""
    folder = tmp_path_factory.mktemp("empty")
    run(sys.executable, "-m", "venv", folder / "venv")
    python = folder / "venv" / "bin" / "python"
    base = folder / "base.txt"
    base.write_text("\n".join(ENTRIES[name] for name in sorted(needed_by_base())))
    pip = (python, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-deps")
    run(*pip, "--require-hashes", "--only-binary", ":all:", "-r", base)
    run(*pip, "--no-index", wheel)
    yield python
    shutil.rmtree(folder)


def test_the_wheel_carries_the_packages_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names} == {*PACKAGES, f"penstock-{PROJECT['project']['version']}.dist-info"}
    assert not [name for name in names if re.search(r"(^|/)(tests?|conftest)|__pycache__|\.pyc$", name)]


def test_the_wheel_carries_every_file_of_the_packages(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    files = {
        path.relative_to(ROOT).as_posix()
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.is_file() and path.suffix in {".py", ".avsc", ".toml", ".properties", ".typed", ".json"}
    }
    assert {Path(name).suffix for name in files} >= {".py", ".avsc", ".toml", ".properties", ".typed"}
    assert files <= names


def test_an_empty_environment_runs_the_command_line(empty: Path, tmp_path: Path) -> None:
    for command in (("--help",), ("--version",), ("produce", "--help"), ("worker", "--help"), ("model", "--help")):
        assert "penstock" in run(empty.parent / "penstock", *command, cwd=tmp_path)
    run(empty, "-m", "pip", "check")


def test_an_empty_environment_imports_the_client_without_the_extras(empty: Path, tmp_path: Path) -> None:
    heavy = "{'polars', 'numpy', 'onnx', 'onnxruntime', 'faust', 'pandas'}"
    run(empty, "-c", f"import sys, penstock.client; assert not sys.modules.keys() & {heavy}", cwd=tmp_path)
    with pytest.raises(AssertionError, match="No module named 'polars'"):
        run(empty, "-c", "import polars", cwd=tmp_path)


def test_a_command_without_its_extra_says_what_to_install(empty: Path, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "examples" / "flights", tmp_path / "flights")
    command = [
        str(empty.parent / "penstock"),
        "worker",
        "flights/deployment.yaml",
        "--bootstrap-servers",
        "127.0.0.1:1",
    ]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    assert "penstock[worker]" in done.stderr


def test_the_client_imports_nothing_heavy_even_where_it_is_installed() -> None:
    heavy = "{'polars', 'numpy', 'onnx', 'onnxruntime', 'faust', 'pandas', 'pydantic'}"
    run(
        sys.executable,
        "-c",
        f"import sys, penstock.client; found = sys.modules.keys() & {heavy}; assert not found, found",
    )


def test_no_other_distribution_owns_our_names() -> None:
    owners = importlib.metadata.packages_distributions()
    for package in PACKAGES:
        assert {normalised(owner) for owner in owners.get(package, ["penstock"])} == {"penstock"}, package


def test_every_direct_dependency_is_locked_with_hashes_and_within_its_bounds() -> None:
    project = PROJECT["project"]
    for text in (
        *project["dependencies"],
        *(text for extra in project["optional-dependencies"].values() for text in extra),
    ):
        requirement = Requirement(text)
        if requirement.name == "penstock":
            continue
        entry = ENTRIES[normalised(requirement.name)]
        version = entry.split("==")[1].split()[0]
        assert requirement.specifier.contains(version), text
    assert all("--hash=sha256:" in entry for entry in ENTRIES.values())
    assert not re.search(r"https?://|file:|^-", LOCK, re.M)


def test_the_build_backend_is_locked() -> None:
    assert {normalised(Requirement(text).name) for text in PROJECT["build-system"]["requires"]} <= ENTRIES.keys()
