"""What a service does by itself while it runs: it settles dead workers' calls, and takes away what is over.

Each job has a task of its own, and none may hurt the work: a job that fails is logged and tried again when its time
comes, and none holds the event loop, or the store, for long.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import closing
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Final, Self

import msgspec
from sqlalchemy import Connection, delete, or_, select

from sluiceway.errors import SluicewayError, StoreUnavailable
from sluiceway.outcome import timestamp
from sluiceway.pipeline import once
from sluiceway.pipeline.meter_reader import MeterReader
from sluiceway.pipeline.recover import recover
from sluiceway.pipeline.retention import Write, in_transactions, keep_of, ran_today, retain_daily
from sluiceway.rights.suppression import Suppressions
from sluiceway.settings import Settings
from sluiceway.store.engine import Store, open_store
from sluiceway.store.schema import alarms, deliveries
from sluiceway.store.writer import Writer
from sluiceway.tenancy.sessions import forget_sessions
from sluiceway.tenancy.throttle import forget_tries
from sluiceway.usage.admission import drop_old_windows
from sluiceway.usage.ledger import Op, Task
from sluiceway.usage.pace import set_within

log = logging.getLogger(__name__)

TOLD_FOR: Final = timedelta(days=30)
"""How long it is kept what was told to whom, once that is over."""

RAISED_FOR: Final = timedelta(days=100)
"""How long an alarm is kept that nobody resolved: longer than any window for which it would be raised again."""

_PER_COMMIT: Final = 200


class Job(msgspec.Struct, frozen=True):
    """Something that is done every so many seconds."""

    name: str
    every_s: float
    do: Callable[[], Awaitable[object]]


class Periodic:
    """Does jobs while it is entered, each for the first time when it is."""

    def __init__(self, jobs: Sequence[Job]) -> None:
        self._jobs = jobs
        self._over = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        self._tasks = [asyncio.create_task(self._go_on(job), name=f"sluiceway-{job.name}") for job in self._jobs]
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        """Wait for what is being done; nothing is begun any more."""
        self._over.set()
        await asyncio.gather(*self._tasks)

    async def _go_on(self, job: Job) -> None:
        while not self._over.is_set():
            try:
                await job.do()
            except SluicewayError as error:  # such as a store that cannot be written now
                log.warning("%s was put off: %s", job.name, error)
            except Exception:
                log.exception("%s failed and is tried again in %g s", job.name, job.every_s)
            await set_within(self._over, job.every_s)


class Chores:
    """The service's jobs. `meters` compares the providers' meters with our attempts, where there is one."""

    def __init__(
        self,
        *,
        settings: Settings,
        store: Store,
        writer: Writer[Op],
        suppressions: Suppressions,
        meters: MeterReader | None,
        stopping: Callable[[], bool],
        tell: Callable[[str], None],
    ) -> None:
        self._settings = settings
        self._store = store
        self._writer = writer
        self._suppressions = suppressions
        self._meters = meters
        self._stopping = stopping
        self._tell = tell

    def jobs(self) -> list[Job]:
        """Return what there is to do."""
        found = [
            Job("recovery", 10.0, self.settle_dead),
            Job("forgetting", 3600.0, self.forget),
            Job("retention", 600.0, self.retain),
        ]
        return found + ([Job("comparison", 600.0, self._meters.compare)] if self._meters else [])

    async def settle_dead(self) -> None:
        """Declare `unknown` what workers left open that have died."""
        if found := await recover(self._store, self._writer):
            self._tell(f"{found:,} calls were cut short with their worker; `sluiceway usage unknown` lists them")

    async def forget(self) -> None:
        """Take away what is over: requests' keys, sessions, sign-ins that failed, limits' windows, what was told."""
        await self._writer.put(Task(partial(_forget, now=self._store.clock.now())))
        before = timestamp(self._store.clock.now() - TOLD_FOR)
        while (ids := await asyncio.to_thread(self._told_before, before)) and not self._stopping():
            told = delete(deliveries).where(deliveries.c.id.in_(ids))
            await self._writer.put(Task(partial(_execute, statement=told)))

    def _told_before(self, before: str) -> list[str]:
        """Return some deliveries that were over so long ago, whether they arrived or were given up."""
        d = deliveries.c
        query = select(d.id).where(d.created_at < before, d.next_at.is_(None)).order_by(d.id).limit(_PER_COMMIT)
        with self._store.read() as connection:
            return list(connection.execute(query).scalars())

    async def retain(self) -> None:
        """Take away people and calls that were kept for long enough, once on a UTC day.

        On a thread and a connection of its own, so that the event loop and the writer go on between its transactions.
        """
        await asyncio.to_thread(self._retain)

    def _retain(self) -> None:
        if ran_today(self._store):
            return
        with closing(open_store(self._store.url)) as own:
            write = politely(in_transactions(own), self._stopping)
            retain_daily(own, keep_of(self._settings), self._suppressions, write, self._tell)


def politely(write: Write, stopping: Callable[[], bool]) -> Write:
    """Return what leaves others as much time to write as it takes; raises `StoreUnavailable` when it is to stop."""

    def write_politely(change: Callable[[Connection], Any]) -> Any:
        if stopping():
            raise StoreUnavailable("the service is stopping")
        began = time.monotonic()
        result = write(change)
        time.sleep(time.monotonic() - began)
        return result

    return write_politely


def _forget(connection: Connection, now: datetime) -> None:
    once.forget_old(connection, timestamp(now))
    forget_sessions(connection, now)
    forget_tries(connection, now)
    drop_old_windows(connection, now)
    over, stale = alarms.c.resolved_at < timestamp(now - TOLD_FOR), alarms.c.raised_at < timestamp(now - RAISED_FOR)
    connection.execute(delete(alarms).where(or_(over, stale)))


def _execute(connection: Connection, statement: Any) -> None:
    connection.execute(statement)
