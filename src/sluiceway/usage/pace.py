"""Keep a source's requests apart, so that no second ever holds more of them than the provider allows.

Slots are handed out one by one at even distances; there is no burst, because a burst at the end of one second and
the start of the next would be over the limit in between.
"""

from __future__ import annotations

import asyncio
import time


class Pace:
    """Even spacing of `rate` requests per second, over all hosts of one source."""

    def __init__(self, rate: float) -> None:
        self._gap = 1.0 / rate
        self._next = 0.0

    def take_now(self) -> bool:
        """Take a slot if one is free at this moment."""
        now = time.monotonic()
        if self._next > now:
            return False
        self._next = now + self._gap
        return True

    async def take(self, stop: asyncio.Event) -> bool:
        """Wait for a slot; returns `False` without one when `stop` is set first."""
        now = time.monotonic()
        slot = max(now, self._next)
        self._next = slot + self._gap
        if slot <= now:
            return True
        try:
            await asyncio.wait_for(stop.wait(), slot - now)
        except TimeoutError:
            return True
        return False

    def push_back(self, seconds: float) -> None:
        """Hand out no slot for a while, because the provider asked for a pause."""
        self._next = max(self._next, time.monotonic() + seconds)
