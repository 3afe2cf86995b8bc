"""Reading the providers' own meters: off the answers that come anyway, and by asking, now and then, what costs nothing.

It goes on beside the work and may neither delay nor fail it. Every question is an attempt in the ledger.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from datetime import date
from functools import partial
from typing import Final, Self

import msgspec

from sluiceway.errors import Redactor, describe
from sluiceway.outcome import Status
from sluiceway.pipeline.caller import Budget, Caller, Heard
from sluiceway.pipeline.gate import Exhausted, Held
from sluiceway.pipeline.turns import Behalf
from sluiceway.prospect import Person
from sluiceway.sources._contract import (
    METER,
    MeterReading,
    Reading,
    Request,
    Retry,
    Source,
    Subject,
    metered,
    reset_after,
)
from sluiceway.store.engine import Store
from sluiceway.store.writer import Writer
from sluiceway.usage.counter import PLATFORM
from sluiceway.usage.ledger import Attempt, Op, Task
from sluiceway.usage.outside import MeteredDay, keep_days, metered_days
from sluiceway.usage.provider_meter import MeterRow, keep

PATIENCE_S: Final = 5.0
"""Seconds an answer about a meter is waited for; the end of a run may have to wait for the last one."""

LAST_TURN_S: Final = 1.0
"""Seconds a question may still wait for its turn when the work is over."""

_PER_COMMIT: Final = 20  # so that a commit of readings holds nobody up


class Notes:
    """What answers said about meters since it was last stored: the latest of each; what is summed is added up.

    `due` names (as `asked_as`) the sources whose meters are to be asked for, and whether that is because their credits
    ran out.
    """

    def __init__(self, redact: Redactor) -> None:
        self.awake = asyncio.Event()
        self.due: dict[str, bool] = {}
        self._redact = redact
        self._met: set[str] = set()
        self._unread: dict[tuple[str, str], Heard] = {}
        self._rows: dict[tuple[str, str, str, str | None], MeterRow] = {}

    def note(self, heard: Heard, reading: Reading) -> None:
        """Take note of an answer; quick, and never raises. Headers are only read when they are to be stored."""
        source, response = heard.source, heard.response
        if heard.request.role == METER or not source.meter_headers:
            self._read(heard)
        elif any(name in response.headers for name in source.meter_headers):
            self._unread[source.asked_as, heard.request.endpoint] = heard
        ran_out = reading.status is Status.QUOTA_EXCEEDED and reading.retry is Retry.STOP
        if ran_out or source.asked_as not in self._met:
            self._met.add(source.asked_as)
            self.due[source.asked_as] = ran_out or self.due.get(source.asked_as, False)
            self.awake.set()

    def all_due(self) -> None:
        """Have every source that has answered so far asked for its meters."""
        self.due = {name: self.due.get(name, False) for name in self._met}

    def take(self) -> list[MeterRow]:
        """Return what is to be stored, and forget it."""
        for heard in self._unread.values():
            self._read(heard)
        rows = list(self._rows.values())
        self._unread.clear()
        self._rows.clear()
        return rows

    def _read(self, heard: Heard) -> None:
        for said in metered(heard.source, heard.request, heard.response):
            row = self._row(heard, said)
            key = (row.provider, row.credential_id, row.meter, row.resets_at if row.summed else None)
            before = self._rows.get(key)
            if before is None or row.read_at >= before.read_at:
                self._rows[key] = _added_up(before, row) if row.summed else row

    def _row(self, heard: Heard, said: MeterReading) -> MeterRow:
        origin = "call" if heard.request.role == METER else "headers" if heard.source.meter_headers else "body"
        return MeterRow(
            provider=heard.source.provider,
            credential_id=heard.source.credential_id or PLATFORM,
            meter=said.meter,
            unit=said.unit,
            origin=origin,
            # A sum is exactly of what had been answered by then.
            asked_at=heard.read_at if said.summed else heard.asked_at,
            read_at=heard.read_at,
            used=said.used,
            amount=said.amount,
            remaining=said.remaining,
            resets_at=reset_after(heard.read_at) if said.summed else said.resets_at,
            error=describe(said.error, self._redact) if said.error else None,
            summed=said.summed,
        )


def _added_up(before: MeterRow | None, row: MeterRow) -> MeterRow:
    if before is None or before.used is None or row.used is None:
        return row
    return msgspec.structs.replace(row, used=before.used + row.used)


class MeterReader:
    """Reads meters for as long as it is entered: a source's first when it has answered, then every so many seconds.

    `sources` are by `asked_as`. Out of credits is worth a look at once. `every_s` of 0 reads nothing by itself. `tell`
    is given one sentence when reading fails; whoever calls a provider does not notice.
    """

    def __init__(
        self,
        *,
        sources: Mapping[str, Source],
        notes: Notes,
        caller: Caller,
        writer: Writer[Op],
        store: Store,
        every_s: float,
        tell: Callable[[str], None],
    ) -> None:
        self._sources = sources
        self._notes = notes
        self._caller = caller
        self._writer = writer
        self._store = store
        self._clock = store.clock
        self._every_s = every_s
        self._tell = tell
        self._over = asyncio.Event()
        self._next = time.monotonic() + every_s
        self._ran_out_at: dict[str, float] = {}
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        if self._every_s:
            self._task = asyncio.create_task(self._go_on())
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        """Store what the last answers said; waits for a question that is under way."""
        if self._task is not None:
            self._over.set()
            self._notes.awake.set()
            await self._task

    async def _go_on(self) -> None:
        while not self._over.is_set():
            await self._sleep()
            await self._read_due()
        await self._read_due()

    async def _sleep(self) -> None:
        """Wait until something is due."""
        try:
            await asyncio.wait_for(self._notes.awake.wait(), max(0.0, self._next - time.monotonic()))
        except TimeoutError:
            self._next = time.monotonic() + self._every_s
            self._notes.all_due()
        self._notes.awake.clear()

    async def _read_due(self) -> None:
        """Ask for the meters that are due, and store what has been said."""
        try:
            await asyncio.gather(*map(self._read_if_allowed, self._take_due()))
            await self.store()
        except Exception as error:  # a figure beside the work is never worth the work
            self._tell(f"the providers' own meters could not be read ({type(error).__name__}); the work goes on")

    def _take_due(self) -> Iterator[Source]:
        """Yield the sources to ask; many answers say at once that credits ran out, and they are one occasion."""
        due, self._notes.due = self._notes.due, {}
        now = time.monotonic()
        for name, ran_out in due.items():
            lately = now - self._ran_out_at.get(name, -self._every_s) < self._every_s
            if ran_out and not lately:
                self._ran_out_at[name] = now
            if name in self._sources and not (ran_out and lately):
                yield self._sources[name]

    async def _read_if_allowed(self, source: Source) -> None:
        with suppress(Held, Exhausted):
            await self.read(source)

    async def read(self, source: Source) -> list[Reading]:
        """Ask a provider for its meters; what it said of them is in the notes. Raises `Held` when it may not be asked
        now, and `Exhausted` when a limit of ours on requests is used up.

        Returns how each question ended.
        """
        today = self._clock.now().date()
        return await asyncio.gather(*(self._ask(source, request, today) for request in source.meter_requests(today)))

    async def _ask(self, source: Source, request: Request, today: date) -> Reading:
        nobody, behalf = Subject(Person(), (), today), Behalf(METER)
        budget = Budget(unknowns=0, seconds=PATIENCE_S)
        begun = await self._begin(source, request, behalf)
        obtained = await self._caller.obtain(source, nobody, request, behalf, budget, begun, patient=False)
        await self._writer.put(obtained.finish)
        return obtained.reading

    async def _begin(self, source: Source, request: Request, behalf: Behalf) -> Attempt:
        """Wait for a question's turn; when the work is over no longer than it takes to write it down."""
        beginning = asyncio.create_task(self._caller.turns.begin(source, request, behalf))
        over = asyncio.create_task(self._over.wait())
        await asyncio.wait((beginning, over), return_when=asyncio.FIRST_COMPLETED)
        over.cancel()
        try:
            return await asyncio.wait_for(beginning, LAST_TURN_S)
        except TimeoutError:
            raise Held("the work was over before it was its turn") from None

    async def store(self) -> None:
        """Store what has been noted."""
        rows = self._notes.take()
        for start in range(0, len(rows), _PER_COMMIT):
            some = rows[start : start + _PER_COMMIT]
            await self._writer.put(Task(partial(keep, rows=some)))

    async def compare(self) -> None:
        """Hold today's readings against our attempts and keep what comes of it.

        Not for every reading: it goes through every attempt of the day once for each meter.
        """
        days = await asyncio.to_thread(self._compared_today)
        await self._writer.put(Task(partial(keep_days, days=days)))

    def _compared_today(self) -> list[MeteredDay]:
        with self._store.read() as connection:
            return metered_days(connection, self._store.clock.today().isoformat())
