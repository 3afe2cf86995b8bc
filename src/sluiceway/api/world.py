"""What requests are answered from: the open store with what works on it, for the real providers or for a sandbox."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from typing import Any, Concatenate, Final, ParamSpec, TypeVar

import msgspec
from sqlalchemy import Connection

from sluiceway.errors import Redactor, StoreUnavailable
from sluiceway.pipeline.caller import Caller
from sluiceway.pipeline.embedded import Embedded
from sluiceway.pipeline.gate import Gate
from sluiceway.pipeline.meter_reader import MeterReader
from sluiceway.pipeline.requested import Requested
from sluiceway.pipeline.runner import Runner
from sluiceway.rights.rewriting import Rewriter
from sluiceway.rights.suppression import Suppressions
from sluiceway.settings import Settings
from sluiceway.sources import Source
from sluiceway.store.engine import Store
from sluiceway.store.writer import Writer
from sluiceway.tenancy.caller import Principal, Uses
from sluiceway.usage.ledger import Op, Task
from sluiceway.usage.on_redis import Publisher

P = ParamSpec("P")
T = TypeVar("T")

_PATIENCE_S: Final = 10.0
"""Seconds a request waits for a store that cannot be written; what was asked may still be done after that."""


class World(msgspec.Struct, frozen=True):
    """One open store, and what is at work on it.

    `price` gives a dispatcher that is never run, to say what a batch would do; `unusable` says, by source, why it
    cannot be asked. `own` gives, by name, those that are asked with a tenant's own credentials. `worker_id` is this
    process.
    """

    settings: Settings
    store: Store
    writer: Writer[Op]
    runner: Runner
    gate: Gate
    suppressions: Suppressions
    rewriter: Rewriter
    redact: Redactor
    sources: Mapping[str, Source]
    unusable: Mapping[str, str]
    worker_id: str
    sandbox: bool
    caller: Callable[[], Caller]
    price: Callable[[Requested], Embedded]
    meters: MeterReader | None = None
    own: Callable[[str], Mapping[str, Source]] = lambda tenant_id: {}
    publisher: Publisher | None = None

    async def read(self, what: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Return what a function finds in one consistent state of the store."""
        return await asyncio.to_thread(self._read, lambda connection: what(connection, *args, **kwargs))

    def _read(self, what: Callable[[Connection], T]) -> T:
        with self.store.read() as connection:
            return what(connection)

    async def write(self, what: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Return what a function did, once that is durable; it may be called again where a commit failed.

        Raises what the function raises, and `StoreUnavailable` when the store cannot be written for long.
        """
        done = self.writer.put(Task(lambda connection: what(connection, *args, **kwargs)))
        try:
            result: T = await asyncio.wait_for(asyncio.shield(done), _PATIENCE_S)
        except TimeoutError:
            raise StoreUnavailable("the store cannot be written now; whether this was done will show later") from None
        return result

    def post(self, op: Op | Callable[[Connection], Any]) -> None:
        """Have something written that nobody waits for."""
        self.writer.post(Task(op) if callable(op) else op)

    @property
    def now(self) -> datetime:
        """The present moment by the store's clock."""
        return self.store.clock.now()

    @property
    def stamp(self) -> str:
        """The present moment as tables hold it."""
        return self.store.clock.stamp()


class Service(msgspec.Struct, frozen=True):
    """Everything there is to answer from. Users and keys are the main world's.

    Where that asks the real providers, `trial` opens another one for test keys, with a store and a sandbox of its own.
    """

    main: World
    uses: Uses
    trial: Callable[[], Awaitable[World]]
    stop_trial: Callable[[], None]
    started_at: datetime

    def stop(self) -> None:
        """Begin nothing more, and let nobody wait: the process is about to end."""
        self.main.runner.stop()
        self.stop_trial()

    async def world_of(self, principal: Principal) -> World:
        """Return in which world somebody acts: a test key's reaches no real provider."""
        return await self.trial() if principal.sandbox_only and not self.main.sandbox else self.main
