"""Keep a source's requests apart, so that no second ever holds more of them than the provider allows; in fair order.

Slots are handed out one by one at even distances; there is no burst, because a burst at the end of one second and
the start of the next would be over the limit in between. Whoever has to wait waits in the lane of a tenant.
"""

from __future__ import annotations

import asyncio
import time
from functools import partial

from sluiceway.usage.fairness import DeficitRoundRobin


class Pace:
    """Even spacing of `rate` requests per second, over all hosts of one source."""

    def __init__(self, rate: float) -> None:
        self.rate = rate
        self._gap = 1.0 / rate
        self._next = 0.0
        self._lane_next: dict[str, float] = {}
        self._waiting: DeficitRoundRobin[asyncio.Future[bool]] = DeficitRoundRobin()
        self._usher: asyncio.Task[None] | None = None
        self._news = asyncio.Event()

    def take_now(self, lane: str = "") -> bool:
        """Take a slot if one is free at this moment and nobody waits for it."""
        now = time.monotonic()
        if self._next > now or len(self._waiting) or (self._lane_next and not self._is_open(lane, now)):
            return False
        self._next = now + self._gap
        return True

    async def take(self, stop: asyncio.Event, lane: str = "") -> bool:
        """Wait for a slot; returns `False` without one when `stop` is set first."""
        if self.take_now(lane):
            return True
        turn: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting.add(lane, turn)
        if self._lane_next:
            self._news.set()  # the usher may be waiting for a lane that opens later than this one
        if self._usher is None or self._usher.done():
            self._usher = asyncio.create_task(self._usher_in(stop))
        return await turn

    def push_back(self, seconds: float, lane: str | None = None) -> None:
        """Hand out no slot for a while, to anybody or in one lane."""
        until = time.monotonic() + seconds
        if lane is None:
            self._next = max(self._next, until)
        else:
            self._lane_next[lane] = max(self._lane_next.get(lane, 0.0), until)

    async def _usher_in(self, stop: asyncio.Event) -> None:
        """Give slots to those who wait, one by one, until nobody does."""
        stopping = asyncio.create_task(stop.wait())
        stopping.add_done_callback(lambda _: self._news.set())
        try:
            await self._give_slots(stop)
        finally:
            stopping.cancel()

    async def _give_slots(self, stop: asyncio.Event) -> None:
        while len(self._waiting) and not stop.is_set():
            self._news.clear()
            wait_s = max(self._next, self._first_open_lane()) - time.monotonic()
            if wait_s > 0:
                await set_within(self._news, wait_s)
                continue
            now = time.monotonic()
            turn = self._waiting.take(partial(self._is_open, now=now))
            if turn is not None and not turn.done():
                slot = self._next if now - self._next < self._gap else now  # a late timer does not slow the pace
                self._next = slot + self._gap
                turn.set_result(True)
        while (turn := self._waiting.take()) is not None:
            if not turn.done():
                turn.set_result(False)

    def _is_open(self, lane: str, now: float) -> bool:
        return self._lane_next.get(lane, 0.0) <= now

    def _first_open_lane(self) -> float:
        """Return when the first lane somebody waits in may go."""
        return min((self._lane_next.get(lane, 0.0) for lane in self._waiting.lanes()), default=0.0)


async def set_within(event: asyncio.Event, seconds: float) -> bool:
    """Wait for an event, so long at most; returns whether it was set."""
    try:
        await asyncio.wait_for(event.wait(), seconds)
    except TimeoutError:
        return False
    return True
