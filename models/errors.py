"""What can go wrong with a bundle, its repository or a model that scores."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from schemas.errors import Explained

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import polars as pl

    Rows = npt.NDArray[np.int64]


class ModelError(Explained):
    """Base of every error of this package."""


class BundleInvalid(ModelError):
    """A bundle that cannot be built or read: a part is missing, or the manifest disagrees with the model."""


class BundleAltered(BundleInvalid):
    """A bundle whose bytes are not those that were signed off by its digest."""


class ModelRefused(ModelError):
    """A model that is not run: external data, an operator that is not allowed, or too much memory or time."""


class ModelNotFound(ModelError):
    """The repository holds no such model, version or tag."""


class RepositoryUnavailable(ModelError):
    """The repository did not answer, and the cache does not know what was asked for."""


class ContractBroken(ModelError):
    """The events do not carry what the model needs; `mismatches` lists every finding."""

    def __init__(self, mismatches: Sequence[str]) -> None:
        super().__init__("\n".join(mismatches))
        self.mismatches = list(mismatches)


class ModelFailed(ModelError):
    """The model gave an error, or something other than its declared outputs, for these rows."""


class ModelTimedOut(ModelFailed):
    """The model did not finish in its time and was terminated."""


class LeafUnavailable(ModelFailed):
    """A leaf of a hierarchy of models cannot be loaded: none of its rows can be scored, alone or together."""


class RowsFailed(ModelFailed):
    """Some rows of a run could not be scored; the others were, and need not be scored again.

    outputs: of the rows `scored`, ascending. failed: groups of rows, each with what happened to it. untried: rows that
    were not come to. All are places in the run's inputs; each row is in one of the three.
    """

    def __init__(
        self, outputs: pl.DataFrame, scored: Rows, failed: Sequence[tuple[Rows, ModelFailed]], untried: Rows
    ) -> None:
        super().__init__(str(failed[0][1]) if failed else f"{len(untried)} rows were not tried in the time of a run")
        self.outputs, self.scored, self.failed, self.untried = outputs, scored, failed, untried


class ReferenceInvalid(ModelError):
    """A reference profile that is damaged or cannot be built, or counts that do not belong to it."""
