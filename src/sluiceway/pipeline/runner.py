"""Running what is asked for while the service lives: many batches at once, each to its end.

What has to be done is in the store, and read from there again and again; so a batch that a killed process left is
simply gone on with, and one that has to wait for something to be mended is looked at again from time to time.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from functools import partial
from typing import Any, Final, Self

from sluiceway.logs import know
from sluiceway.pipeline.batch import begin_batch
from sluiceway.pipeline.cancel import endings, who_has_open
from sluiceway.pipeline.controls import LOOK_EVERY_S
from sluiceway.pipeline.embedded import Embedded, Shared
from sluiceway.pipeline.gate import Gate
from sluiceway.pipeline.recover import is_alive
from sluiceway.pipeline.requested import Requested, end_batch, fill, to_run
from sluiceway.pipeline.run import Ended
from sluiceway.store.engine import Store
from sluiceway.store.writer import Writer
from sluiceway.usage.fairness import DeficitRoundRobin
from sluiceway.usage.ledger import Op, Task
from sluiceway.usage.pace import set_within

log = logging.getLogger(__name__)

_LOOK_EVERY_S: Final = 0.5
_MOST_AT_ONCE: Final = 40
"""Batches at work at once; a tenant that has none among them may begin one all the same."""

_LOOKED_AT_AGAIN_S: Final = (2.0, 5.0, 15.0, 60.0)
"""Seconds until a batch is looked at again that waits for something, the longer the more often it was in vain."""

_STOPPED_EVERYWHERE_S: Final = 2 * LOOK_EVERY_S
"""Seconds after which every process knows that a batch is given up; its end lifts the pause that says so."""


class Runner:
    """Runs the store's requested batches in this process, while it is entered.

    `dispatch` returns what runs one; `ended` is called, in the transaction that ends a batch, with its id.
    """

    def __init__(
        self,
        *,
        store: Store,
        writer: Writer[Op],
        gate: Gate,
        shared: Shared,
        worker_id: str,
        dispatch: Callable[[Requested], Embedded],
        recover: Callable[[], Awaitable[int]],
        ended: Callable[[Any, str], None],
        tell: Callable[[str], None],
    ) -> None:
        self._store = store
        self._writer = writer
        self._gate = gate
        self._shared = shared
        self._worker_id = worker_id
        self._dispatch = dispatch
        self._recover = recover
        self._ended = ended
        self._tell = tell
        self._news = asyncio.Event()
        self._closing = False
        self._at_work: dict[str, asyncio.Task[None]] = {}
        self._at_work_for: Counter[str] = Counter()
        self._again: dict[str, tuple[int, float]] = {}
        self._waiters: dict[str, set[asyncio.Event]] = {}
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._run(), name="sluiceway-runner")
        return self

    async def __aexit__(self, *exception: object) -> None:
        """Wait until what is in flight is booked; `gate.draining` is set before, so that this is soon."""
        self._closing = True
        self._news.set()
        if self._task is not None:
            await self._task
        await asyncio.gather(*self._at_work.values(), return_exceptions=True)

    def wake(self, batch_id: str) -> None:
        """Look at once: a batch was asked for, resumed or given up."""
        self._again.pop(batch_id, None)
        self._news.set()

    def stop(self) -> None:
        """Begin nothing more, and let nobody wait: the process is about to end."""
        self._gate.draining.set()
        for batch_id in list(self._waiters):
            self._tell_waiters(batch_id)

    async def over(self, batch_id: str, within_s: float) -> bool:
        """Wait for the end of a batch, so long at most; returns whether there is news of it."""
        event = asyncio.Event()
        self._waiters.setdefault(batch_id, set()).add(event)
        try:
            return await set_within(event, within_s)
        finally:
            self._waiters[batch_id].discard(event)
            if not self._waiters[batch_id]:
                del self._waiters[batch_id]

    def _tell_waiters(self, batch_id: str) -> None:
        for event in self._waiters.get(batch_id, ()):
            event.set()

    @property
    def alive(self) -> bool:
        """Whether it looks for work."""
        return self._task is not None and not self._task.done()

    @property
    def waiting(self) -> int:
        """How many prospects of other batches wait for a place."""
        return self._shared.slots.waiting

    async def _run(self) -> None:
        while not self._closing:
            self._news.clear()
            try:
                self._start(await asyncio.to_thread(self._look))
            except Exception as error:  # whatever it was, the next look may go better
                log.warning("the batches to run could not be read: %s", error)
            await set_within(self._news, _LOOK_EVERY_S)

    def _look(self) -> list[Requested]:
        with self._store.read() as connection:
            return to_run(connection)

    def _start(self, found: Iterable[Requested]) -> None:
        """Start those that may run now: interactive ones first, then tenant by tenant."""
        if self._gate.draining.is_set():
            return
        lanes: DeficitRoundRobin[Requested] = DeficitRoundRobin(quantum=1)
        for requested in found:
            if requested.terms.interactive and self._may_start(requested):
                self._begin(requested)
            elif self._may_start(requested):
                lanes.add(requested.tenant_id, requested)
        while (next_one := lanes.take(self._has_place)) is not None:
            self._begin(next_one)

    def _has_place(self, tenant_id: str) -> bool:
        """Tell whether another batch of a tenant may begin; however many others have, each tenant has one at work."""
        return len(self._at_work) < _MOST_AT_ONCE or not self._at_work_for[tenant_id]

    def _may_start(self, requested: Requested) -> bool:
        batch_id = requested.batch.id
        if batch_id in self._at_work:
            return False
        if requested.cancelled:
            return True
        if self._gate.paused(batch_id, requested.tenant_id):
            self._again.pop(batch_id, None)  # it goes on as soon as it is resumed, by whomever
            return False
        _, not_before = self._again.get(batch_id, (0, 0.0))
        return time.monotonic() >= not_before

    def _begin(self, requested: Requested) -> None:
        batch_id = requested.batch.id
        task = asyncio.create_task(self._bring_on(requested), name=f"sluiceway-batch-{batch_id}")
        self._at_work[batch_id] = task
        self._at_work_for[requested.tenant_id] += 1
        task.add_done_callback(lambda _: self._is_done(requested))

    def _is_done(self, requested: Requested) -> None:
        del self._at_work[requested.batch.id]
        self._at_work_for[requested.tenant_id] -= 1

    async def _bring_on(self, requested: Requested) -> None:
        """Bring a batch as far as it gets."""
        batch_id = requested.batch.id
        know(batch_id=batch_id, tenant_id=requested.tenant_id)
        try:
            is_over = await (self._give_up(batch_id) if requested.cancelled else self._go_through(requested))
        except Exception as error:
            log.exception("batch %s", batch_id)
            self._tell(f"batch {batch_id} could not go on ({type(error).__name__}); it is tried again")
            is_over = False
        if is_over:
            await self._end(batch_id)
        else:
            tries, _ = self._again.get(batch_id, (0, 0.0))
            wait_s = _LOOKED_AT_AGAIN_S[min(tries, len(_LOOKED_AT_AGAIN_S) - 1)]
            self._again[batch_id] = tries + 1, time.monotonic() + wait_s

    async def _go_through(self, requested: Requested) -> bool:
        batch = requested.batch
        while batch.rows is None and await self._writer.put(Task(partial(fill, requested=requested))):
            if self._gate.draining.is_set():
                return False
        await self._writer.put(Task(partial(begin_batch, batch_id=batch.id, now=self._store.clock.stamp())))
        dispatcher = self._dispatch(requested)
        tally = await dispatcher.run()
        await dispatcher.enricher.settled()
        return not tally.left and not tally.waiting and not tally.ended[Ended.ELSEWHERE]

    async def _give_up(self, batch_id: str) -> bool:
        """End what is open of a batch; its calls in flight have been booked, or are declared now.

        Returns whether nothing is open any more: another process that lives ends its own calls and runs.
        """
        await asyncio.sleep(_STOPPED_EVERYWHERE_S)
        await self._recover()
        while True:
            await self._writer.flush()
            ops, others = await asyncio.to_thread(self._endings, batch_id)
            for op in ops:
                self._writer.post(op)
            if not ops:
                return not others

    def _endings(self, batch_id: str) -> tuple[list[Op], set[str]]:
        """Return what ends some of a batch's open runs, and which others that live have open ones."""
        with self._store.read() as connection:
            having = who_has_open(connection, batch_id) - {self._worker_id}
            others = {worker_id for worker_id in having if is_alive(self._store, worker_id)}
            busy = list(self._shared.at_work)
            return endings(connection, batch_id, self._store.clock.stamp(), busy, others), others

    async def _end(self, batch_id: str) -> None:
        now = self._store.clock.stamp()

        def end(connection: Any) -> None:
            if end_batch(connection, batch_id, now):
                self._ended(connection, batch_id)

        with suppress(Exception):  # a refusal is told by the writer; the batch is found unended and ended again
            await self._writer.put(Task(end))
        self._again.pop(batch_id, None)
        self._tell_waiters(batch_id)
