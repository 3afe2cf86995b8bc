"""Whose turn it is: deficit round robin over lanes, one lane per tenant.

Each lane that waits may send a few in its turn, then the next one does. A lane that comes new waits for at most one
turn of each lane before it; what a lane does not use, the others do.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any, Generic, TypeVar

T = TypeVar("T")

QUANTUM = 4
"""How many a lane may send in its turn: few enough that nobody waits long, enough to keep a tenant's work together."""


class DeficitRoundRobin(Generic[T]):
    """A queue of queues; within a lane, first come, first served."""

    def __init__(self, quantum: int = QUANTUM) -> None:
        self._quantum = quantum
        self._lanes: dict[str, deque[T]] = {}
        self._turns: deque[str] = deque()
        self._left_in_turn = quantum
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def lanes(self) -> Iterable[str]:
        """Return the lanes in which something waits."""
        return self._turns

    def add(self, lane: str, item: T, *, first: bool = False) -> None:
        """Put something at the end of a lane, or first in it."""
        if lane not in self._lanes:
            self._lanes[lane] = deque()
            self._turns.append(lane)
        if first:
            self._lanes[lane].appendleft(item)
        else:
            self._lanes[lane].append(item)
        self._size += 1

    def take(self, may_go: Callable[[str], bool] = lambda lane: True) -> T | None:
        """Take what is next among the lanes that may go; `None` when there is nothing."""
        for _ in range(len(self._turns)):
            if may_go(self._turns[0]):
                return self._serve(self._turns[0])
            self._next_turn()
        return None

    def _serve(self, lane: str) -> T:
        waiting = self._lanes[lane]
        item = waiting.popleft()
        self._size -= 1
        self._left_in_turn -= 1
        if not waiting:
            del self._lanes[self._turns.popleft()]
            self._left_in_turn = self._quantum
        elif self._left_in_turn == 0:
            self._next_turn()
        return item

    def _next_turn(self) -> None:
        self._turns.rotate(-1)
        self._left_in_turn = self._quantum


class FairQueue(asyncio.Queue[tuple[str, Any]]):
    """An `asyncio.Queue` of (lane, item) that hands items out lane by lane."""

    def _init(self, maxsize: int) -> None:
        self._lanes: DeficitRoundRobin[tuple[str, Any]] = DeficitRoundRobin()

    def qsize(self) -> int:
        return len(self._lanes)

    def empty(self) -> bool:
        return not len(self._lanes)

    def _put(self, item: tuple[str, Any]) -> None:
        self._lanes.add(item[0], item)

    def _get(self) -> tuple[str, Any]:
        item = self._lanes.take()
        assert item is not None  # noqa: S101 - asyncio asks only while there is something
        return item


class FairSlots:
    """So many may be at work at once; who has to wait for a place gets it lane by lane."""

    def __init__(self, count: int) -> None:
        self._free = count
        self._waiting: DeficitRoundRobin[asyncio.Future[None]] = DeficitRoundRobin()

    @property
    def waiting(self) -> int:
        """How many wait for a place."""
        return len(self._waiting)

    @asynccontextmanager
    async def taken(self, lane: str) -> AsyncIterator[None]:
        """Hold a place, waiting for one in a lane first."""
        await self._take(lane)
        try:
            yield
        finally:
            self._give_back()

    async def _take(self, lane: str) -> None:
        if self._free:
            self._free -= 1
            return
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.add(lane, place)
        try:
            await place
        except asyncio.CancelledError:
            if place.done() and not place.cancelled():
                self._give_back()
            raise

    def _give_back(self) -> None:
        while (place := self._waiting.take()) is not None:
            if not place.done():
                place.set_result(None)
                return
        self._free += 1
