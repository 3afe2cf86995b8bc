"""Enforce so many requests per second."""

from __future__ import annotations

import time


class PerSecond:
    """Let `limit` requests per second through, and as many at once if there were none before; 0 lets all through.

    A bucket rather than a window: whoever keeps to the rate is let in even when the network bunches their requests,
    and whoever sends a second's worth at the end of one second and again at the start of the next is not.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._left = float(limit)
        self._seen = time.monotonic()

    def allows_one_more(self) -> bool:
        """Say whether another request may pass now, and count it if so."""
        if not self._limit:
            return True
        now = time.monotonic()
        self._left = min(self._limit, self._left + (now - self._seen) * self._limit)
        self._seen = now
        if self._left < 1:
            return False
        self._left -= 1
        return True
