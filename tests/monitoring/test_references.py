"""References that are found when the first profile of a version comes: the same alerts whenever that is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from models.bundle import Bundle
from models.errors import BundleAltered, ModelNotFound, RepositoryUnavailable
from models.reference import Reference
from monitoring.errors import ReferenceUnavailable
from monitoring.folds import Folding, Record
from monitoring.profiles import Lineage, ProfileFold
from monitoring.references import PATIENCE, Finder, Stated
from monitoring.settings import Settings
from tests.models.graphs import linear_bundle
from tests.monitoring.traffic import DEPLOYMENT, Batches, events, fold_all, profiler, reference, told

SETTINGS = Settings(detector="windows", window_rows=1000)
LINEAGE = Lineage("active", "late", "v2", reference().digest)


@dataclass
class Models:
    """A repository: each answer is returned or raised, the last one again and again."""

    answers: list[Bundle | Exception]
    asked: list[str] = field(default_factory=list)

    def load(self, ref: str) -> Bundle:
        self.asked.append(ref)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


def bundle(kept: Reference | None = None) -> Bundle:
    return linear_bundle(reference=(kept or reference()).to_bytes())


class Clock:
    """Goes on by what is slept."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def finder(*answers: Bundle | Exception) -> tuple[Finder, Models, Clock]:
    models, clock = Models(list(answers)), Clock()
    return Finder(models, clock, clock.sleep), models, clock


def swapped() -> list[bytes]:
    """Profiles of one version, then of another whose traffic moves."""
    source = Batches(profiler())
    first = [*source.batches(30)]
    source.profiler = profiler(version="v2")
    return [*first, *source.batches(60), *source.batches(40, shift=2.0)]


def fold(known: bool = True, find: Callable[[Lineage], Reference | None] | None = None) -> ProfileFold:
    return ProfileFold(DEPLOYMENT, {reference().digest: reference()} if known else {}, 4, SETTINGS, find=find)


def test_a_reference_that_is_found_on_the_way_gives_the_same_alerts_as_one_known_from_the_start() -> None:
    find, models, _ = finder(RepositoryUnavailable("away"), bundle())
    outs = fold_all(fold(known=False, find=find), swapped())
    assert outs == fold_all(fold(), swapped())
    assert ("opened", "psi", "wind") in told(outs)
    assert models.asked == ["late@v1", "late@v1"]  # both versions have this one, and it is fetched once


def test_without_a_search_a_version_that_came_later_is_not_watched() -> None:
    assert fold_all(fold(known=False), swapped()) == []


def test_a_state_that_is_restored_finds_the_references_of_its_versions_again() -> None:
    values = swapped()
    whole = fold_all(fold(), values)
    for cut in (1, 40, 200, 399):
        find, _, _ = finder(bundle())
        before = Folding(fold(known=False, find=find), 0, 0)
        outs = [out for at, value in enumerate(values[:cut]) for out in before.apply(Record(0, at, b"k", value))]
        again, _, _ = finder(RepositoryUnavailable("away"), bundle())
        after = Folding(fold(known=False, find=again), 0, cut, before.dump())
        outs += [out for at, value in enumerate(values[cut:]) for out in after.apply(Record(0, cut + at, b"k", value))]
        assert outs == whole


def test_a_profile_waits_for_a_repository_that_is_away_and_then_ends_the_process() -> None:
    find, models, clock = finder(RepositoryUnavailable("away"))
    with pytest.raises(ReferenceUnavailable, match="the reference of late@v2 cannot be fetched: away"):
        find(LINEAGE)
    assert clock.now >= PATIENCE
    assert len(models.asked) > 10


@pytest.mark.parametrize(
    "answer",
    [
        ModelNotFound("gone"),
        BundleAltered("another"),
        linear_bundle(),
        bundle(Reference.from_frame(*events(500, 3))),
    ],
)
def test_a_version_that_the_repository_does_not_have_so_is_passed_over_and_asked_for_once(
    answer: Bundle | Exception,
) -> None:
    find, models, _ = finder(answer)
    folding = Folding(fold(known=False, find=find), 0, 0)
    for at, value in enumerate(Batches(profiler()).batches(3)):
        folding.apply(Record(0, at, b"k", value))
    assert folding.fold.facts(folding.state)["unknown_reference"] == 600
    assert models.asked == ["late@v1"]


def stating(**metrics: float) -> Bundle:
    return linear_bundle(reference=reference().to_bytes(), metrics=metrics)


@pytest.mark.parametrize(
    ("answer", "wrong"),
    [
        (stating(accuracy=0.9), pytest.approx(0.1)),
        (stating(auc=0.9), None),
        (stating(accuracy=1.0), None),
        (stating(accuracy=90.0), None),
        (ModelNotFound("gone"), None),
    ],
)
def test_how_good_a_version_is_stands_in_its_bundle_or_is_learned(answer: Bundle | Exception, wrong: object) -> None:
    models, clock = Models([RepositoryUnavailable("away"), answer]), Clock()
    assert Stated(models, clock, clock.sleep)("late", "v2") == wrong
    assert models.asked == ["late@v2", "late@v2"]


def test_a_repository_that_stays_away_ends_the_process_for_accuracies_too() -> None:
    models, clock = Models([RepositoryUnavailable("away")]), Clock()
    with pytest.raises(ReferenceUnavailable, match="the accuracy of late@v2 cannot be fetched: away"):
        Stated(models, clock, clock.sleep)("late", "v2")
