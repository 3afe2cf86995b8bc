"""Run a batch inside this process: many prospects at once, bounded, page by page."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from datetime import timedelta
from heapq import heappop, heappush

import msgspec

from sluiceway.outcome import timestamp
from sluiceway.pipeline import history
from sluiceway.pipeline.batch import PAGE, Batch, prospect_pages
from sluiceway.pipeline.gate import Gate
from sluiceway.pipeline.history import History
from sluiceway.pipeline.recover import is_alive
from sluiceway.pipeline.run import Ended, Enricher
from sluiceway.store.engine import Store
from sluiceway.usage.fairness import FairQueue

_ELSEWHERE_POLL_S = 0.5
_LOOK_AGAIN_S = 0.5

_MOST_ASLEEP = 10_000
"""Prospects that may wait for their time before new ones are taken up; what is kept of each is its id."""

_LAST = "\uffff"
"""The lane of what tells the workers that there is no more."""


class Tally(msgspec.Struct):
    """How many prospects ended how."""

    ended: Counter[Ended]
    left: bool = False

    @property
    def done(self) -> int:
        """Prospects with nothing left to ask."""
        return self.ended[Ended.CLOSED] + self.ended[Ended.HELD]

    @property
    def waiting(self) -> int:
        """Prospects with a source that has to wait for something to be mended."""
        return self.ended[Ended.WAITING]


class Embedded:
    """The dispatcher for one process. `on_prospect` is told about every prospect that this call is through with.

    Prospects that have to wait are taken up again when their time has come, if that is within `stays_s` seconds.
    """

    def __init__(
        self,
        *,
        store: Store,
        enricher: Enricher,
        gate: Gate,
        worker_id: str,
        batch: Batch,
        concurrency: int,
        fresh_days: int,
        stays_s: float,
        recover: Callable[[], Awaitable[int]],
        on_prospect: Callable[[Ended], None],
    ) -> None:
        self._store = store
        self.enricher = enricher
        self._gate = gate
        self._worker_id = worker_id
        self._batch = batch
        self._concurrency = concurrency
        self._fresh_days = fresh_days
        self._stays_s = stays_s
        self._recover = recover
        self._buried: set[str] = set()
        self._on_prospect = on_prospect
        self._asleep: list[tuple[str, str]] = []
        self._busy = 0
        self._changed = asyncio.Event()

    async def run(self) -> Tally:
        """Enrich every prospect of the batch; returns early, without failing, when the work is stopped."""
        tally = Tally(Counter())
        queue = FairQueue(self._concurrency)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._feed(queue, tally))
            for _ in range(self._concurrency):
                group.create_task(self._work(queue, tally))
        return tally

    async def _feed(self, queue: FairQueue, tally: Tally) -> None:
        """Hand prospects out, page by page, and again those that had to wait when their time has come."""
        pages = self.pages()
        while (page := await asyncio.to_thread(next, pages, None)) and not self._is_stopped():
            await self._hand_out(queue, page)
            await self._wake_some(queue, at_most=_MOST_ASLEEP)
        if not self._is_stopped():
            await self._wake_some(queue, at_most=0)
        tally.left = tally.left or self._is_stopped()
        tally.ended[Ended.WAITING] += len(self._asleep)
        for _ in range(self._concurrency):
            await queue.put((_LAST, None))

    async def _hand_out(self, queue: FairQueue, page: list[History]) -> None:
        for known in page:
            if self._is_stopped():
                return
            self._busy += 1
            await queue.put((known.prospect.tenant_id, known))

    async def _wake_some(self, queue: FairQueue, at_most: int) -> None:
        """Hand out again those whose time has come, until at most so many sleep; for none, until all are done."""
        while not self._is_stopped():
            due = self._due()
            if due:
                await self._hand_out(queue, await asyncio.to_thread(self._load, due))
            elif len(self._asleep) > at_most or (at_most == 0 and self._busy):
                await self._until_something_changes()
            else:
                return

    def _due(self) -> list[str]:
        now = self._store.clock.stamp()
        due: list[str] = []
        while self._asleep and self._asleep[0][0] <= now and len(due) < PAGE:
            due.append(heappop(self._asleep)[1])
        return due

    async def _until_something_changes(self) -> None:
        """Sleep until the next one wakes, a prospect is done, or the work is stopped; a pause is noticed in time."""
        until_next_s = self._store.clock.seconds_until(self._asleep[0][0]) if self._asleep else _LOOK_AGAIN_S
        self._changed.clear()
        with suppress(TimeoutError):
            await asyncio.wait_for(self._changed.wait(), max(0.01, min(until_next_s, _LOOK_AGAIN_S)))

    def _is_stopped(self) -> bool:
        return self._gate.draining.is_set() or self._gate.paused(self._batch.id) is not None

    def pages(self) -> Iterator[list[History]]:
        """Yield what is known about the batch's prospects, a page at a time, until the work is stopped."""
        for ids in prospect_pages(self._store.read, self._batch.id):
            if self._gate.draining.is_set():
                return
            yield self._load(ids)

    def _load(self, ids: list[str]) -> list[History]:
        with self._store.read() as connection:
            return history.load(connection, ids, since=self.fresh_since(), batch_id=self._batch.id)

    def fresh_since(self) -> str:
        """Return when the freshness window opens: a number of days ago, or, for a refresh, when it began."""
        if self._batch.refresh:
            return self._batch.began_at
        return timestamp(self._store.clock.now() - timedelta(days=self._fresh_days))

    async def _work(self, queue: FairQueue, tally: Tally) -> None:
        while (known := (await queue.get())[1]) is not None:
            if self._is_stopped():
                tally.left = True
                continue
            ended = await self._one(known)
            wake_at = self.enricher.alarms.pop(known.prospect.id, None)
            if ended is Ended.WAITING and wake_at and self._store.clock.seconds_until(wake_at) <= self._stays_s:
                heappush(self._asleep, (wake_at, known.prospect.id))
            else:
                tally.ended[ended] += 1
                self._on_prospect(ended)
            self._busy -= 1
            self._changed.set()

    async def _bury(self, worker_id: str) -> None:
        """Settle a dead worker's calls, once: what they cost has to be known before any of them is made again."""
        if worker_id not in self._buried:
            await self._recover()
            self._buried.add(worker_id)

    async def _one(self, known: History) -> Ended:
        """Bring one prospect as far as it gets, whoever had it before."""
        while True:
            standing = known.standing
            if standing is None:
                ended = await self.enricher.enrich(known)
                if ended is not Ended.ELSEWHERE:
                    return ended
            elif standing.worker_id != self._worker_id and is_alive(self._store, standing.worker_id):
                await asyncio.sleep(_ELSEWHERE_POLL_S)
                if self._gate.draining.is_set():
                    return Ended.ELSEWHERE
            elif standing.worker_id != self._worker_id:
                await self._bury(standing.worker_id)
                await self.enricher.take_over(standing)
            else:
                ended = await self.enricher.resume(known, standing)
                if ended is Ended.WAITING or (ended is Ended.CLOSED and standing.batch_id == self._batch.id):
                    return ended
            await self.enricher.settled()
            (known,) = await asyncio.to_thread(self._load, [known.prospect.id])
