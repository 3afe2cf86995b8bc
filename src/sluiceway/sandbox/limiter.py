"""Enforce so many requests in any one second."""

from __future__ import annotations

import time
from collections import deque


class PerSecond:
    """Let at most `limit` requests through in any second; 0 lets all of them through."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._passed: deque[float] = deque(maxlen=max(1, limit))

    def allows_one_more(self) -> bool:
        """Say whether another request may pass now, and count it if so."""
        if not self._limit:
            return True
        now = time.monotonic()
        if len(self._passed) == self._limit and now - self._passed[0] < 1.0:
            return False
        self._passed.append(now)
        return True
