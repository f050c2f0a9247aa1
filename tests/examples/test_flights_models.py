"""The committed bundles are what the training script makes, and serve what scikit-learn trained."""

from __future__ import annotations

import itertools
from functools import cache

import numpy as np
import polars as pl
import pytest

from examples.flights import data, train
from examples.flights.score import auc, auc_by_month
from models.binning import Binner
from models.bundle import Bundle
from models.contract import mismatches
from models.reference import Reference
from monitoring import drift
from penstock.config import load_deployment


@cache
def year() -> data.Year:
    return data.load().every(40)


@pytest.mark.parametrize("recipe", train.RECIPES, ids=lambda recipe: recipe.tag)
def test_the_converted_model_scores_as_scikit_learn_does(recipe: train.Recipe) -> None:
    winter, spring = year().months(1, 3), year().months(4, 5)
    pipeline = train.fit(recipe, winter)
    expected = pipeline.predict_proba(train._table(spring.events, recipe.texts))[:, 1]
    scores = train.score(train.to_onnx(pipeline, recipe), recipe, spring.events).to_numpy()
    assert np.abs(scores - expected).max() < 1e-5


@pytest.mark.parametrize("recipe", train.RECIPES, ids=lambda recipe: recipe.tag)
def test_training_twice_gives_the_same_bytes(recipe: train.Recipe) -> None:
    first, second = (train.build(recipe, year())[0] for _ in range(2))
    assert first.to_zip() == second.to_zip()


@pytest.mark.parametrize("recipe", train.RECIPES, ids=lambda recipe: recipe.tag)
def test_the_committed_bundle_is_whole_small_and_fits_the_deployment(recipe: train.Recipe) -> None:
    path = train.FOLDER / recipe.file
    bundle = Bundle.read(path)
    assert path.stat().st_size < 1_000_000
    loaded = load_deployment(train.FOLDER / "deployment.yaml")
    assert mismatches(loaded.reader, bundle.manifest, loaded.deployment.missing) == []
    assert bundle.reference is not None
    assert set(Reference.from_bytes(bundle.reference).names) == set(bundle.manifest.features)


@pytest.mark.parametrize("recipe", train.RECIPES, ids=lambda recipe: recipe.tag)
def test_the_committed_model_has_the_auc_that_its_bundle_states(recipe: train.Recipe) -> None:
    bundle = Bundle.read(train.FOLDER / recipe.file)
    december = data.load().months(12, 12)
    scores = train.score(bundle.model, recipe, december.events)
    measured = auc_by_month(december.outcomes.with_columns(late_probability=scores))[12]
    assert measured == pytest.approx(bundle.manifest.metrics["auc_month_12"], abs=1e-3)
    assert measured > 0.7


def test_the_two_models_differ() -> None:
    production, candidate = (Bundle.read(train.FOLDER / recipe.file).manifest for recipe in train.RECIPES)
    assert production.graph.operators.get("TreeEnsembleClassifier")
    assert not candidate.graph.operators.get("TreeEnsembleClassifier")
    assert set(candidate.features) - set(production.features) == {"dest"}


def moved(months: tuple[int, int]) -> dict[str, list[bool]]:
    """For each feature and window of these months: does it deviate from the committed reference, as declared?"""
    watched = load_deployment(train.FOLDER / "deployment.yaml").deployment.monitor
    bundle = Bundle.read(train.FOLDER / "production.zip")
    assert watched is not None
    assert bundle.reference is not None
    reference = Reference.from_bytes(bundle.reference)
    events = data.load().months(*months).events
    found: dict[str, list[bool]] = {name: [] for name in reference.names}
    for window in events.iter_slices(watched.window_rows):
        if len(window) == watched.window_rows:
            cells = Binner(reference.features).cells(window, pl.DataFrame(), len(reference.features))
            counts = np.bincount(cells.ravel(), minlength=reference.tally.cells.size)
            for part in (part for part in reference.slices if part.kind == "feature"):
                pair = [tally[part.start : part.end] for tally in (reference.tally.cells, counts)]
                found[part.name].append(drift.psi(*pair) - drift.noise(*pair) > watched.opens)
    return found


def test_no_feature_alerts_in_winter_and_the_temperature_does_in_spring() -> None:
    winter, spring = moved(train.TRAINED), moved((4, 6))
    twice = {name for name, windows in winter.items() if (True, True) in itertools.pairwise(windows)}
    assert len(winter["temp"]) >= 4
    assert twice == set()
    assert spring["temp"] == [True] * len(spring["temp"])


def test_auc_agrees_with_scikit_learn_and_counts_ties_half() -> None:
    from sklearn.metrics import roc_auc_score

    random = np.random.default_rng(1)
    late = random.random(1000) < 0.3
    scores = np.round(random.random(1000) + 0.3 * late, 1)
    assert auc(pl.Series(scores), pl.Series(late)) == pytest.approx(roc_auc_score(late, scores))


def test_auc_of_one_kind_only_is_not_a_number() -> None:
    assert np.isnan(auc(pl.Series([0.1, 0.2]), pl.Series([True, True])))
