"""Run a batch inside this process: many prospects at once, bounded, page by page."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import nullcontext, suppress
from datetime import timedelta
from heapq import heappop, heappush
from typing import NamedTuple

import msgspec

from sluiceway.outcome import timestamp
from sluiceway.pipeline import history
from sluiceway.pipeline.batch import PAGE, Batch, prospect_pages, tenants_of
from sluiceway.pipeline.gate import Gate
from sluiceway.pipeline.history import History
from sluiceway.pipeline.recover import is_alive
from sluiceway.pipeline.run import Ended, Enricher
from sluiceway.store.engine import Store
from sluiceway.usage.fairness import DeficitRoundRobin, FairQueue, FairSlots

_ELSEWHERE_POLL_S = 0.5
_LOOK_AGAIN_S = 0.5
_LOOK_FOR_DEAD_S = 10.0

_MOST_KNOWN = 10_000
"""Prospects that may sleep, or wait to be taken up in fair order, before more are read; each is kept as its id."""

_PAGES_AT_ONCE = 5

_LAST = "\uffff"
"""The lane of what tells the workers that there is no more."""


class Tally(msgspec.Struct):
    """How many prospects ended how."""

    ended: Counter[Ended]
    left: bool = False

    @property
    def done(self) -> int:
        """Prospects with nothing left to ask."""
        return self.ended[Ended.CLOSED] + self.ended[Ended.HELD] + self.ended[Ended.ERASED]

    @property
    def waiting(self) -> int:
        """Prospects with a source that has to wait for something to be mended."""
        return self.ended[Ended.WAITING]


class Shared:
    """What the batches of one process share: places to work in, and the prospects that somebody is at work on."""

    def __init__(self, concurrency: int) -> None:
        self.slots = FairSlots(concurrency)
        self.at_work: set[str] = set()


class _Sleeper(NamedTuple):
    """A prospect that had to wait, when it is taken up again, and as what it counts if it is not."""

    wake_at: str
    prospect_id: str
    tenant_id: str
    ended: Ended


class Embedded:
    """The dispatcher for one batch. `on_prospect` is told about every prospect that this call is through with.

    Prospects that have to wait are taken up again when their time has come, if that is at most `stays_s` seconds after
    anything was last done. `shared` is what it has in common with other batches of this process; an `interactive` one
    needs no place among them. `tenant_id` is whose all its prospects are, where they are one tenant's.
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
        shared: Shared | None = None,
        interactive: bool = False,
        tenant_id: str | None = None,
    ) -> None:
        self._shared = shared or Shared(concurrency)
        self._interactive = interactive
        self._tenant_id = tenant_id
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
        self._looked_for_dead_at = time.monotonic()
        self._on_prospect = on_prospect
        self._ready: DeficitRoundRobin[str] = DeficitRoundRobin()
        self._asleep: list[_Sleeper] = []
        self._busy = 0
        self._stopped = False
        self._trouble: Exception | None = None
        self._moved_at = time.monotonic()
        self._changed = asyncio.Event()

    async def run(self) -> Tally:
        """Enrich every prospect of the batch; returns early, without failing, when the work is stopped.

        Raises what went wrong, such as a store that cannot be read, once all calls in flight are booked.
        """
        tally = Tally(Counter())
        queue = FairQueue(self._concurrency)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._feed(queue, tally))
            for _ in range(self._concurrency):
                group.create_task(self._work(queue, tally))
        if self._trouble is not None:
            raise self._trouble
        return tally

    def _stop_for(self, trouble: Exception) -> None:
        """Begin nothing more: cancelling what others have in flight would lose what it cost."""
        self._trouble = self._trouble or trouble
        self._stopped = True

    async def _feed(self, queue: FairQueue, tally: Tally) -> None:
        """Hand out all there is, and then tell the workers that there is no more."""
        try:
            await self._hand_out_all(queue, tally)
        except Exception as trouble:
            self._stop_for(trouble)
        for _ in range(self._concurrency):
            await queue.put((_LAST, None))

    async def _hand_out_all(self, queue: FairQueue, tally: Tally) -> None:
        """Hand prospects out in fair order, and again those that had to wait when their time has come."""
        pages, more = prospect_pages(self._store.read, self._batch.id), True
        while not self._is_stopped():
            more = more and await self._read_ahead(pages)
            await self._wake_due()
            if len(self._ready):
                await self._hand_out(queue)
            elif more or self._asleep or self._busy:
                await self._until_something_changes()
            else:
                break
        tally.left = self._is_stopped()
        tally.ended.update(sleeper.ended for sleeper in self._asleep)

    async def _read_ahead(self, pages: Iterator[list[str]]) -> bool:
        """Read who comes next, so that no tenant has to wait for all rows of another; returns whether there is more."""
        for _ in range(_PAGES_AT_ONCE):
            if len(self._ready) + len(self._asleep) >= _MOST_KNOWN:
                return True
            page = await asyncio.to_thread(self._next_page, pages)
            if not page:
                return False
            for prospect_id, tenant_id in page:
                self._ready.add(tenant_id, prospect_id)
        return True

    def _next_page(self, pages: Iterator[list[str]]) -> list[tuple[str, str]]:
        ids = next(pages, [])
        with self._store.read() as connection:
            tenants = tenants_of(connection, ids)
        return [(prospect_id, tenants[prospect_id]) for prospect_id in ids if prospect_id in tenants]

    async def _wake_due(self) -> None:
        """Take up again those whose time has come, before others of their tenant."""
        now = self._store.clock.stamp()
        due: list[_Sleeper] = []
        while self._asleep and self._asleep[0].wake_at <= now:
            due.append(heappop(self._asleep))
        if due:
            await self.enricher.settled()  # what was answered before they had to wait must not be asked again
            await self._look_for_dead()
        for sleeper in reversed(due):
            self._ready.add(sleeper.tenant_id, sleeper.prospect_id, first=True)

    async def _look_for_dead(self) -> None:
        """Settle, now and then, calls of workers that died: what we wait for may be what these hold."""
        if time.monotonic() - self._looked_for_dead_at > _LOOK_FOR_DEAD_S:
            self._looked_for_dead_at = time.monotonic()
            await self._recover()

    async def _hand_out(self, queue: FairQueue) -> None:
        ids = [prospect_id for _ in range(PAGE) if (prospect_id := self._ready.take())]
        for known in await asyncio.to_thread(self.load, ids):
            if self._is_stopped():
                return
            self._busy += 1
            await queue.put((known.prospect.tenant_id, known))

    async def _until_something_changes(self) -> None:
        """Sleep until the next one wakes, a prospect is done, or the work is stopped; a pause is noticed in time."""
        until_next_s = self._store.clock.seconds_until(self._asleep[0].wake_at) if self._asleep else _LOOK_AGAIN_S
        self._changed.clear()
        with suppress(TimeoutError):
            await asyncio.wait_for(self._changed.wait(), max(0.01, min(until_next_s, _LOOK_AGAIN_S)))

    def _is_stopped(self) -> bool:
        """Tell whether this run ends early; once it does, a pause that is lifted meanwhile changes nothing about it."""
        paused = self._gate.paused(self._batch.id, self._tenant_id) is not None
        self._stopped = self._stopped or paused or self._gate.draining.is_set()
        return self._stopped

    def pages(self) -> Iterator[list[History]]:
        """Yield what is known about the batch's prospects, a page at a time, until the work is stopped."""
        for ids in prospect_pages(self._store.read, self._batch.id):
            if self._gate.draining.is_set():
                return
            yield self.load(ids)

    def load(self, ids: list[str]) -> list[History]:
        """Return what is known about some prospects, read in one go."""
        with self._store.read() as connection:
            return history.load(
                connection,
                ids,
                since=self.fresh_since(),
                batch_id=self._batch.id,
                suppressions=self.enricher.suppressions,
            )

    def fresh_since(self) -> str:
        """Return when the freshness window opens: a number of days ago, or, for a refresh, when it began."""
        if self._batch.refresh:
            return self._batch.began_at
        return timestamp(self._store.clock.now() - timedelta(days=self._fresh_days))

    async def _work(self, queue: FairQueue, tally: Tally) -> None:
        while (known := (await queue.get())[1]) is not None:
            if not self._is_stopped():
                try:
                    self._note(known, await self._in_turn(known), tally)
                except Exception as trouble:
                    self._stop_for(trouble)
            self._busy -= 1
            self._changed.set()

    def _note(self, known: History, ended: Ended, tally: Tally) -> None:
        """Have a prospect taken up again when its time comes, or count how it ended."""
        if wake_at := self._wakes(known.prospect.id, ended):
            heappush(self._asleep, _Sleeper(wake_at, known.prospect.id, known.prospect.tenant_id, ended))
            return
        self._moved_at = time.monotonic()
        tally.ended[ended] += 1
        self._on_prospect(ended)

    def _wakes(self, prospect_id: str, ended: Ended) -> str | None:
        """Return when a prospect is taken up again: when its time comes, or when another worker may be through."""
        wake_at = self.enricher.alarms.pop(prospect_id, None)
        if self._is_stopped():
            return None
        if ended is Ended.ELSEWHERE:
            return self._store.clock.stamp(after_s=_ELSEWHERE_POLL_S)
        if ended is not Ended.WAITING or wake_at is None:
            return None
        stays_s = self._moved_at + self._stays_s - time.monotonic()
        return wake_at if self._store.clock.seconds_until(wake_at) <= stays_s else None

    async def _bury(self, worker_id: str) -> None:
        """Settle a dead worker's calls, once: what they cost has to be known before any of them is made again."""
        if worker_id not in self._buried:
            await self._recover()
            self._buried.add(worker_id)

    async def _in_turn(self, known: History) -> Ended:
        """Bring one prospect as far as it gets, when there is a place and no other batch of ours is at work on it."""
        prospect, at_work = known.prospect, self._shared.at_work
        async with nullcontext() if self._interactive else self._shared.slots.taken(prospect.tenant_id):
            if self._is_stopped() or prospect.id in at_work:
                return Ended.ELSEWHERE
            at_work.add(prospect.id)
            try:
                return await self._one(known)
            finally:
                at_work.discard(prospect.id)

    async def _one(self, known: History) -> Ended:
        """Bring one prospect as far as it gets, whoever had it before."""
        if known.standing and known.standing.worker_id == self._worker_id:
            again = await self._again(known)  # another batch of ours may have gone on with it meanwhile
            if again is None:
                return Ended.ERASED
            known = again
        while True:
            standing = known.standing
            if standing is None:
                ended = await self.enricher.enrich(known)
                if ended is not Ended.ELSEWHERE:
                    return ended
            elif standing.worker_id != self._worker_id and is_alive(self._store, standing.worker_id):
                return Ended.ELSEWHERE
            elif standing.worker_id != self._worker_id:
                await self._bury(standing.worker_id)
                await self.enricher.take_over(standing)
            else:
                ended = await self.enricher.resume(known, standing)
                if ended is Ended.WAITING or (ended is Ended.CLOSED and standing.batch_id == self._batch.id):
                    return ended
            again = await self._again(known)
            if again is None:
                return Ended.ERASED
            known = again

    async def _again(self, known: History) -> History | None:
        """Read anew what is known of a prospect; `None` for one that was erased."""
        await self.enricher.settled()
        found = await asyncio.to_thread(self.load, [known.prospect.id])
        return found[0] if found else None
