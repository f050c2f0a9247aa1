"""How many of the records of the last minute were made by who stepped in; pure."""

from __future__ import annotations

from collections import deque

SECONDS = 60


class Minute:
    """Counts records by the second. now: seconds of any origin that only grow."""

    def __init__(self) -> None:
        self._seconds: deque[tuple[int, int, int]] = deque()  # which one, records, those of a fallback

    def saw(self, now: float, fallback: bool) -> None:
        """Count one record."""
        second = int(now)
        if not self._seconds or self._seconds[-1][0] != second:
            self._seconds.append((second, 0, 0))
        _, records, fallbacks = self._seconds.pop()
        self._seconds.append((second, records + 1, fallbacks + fallback))
        self._forget(second)

    def told(self, now: float) -> str:
        """Return the share of fallbacks, empty where there was none in the last minute."""
        self._forget(int(now))
        records, fallbacks = (sum(each[at] for each in self._seconds) for at in (1, 2))
        return f"{fallbacks / records:.1%} of the last minute by a fallback" if fallbacks else ""

    def _forget(self, second: int) -> None:
        while self._seconds and self._seconds[0][0] <= second - SECONDS:
            self._seconds.popleft()
