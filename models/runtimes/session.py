"""An ONNX session as Penstock runs it, and the padding of its inputs: shared by the worker and the sandbox.

Imports no polars, so that the sandbox's subprocess starts quickly.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime

ROWS = 16  # a run has a multiple of this many rows: some kernels give other bits at odd batch sizes
DTYPES: dict[str, Any] = {
    "float": np.float32,
    "double": np.float64,
    "int64": np.int64,
    "bool": np.bool_,
    "string": object,
}
QUIET = 4  # only fatal messages: an error of the model arrives as an exception


def open_session(model: bytes, threads: int = 1, *, many: bool = False) -> Any:
    """Load an examined model from its bytes; raises what onnxruntime raises.

    many: it is one of many in this process. These take their memory from malloc and keep no plan of it per number of
    rows: a model of 25 kB takes 125 KiB instead of 168 KiB, as little as with an arena that all sessions share.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = threads
    options.log_severity_level = QUIET
    if many:
        options.enable_cpu_mem_arena = options.enable_mem_pattern = False
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def run_options() -> Any:
    """Options of one run, through which another thread can terminate it."""
    options = onnxruntime.RunOptions()
    options.log_severity_level = QUIET
    return options


def padded(inputs: Mapping[str, npt.NDArray[Any]], rows: int) -> dict[str, npt.NDArray[Any]]:
    """The inputs with their last row repeated up to the next multiple of 16 rows; rows >= 1.

    A row that the model has to score anyway is the one filling that cannot make it fail.
    """
    extra = -rows % ROWS
    if not extra:
        return dict(inputs)
    return {name: np.concatenate([array, np.repeat(array[-1:], extra, axis=0)]) for name, array in inputs.items()}
