"""Runs of sessions that end in time: as arrays, or as an error that says which model and why."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy.typing as npt

from models.errors import ModelFailed, ModelTimedOut
from models.runtimes.outputs import said
from models.runtimes.session import run_options
from models.runtimes.watchdog import Watchdog


class Timed:
    """Runs of one model version, one after the other. name: gives the name of what runs, for errors."""

    def __init__(self, name: Callable[[], str]) -> None:
        self._name, self._options = name, run_options()
        self.watchdog: Watchdog | None = Watchdog()

    def run(
        self, session: Any, tensors: Sequence[str], inputs: Mapping[str, npt.NDArray[Any]], seconds: float
    ) -> list[npt.NDArray[Any]]:
        """Return the outputs of these names.

        Raises ModelTimedOut when the run had to be terminated, ModelFailed when the model gave an error.
        """
        watchdog = self.watchdog
        if watchdog is None:
            raise ModelFailed(f"{self._name()} is closed")
        watchdog.begin(self._options, seconds)
        failure: Exception | None = None
        try:
            result: list[npt.NDArray[Any]] = session.run(tensors, inputs, self._options)
        except Exception as error:  # onnxruntime raises classes of its own, and TypeError or ValueError
            failure = error
        if watchdog.end():
            self._options = run_options()
            if failure is not None:
                raise ModelTimedOut(f"{self._name()} took longer than {seconds:g} s") from failure
        if failure is not None:
            raise ModelFailed(f"{self._name()} failed: {said(failure)}") from failure
        return result

    def hurry(self, on: bool) -> None:
        """See `models.runtimes.base.Model`."""
        if (watchdog := self.watchdog) is not None:  # another thread may close it
            watchdog.hurried = on

    def close(self) -> None:
        """End the thread that watches; later runs fail."""
        if self.watchdog is not None:
            self.watchdog.close()
            self.watchdog = None
