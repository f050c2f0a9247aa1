"""The runtime that MLServer loads for the comparison: an ONNX model answering V2 inference requests."""

from __future__ import annotations

from mlserver import MLModel  # type: ignore[import-not-found]
from mlserver.codecs import NumpyCodec  # type: ignore[import-not-found]
from mlserver.types import InferenceRequest, InferenceResponse  # type: ignore[import-not-found]
from mlserver.utils import get_model_uri  # type: ignore[import-not-found]
from shared import Model  # type: ignore[import-not-found]


class Runtime(MLModel):  # type: ignore[misc]
    """Scores the rows of a request's first input."""

    async def load(self) -> bool:
        self._model = Model(await get_model_uri(self._settings))
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        rows = self.decode(payload.inputs[0], default_codec=NumpyCodec)
        scores = self._model.scores(rows)
        return InferenceResponse(model_name=self.name, outputs=[NumpyCodec.encode_output("score", scores)])
