"""Run a batch inside this process: many prospects at once, bounded, page by page."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from datetime import timedelta

import msgspec

from sluiceway.outcome import timestamp
from sluiceway.pipeline import history
from sluiceway.pipeline.batch import Batch, prospect_pages
from sluiceway.pipeline.gate import Gate
from sluiceway.pipeline.history import History
from sluiceway.pipeline.recover import is_alive
from sluiceway.pipeline.run import Ended, Enricher
from sluiceway.store.engine import Store

_ELSEWHERE_POLL_S = 0.5


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
    """The dispatcher for one process. `on_prospect` is told about every prospect that this call is through with."""

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
        self._recover = recover
        self._buried: set[str] = set()
        self._on_prospect = on_prospect

    async def run(self) -> Tally:
        """Enrich every prospect of the batch; returns early, without failing, when the work is stopped."""
        tally = Tally(Counter())
        queue: asyncio.Queue[History | None] = asyncio.Queue(self._concurrency)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._feed(queue, tally))
            for _ in range(self._concurrency):
                group.create_task(self._work(queue, tally))
        return tally

    async def _feed(self, queue: asyncio.Queue[History | None], tally: Tally) -> None:
        pages = self.pages()
        while page := await asyncio.to_thread(next, pages, None):
            for known in page:
                if self._gate.draining.is_set():
                    tally.left = True
                    break
                await queue.put(known)
        tally.left = tally.left or self._gate.draining.is_set()
        for _ in range(self._concurrency):
            await queue.put(None)

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

    async def _work(self, queue: asyncio.Queue[History | None], tally: Tally) -> None:
        while (known := await queue.get()) is not None:
            if self._gate.draining.is_set():
                tally.left = True
                continue
            ended = await self._one(known)
            tally.ended[ended] += 1
            self._on_prospect(ended)

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
