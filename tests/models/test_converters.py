"""What the converters of scikit-learn, LightGBM and XGBoost emit becomes a bundle that scores as the library does."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest

from models.bundle import Bundle
from models.runtimes.onnx import load
from models.sandbox import prove

RNG = np.random.default_rng(0)
X = RNG.normal(size=(300, 4)).astype("f4")
TWO = (X[:, 0] + X[:, 1] > 0).astype(int)
THREE = RNG.integers(0, 3, 300)
NAMES = list("abcd")
FRAME = pl.DataFrame(X.astype("f8"), schema=NAMES)


@pytest.fixture(autouse=True)
def _converters_may_warn() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def score(model: Any, frame: pl.DataFrame = FRAME, **manifest: Any) -> tuple[Bundle, pl.DataFrame]:
    bundle = Bundle.build(**{"name": "m", "model": model.SerializeToString(), **manifest})
    loaded = load(bundle, dict(frame.schema), {}, bounds=None)
    result = loaded.run(loaded.prepare(frame).inputs, 60.0)
    loaded.close()
    return bundle, result


def kinds(bundle: Bundle) -> list[tuple[str, str, list[str]]]:
    return [(output.kind, output.type, output.classes) for output in bundle.manifest.outputs]


def assert_probabilities(result: pl.Series, expected: Any) -> None:
    np.testing.assert_allclose(np.array(result.to_list()), expected, atol=1e-5)


@pytest.mark.parametrize(("zipmap", "kind"), [(True, "map"), (False, "vector")])
def test_a_scikit_learn_classifier_gives_a_label_and_its_probabilities(zipmap: bool, kind: str) -> None:
    from skl2onnx import to_onnx
    from sklearn.linear_model import LogisticRegression

    names = np.array(["late", "never", "on time"])[THREE]
    fitted = LogisticRegression().fit(X, names)
    converted = to_onnx(fitted, X[:1], options={"zipmap": zipmap})
    bundle, result = score(converted, features=NAMES)
    classes = ["late", "never", "on time"]
    assert kinds(bundle) == [("label", "string", classes), (kind, "double", classes)]
    assert result.to_series(0).to_list() == fitted.predict(X).tolist()
    assert_probabilities(result.to_series(1), fitted.predict_proba(X))


def test_columns_of_strings_and_numbers_go_through_a_pipeline_as_named_tensors() -> None:
    from skl2onnx import convert_sklearn
    from skl2onnx.common.data_types import FloatTensorType, Int64TensorType, StringTensorType
    from sklearn.compose import ColumnTransformer
    from sklearn.ensemble import GradientBoostingClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    data = pd.DataFrame({"carrier": np.array(["AA", "UA", "DL"])[THREE], "distance": X[:, 0], "hour": THREE * 7})
    columns = ColumnTransformer(
        [("one", OneHotEncoder(handle_unknown="ignore"), ["carrier"]), ("num", StandardScaler(), ["distance", "hour"])]
    )
    fitted = make_pipeline(columns, GradientBoostingClassifier(n_estimators=10)).fit(data, TWO)
    types = [
        ("carrier", StringTensorType([None, 1])),
        ("distance", FloatTensorType([None, 1])),
        ("hour", Int64TensorType([None, 1])),
    ]
    converted = convert_sklearn(fitted, initial_types=types, options={"zipmap": False})
    frame = pl.DataFrame(
        {
            "hour": data["hour"].to_numpy(),
            "carrier": pl.Series(data["carrier"].tolist(), dtype=pl.Enum(["AA", "UA", "DL"])),
            "distance": data["distance"].to_numpy(),
        }
    )
    late = {"name": "late", "tensor": "probabilities", "kind": "scalar", "type": "float", "column": 1}
    bundle, result = score(converted, frame, outputs=[late])
    assert [part.type for part in bundle.manifest.inputs] == ["string", "float", "int64"]
    assert result.schema == {"late": pl.Float32}
    np.testing.assert_allclose(result["late"], fitted.predict_proba(data)[:, 1], atol=1e-5)
    assert prove(bundle)["determinism"]["bitwise"]


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize(("zipmap", "kind"), [(True, "map"), (False, "vector")])
def test_a_lightgbm_classifier_gives_a_label_and_its_probabilities(classes: int, zipmap: bool, kind: str) -> None:
    from lightgbm import LGBMClassifier
    from onnxmltools import convert_lightgbm
    from onnxmltools.convert.common.data_types import FloatTensorType

    fitted = LGBMClassifier(n_estimators=8, verbose=-1).fit(X, TWO if classes == 2 else THREE)
    types = [("x", FloatTensorType([None, 4]))]
    bundle, result = score(
        convert_lightgbm(fitted, initial_types=types, zipmap=zipmap, target_opset=15), features=NAMES
    )
    names = [str(label) for label in range(classes)]
    assert kinds(bundle) == [("label", "long", names), (kind, "double", names)]
    assert result.to_series(0).to_list() == fitted.predict(X).tolist()
    assert_probabilities(result.to_series(1), fitted.predict_proba(X))


@pytest.mark.parametrize("classes", [2, 3])
def test_an_xgboost_classifier_gives_a_label_and_its_probabilities(classes: int) -> None:
    from onnxmltools import convert_xgboost
    from onnxmltools.convert.common.data_types import FloatTensorType
    from xgboost import XGBClassifier

    fitted = XGBClassifier(n_estimators=8).fit(X, TWO if classes == 2 else THREE)
    converted = convert_xgboost(fitted, initial_types=[("x", FloatTensorType([None, 4]))], target_opset=15)
    bundle, result = score(converted, features=NAMES)
    names = [str(label) for label in range(classes)]
    assert kinds(bundle) == [("label", "long", names), ("vector", "double", names)]
    assert result.to_series(0).to_list() == fitted.predict(X).tolist()
    assert_probabilities(result.to_series(1), fitted.predict_proba(X))


def test_trees_take_nan_for_null_where_the_bundle_says_so() -> None:
    from lightgbm import LGBMClassifier
    from onnxmltools import convert_lightgbm
    from onnxmltools.convert.common.data_types import FloatTensorType

    holed = np.where(X > 1, np.nan, X)
    fitted = LGBMClassifier(n_estimators=8, verbose=-1).fit(holed, TWO)
    converted = convert_lightgbm(
        fitted, initial_types=[("x", FloatTensorType([None, 4]))], zipmap=False, target_opset=15
    )
    frame = pl.DataFrame(holed.astype("f8"), schema=NAMES).fill_nan(None)
    missing = dict.fromkeys(NAMES, float("nan"))
    _, result = score(converted, frame, features=NAMES, missing=missing)
    assert_probabilities(result.to_series(1), fitted.predict_proba(holed))


@pytest.mark.parametrize("library", ["sklearn", "lightgbm", "xgboost"])
def test_a_regressor_gives_one_scalar(library: str) -> None:
    fitted, converted = regressor(library)
    bundle, result = score(converted, features=NAMES)
    assert kinds(bundle) == [("scalar", "float", [])]
    np.testing.assert_allclose(result["variable"].to_numpy(), np.ravel(fitted.predict(X)), atol=1e-5)


def regressor(library: str) -> tuple[Any, Any]:
    from onnxmltools.convert.common.data_types import FloatTensorType

    types = [("x", FloatTensorType([None, 4]))]
    if library == "sklearn":
        from skl2onnx import to_onnx
        from sklearn.linear_model import LinearRegression

        fitted = LinearRegression().fit(X, THREE)
        return fitted, to_onnx(fitted, X[:1])
    if library == "lightgbm":
        from lightgbm import LGBMRegressor
        from onnxmltools import convert_lightgbm

        fitted = LGBMRegressor(n_estimators=8, verbose=-1).fit(X, THREE)
        return fitted, convert_lightgbm(fitted, initial_types=types, target_opset=15)
    from onnxmltools import convert_xgboost
    from xgboost import XGBRegressor

    fitted = XGBRegressor(n_estimators=8).fit(X, THREE)
    return fitted, convert_xgboost(fitted, initial_types=types, target_opset=15)


def test_the_double_gemm_of_scikit_learn_is_bitwise_once_runs_are_padded() -> None:
    from skl2onnx import to_onnx
    from sklearn.neural_network import MLPRegressor

    fitted = MLPRegressor(hidden_layer_sizes=(32, 32), max_iter=10).fit(X.astype("f8"), THREE)
    converted = to_onnx(fitted, X[:1].astype("f8"))
    bundle, result = score(converted, features=NAMES)
    assert result.dtypes == [pl.Float64]
    assert prove(bundle)["determinism"]["bitwise"]
