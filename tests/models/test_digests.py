"""What a repository says of one version, asked for quickly: the same as the whole repository says, right or wrong."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from models.bundle import Bundle
from models.digests import stated
from models.errors import BundleAltered, ModelNotFound, RepositoryUnavailable
from models.repository import Repository
from tests.rig import ROOT, sum_model


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    made = Repository(str(tmp_path / "models"), tmp_path / "cache")
    made.add(Bundle.build(name="sum", model=sum_model(), features=["a", "b"]), tags=["production"])
    return made


def entry(repository: Repository) -> Path:
    (found,) = Path(repository.url).glob("sum/*/entry.json")
    return found


@pytest.mark.parametrize("scheme", ["", "file://"])
def test_the_digest_is_the_one_that_the_repository_knows(repository: Repository, scheme: str) -> None:
    known = repository.resolve("sum@production")
    assert stated(scheme + repository.url, known.ref).digest == known.digest


def test_a_folder_is_read_without_what_reads_other_repositories(repository: Repository) -> None:
    known = repository.resolve("sum@production")
    text = (
        f"import sys; from models.digests import stated; stated({repository.url!r}, {known.ref!r}); "
        "print('fsspec' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", text], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_what_is_not_there_or_altered_is_said_as_the_repository_says_it(repository: Repository) -> None:
    known = repository.resolve("sum@production")
    with pytest.raises(ModelNotFound, match="has no version or tag"):
        stated(repository.url, "sum@2ed57e49-8491-53d3-975e-8e89c9f6ddf4")
    with pytest.raises(RepositoryUnavailable, match="there is no repository at"):
        stated(repository.url + "-away", known.ref)
    for content in ("no JSON", json.dumps({"digest": 3})):
        entry(repository).write_text(content)
        with pytest.raises(BundleAltered, match="add the version again"):
            stated(repository.url, known.ref)
