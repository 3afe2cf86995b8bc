"""A desk to enrich people from: the real store, writer and HTTP client, asking a sandbox that answers as it is told.

When a desk is left it is settled: the sandbox's meter against the ledger, and every sum against its rows.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import timedelta
from functools import partial
from typing import Any

from sqlalchemy import Connection, select

from builders import INES, rows
from sluiceway.app import App, Target, opened
from sluiceway.outcome import timestamp
from sluiceway.pipeline import batch as batches
from sluiceway.pipeline import history
from sluiceway.pipeline.batch import Asked, Batch, InputRow
from sluiceway.pipeline.caller import MOST_UNKNOWNS, Caller
from sluiceway.pipeline.embedded import Embedded, Tally
from sluiceway.pipeline.history import History
from sluiceway.pipeline.library import Library
from sluiceway.pipeline.plan import Order
from sluiceway.pipeline.recover import recover
from sluiceway.pipeline.run import Enricher
from sluiceway.pipeline.turns import Terms
from sluiceway.prospect import Person, identity_key
from sluiceway.rollups import folded
from sluiceway.sandbox.process import SandboxProcess
from sluiceway.settings import load_settings
from sluiceway.store.engine import Store
from sluiceway.store.schema import attempts, daily_totals, prospects, source_results, usage_hours
from sluiceway.usage.ledger import Op, Task
from sluiceway.usage.meter import Metered, drift
from sluiceway.usage.pace import Pace
from sluiceway.usage.quota import Quota, set_quota
from sluiceway.usage.spend import spend_by_provider

FOUND = {
    "person": {
        "name": "Ines Okafor-Lind", "email": "ines@harbourline.example", "email_status": "verified",
        "title": "Chief Financial Officer", "organization": {"name": "Harbourline Robotics"},
    },
}  # fmt: skip
NOBODY = {"person": None}
NOWHERE = "http://127.0.0.1:1"
"""An address at which nobody listens: port 1 is nobody's."""


def taken_in(
    connection: Connection, people: Sequence[Person], digest: str, refresh: bool, now: str, tenants: Sequence[str] = ()
) -> Batch:
    """Take people in as a batch that has begun; the same digest continues the same batch."""
    asked = Asked("default", "people.csv", digest, {"refresh": refresh}, "file", refresh)
    batch = batches.open_batch(connection, asked, now)
    if not batch.continued:
        whose = tenants or ["default"] * len(people)
        numbered = [InputRow(number, whose[number], person) for number, person in enumerate(people)]
        batches.take_in(connection, batch.id, numbered, now)
        batches.begin_batch(connection, batch.id, batch.began_at)
    return batch


Open = Callable[..., AbstractAsyncContextManager["Desk"]]
"""Opens a desk: `async with desk("apollo", timeout_s=1) as at:`. Opened again, it is the next process's."""


class Desk:
    """One worker. `told` is every sentence it said to a person."""

    def __init__(self, app: App, sandbox: SandboxProcess, told: list[str], jitter: Callable[[], float]) -> None:
        self.app = app
        self.store = app.store
        self.told = told
        self.sandbox = sandbox
        self._jitter = jitter

    # What providers will say, and what they were asked.

    def answers(self, *statuses: int, provider: str = "apollo", body: Any = FOUND, **more: Any) -> None:
        """Have a provider give these answers next. The meter bills a 200 about somebody, unless told otherwise."""
        for status in statuses:
            empty = status != 200 and body is FOUND
            said = "" if empty else body if isinstance(body, str) else json.dumps(body)
            wanted = {"billed": status == 200 and body not in (NOBODY, ""), "body": said, **more}
            self.sandbox.post("/_answer", {"provider": provider, "status": status, **wanted})

    def requests(self, provider: str = "apollo") -> int:
        """How many requests a provider has received."""
        received: int = self.sandbox.meter()["providers"][provider]["requests"]
        return received

    def unreachable(self, source: str = "apollo") -> None:
        """Move a source to an address at which nobody listens."""
        terms = self.app.terms[source]
        self.app.terms[source] = Terms(dict.fromkeys(terms.base_urls, NOWHERE), terms.timeout_s, Pace(1000))

    # Asking.

    async def run(
        self, *people: Person, digest: str = "a list", refresh: bool = False, tenants: Sequence[str] = ()
    ) -> Tally:
        """Enrich people as one batch; the same digest continues the same batch."""
        batch = await self.batch(*(people or (INES,)), digest=digest, refresh=refresh, tenants=tenants)
        tally = await self.embedded(batch).run()
        await self.app.writer.flush()
        if not tally.left and not tally.waiting:
            await self.do(batches.finish_batch, batch.id, self.now())
        return tally

    async def batch(
        self, *people: Person, digest: str = "a list", refresh: bool = False, tenants: Sequence[str] = ()
    ) -> Batch:
        """Take people in as a batch that has begun; `tenants` says whose each of them is."""
        batch: Batch = await self.do(taken_in, people, digest, refresh, self.now(), tenants)
        return batch

    def embedded(self, batch: Batch) -> Embedded:
        return Embedded(
            store=self.store,
            enricher=self.enricher(batch),
            gate=self.app.gate,
            worker_id=self.app.worker.id,
            batch=batch,
            concurrency=self.app.settings.concurrency,
            fresh_days=self.app.settings.fresh_days,
            stays_s=self.app.settings.wait_at_most_s,
            recover=lambda: recover(self.store, self.app.writer),
            on_prospect=lambda ended: None,
        )

    def enricher(self, batch: Batch) -> Enricher:
        app, caller = self.app, self.caller()
        return Enricher(
            sources=app.sources,
            unusable=app.unusable,
            order=Order(batch.id, "file", app.settings.want, MOST_UNKNOWNS[app.settings.on_unknown]),
            writer=app.writer,
            caller=caller,
            library=Library(store=app.store, writer=app.writer),
            gate=app.gate,
            clock=app.store.clock,
            worker_id=app.worker.id,
            redact=app.redact,
            tell=lambda source, status: None,
            watch=app.watch,
            own=app.own.of,
        )

    def caller(self) -> Caller:
        app = self.app
        return Caller(
            writer=app.writer,
            door=app.door,
            gate=app.gate,
            clock=app.store.clock,
            worker_id=app.worker.id,
            redact=app.redact,
            terms=app.terms,
            on_unknown=app.settings.on_unknown,
            admission=app.admission,
            jitter=self._jitter,
            note=app.notes.note,
        )

    async def history(self, person: Person = INES, days: int = 30) -> History:
        """What the ledger knows about somebody."""
        since = timestamp(self.store.clock.now() - timedelta(days=days))
        with self.store.read() as connection:
            (known,) = history.load(connection, [self.prospect_id(person)], since=since, batch_id=None)
        return known

    # Writing, and looking at what is there.

    async def do(self, write: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        return await self.app.writer.put(Task(lambda connection: write(connection, *arguments, **named)))

    async def limit(self, *quotas: Quota) -> None:
        """Set limits, as a person does who has a process of their own."""
        for quota in quotas:
            await self.do(partial(set_quota, by="Ines"), quota, now=self.now())

    async def write(self, *ops: Op) -> None:
        for op in ops:
            await self.app.writer.put(op)

    def now(self) -> str:
        return timestamp(self.store.clock.now())

    def prospect_id(self, person: Person = INES) -> str:
        query = select(prospects.c.id).where(prospects.c.identity_key == identity_key(person))
        with self.store.read() as connection:
            found: str = connection.execute(query).scalar_one()
        return found

    def charges(self) -> list[str | None]:
        """How every attempt was charged, in the order they were begun."""
        return [attempt["charge"] for attempt in self.attempts()]

    def attempts(self) -> list[dict[str, Any]]:
        return sorted(rows(self.store, attempts), key=lambda attempt: str(attempt["id"]))

    def results(self) -> list[dict[str, Any]]:
        return sorted(rows(self.store, source_results), key=lambda result: str(result["id"]))

    def statuses(self) -> list[str]:
        """How every source result stands or ended, in the order they were opened."""
        return [result["status"] for result in self.results()]

    def total(self, provider: str = "apollo") -> int:
        """The provider's counter, over all days."""
        kept = [total for total in rows(self.store, daily_totals) if total["provider"] == provider]
        return sum(total["billed"] + total["tracked"] + total["imported"] for total in kept)

    # Settling.

    def settle(self) -> None:
        """The meter against the ledger, the sums against their rows, and the guarantee between them."""
        meter = self.sandbox.meter()
        with self.store.read() as connection:
            spends = spend_by_provider(connection)
            hours = sorted(tuple(row) for row in connection.execute(select(usage_hours)))
            assert hours == sorted(tuple(row) for row in connection.execute(folded()))
        metered = {name: Metered(each["requests"], each["billed"]) for name, each in meter["providers"].items()}
        assert drift(spends, metered, meter["repeated_requests"]) == 0, (spends, metered)
        for provider, spend in spends.items():
            assert self.total(provider) == spend.billed + spend.tracked + spend.imported


@asynccontextmanager
async def a_desk(
    store_url: str,
    sandbox: SandboxProcess,
    *sources: str,
    timeout_s: float = 5.0,
    jitter: Callable[[], float] = lambda: -0.5,  # no wait between attempts that nobody asked for
    settled: bool = True,
    **settings: Any,
) -> AsyncIterator[Desk]:
    """Open a desk that asks some sources (by default Apollo)."""
    told: list[str] = []
    target = Target(sandbox.url, pace={"all": 5000.0}, timeout_s={"all": timeout_s})
    given = load_settings(database_url=store_url, **{"concurrency": 1, "wait_at_most_s": 2, **settings})
    async with opened(given, names=list(sources or ("apollo",)), target=target, tell=told.append) as app:
        desk = Desk(app, sandbox, told, jitter)
        yield desk
        await app.writer.flush()
        if settled:
            desk.settle()


def waiting(store: Store) -> list[tuple[str, str]]:
    """Who waits for what: (source, reason)."""
    return [(each["source"], each["error"]) for each in rows(store, source_results) if each["status"] == "waiting"]
