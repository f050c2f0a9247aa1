"""The loaded models of a worker: those that score, and those of the state before, so that a way back loads nothing."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from models.bundle import Bundle
from models.runtimes.base import Model
from models.runtimes.onnx import load

Key = tuple[str, str]


class Pool:
    """Loads each bundle once for the same columns and stand-ins, and owns what it loaded."""

    def __init__(self) -> None:
        self._models: dict[Key, Model] = {}

    def load(self, bundle: Bundle, columns: Mapping[str, Any], missing: Mapping[str, Any], memory: int) -> Model:
        """Return the bundle's model; memory: bytes that the leaves of a hierarchy may take.

        Raises an error of models, see `models.runtimes.onnx.load`.
        """
        told = [[name, str(dtype)] for name, dtype in columns.items()]
        key = bundle.digest, json.dumps([told, dict(missing), memory], sort_keys=True)
        if key not in self._models:
            self._models[key] = load(bundle, columns, missing, memory=memory)
        return self._models[key]

    def keep(self, models: Iterable[Model]) -> None:
        """Let go of all but these."""
        kept = {id(model) for model in models}
        for key, model in list(self._models.items()):
            if id(model) not in kept:
                del self._models[key]
                model.close()

    def close(self) -> None:
        """Let go of all."""
        self.keep([])

    def __len__(self) -> int:
        return len(self._models)
