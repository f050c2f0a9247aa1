"""The profilers of a worker that scores with one model, as most do."""

from __future__ import annotations

from typing import Any

from models.profiler import Profilers


class OneArm(Profilers):
    """Profilers that are not told who scored."""

    def profiles(self, frame: Any, outputs: Any, partitions: Any, timestamps: Any) -> list[bytes]:  # type: ignore[override]
        return super().profiles(frame, outputs, partitions, timestamps, self.arms)
