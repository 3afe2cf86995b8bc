"""What other processes must know of this one's gate, and it of theirs: persons' pauses and the state of breakers.

Both are rows in the store, which every worker has, and are looked at more than twice a second.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, delete, insert, select
from sqlalchemy.exc import SQLAlchemyError

from sluiceway.outcome import parse_timestamp, timestamp
from sluiceway.pipeline.gate import Cause, Gate, Pause, Stop
from sluiceway.store.engine import Store
from sluiceway.store.schema import breakers, pauses
from sluiceway.store.writer import Writer
from sluiceway.tenancy.credentials import credential_digest
from sluiceway.usage.counter import PLATFORM
from sluiceway.usage.ledger import Op, Task
from sluiceway.usage.pace import set_within

log = logging.getLogger(__name__)

LOOK_EVERY_S = 0.4


def set_pause(connection: Connection, pause: Pause, now: str) -> None:
    """Stop something from now on, wherever it runs; pausing it again changes who and why."""
    lift_pause(connection, pause.scope, pause.name)
    values = {"scope": pause.scope, "name": pause.name, "reason": pause.reason, "paused_by": pause.paused_by}
    connection.execute(insert(pauses).values(**values, paused_at=now))


def lift_pause(connection: Connection, scope: str, name: str) -> bool:
    """Let something go on; returns whether it was paused."""
    mine = (pauses.c.scope == scope, pauses.c.name == name)
    return connection.execute(delete(pauses).where(*mine)).rowcount > 0


def all_pauses(connection: Connection) -> list[Pause]:
    """Return everything that persons have stopped."""
    p = pauses.c
    query = select(p.scope, p.name, p.paused_by, p.reason).order_by(p.scope, p.name)
    return [Pause(*row) for row in connection.execute(query)]


def close_breaker(connection: Connection, provider: str, now: str) -> bool:
    """Let a provider be asked again before its time; returns whether its breaker was open."""
    opened = (breakers.c.provider == provider, breakers.c.state == "open")
    values = {"state": "closed", "changed_at": now}
    return connection.execute(breakers.update().where(*opened).values(**values)).rowcount > 0


def open_breakers(connection: Connection) -> dict[str, Stop]:
    """Return why providers are not asked, by provider."""
    return {row.provider: _stop(row) for row in connection.execute(select(breakers)) if row.state == "open"}


def _stop(row: Any) -> Stop:
    until = parse_timestamp(row.probe_at) if row.probe_at else None
    return Stop(row.reason, until, Cause(row.cause), row.trips)


class Controls:
    """Keeps one process's gate and the store in step. `credentials` are those in use, by provider."""

    def __init__(self, store: Store, writer: Writer[Op], gate: Gate, credentials: Mapping[str, str]) -> None:
        self._store = store
        self._writer = writer
        self._gate = gate
        self._digests = {provider: credential_digest(credential) for provider, credential in credentials.items()}
        self._with_credential = {provider for provider, credential in credentials.items() if credential}
        self._seen: dict[str, str] = {}
        self._ended = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Controls:
        await self._start()
        return self

    async def __aexit__(self, *exception: object) -> None:
        self._ended.set()  # and not cancelled: its thread must have given its connection back before the store closes
        if self._task is not None:
            await self._task

    async def _start(self) -> None:
        """Look once, so that nothing is sent before what was stopped is known; then go on looking."""
        found, rows = await asyncio.to_thread(self._look)
        self._gate.pause(found)
        for row in rows:
            self._seen[row.provider] = row.changed_at
            if row.state == "open":
                self._take_up(row)
        self._gate.on_change = self._store_change
        self._task = asyncio.create_task(self._go_on_looking(), name="sluiceway-controls")

    def _take_up(self, row: Any) -> None:
        """Start with a breaker that an earlier process left open, unless it has been mended by another credential.

        A rest is kept; what somebody may have mended meanwhile is found out by one request.
        """
        stop = _stop(row)
        if row.credential_digest != self._digests.get(row.provider):
            if row.provider in self._with_credential:
                self._store_change(row.provider, None)
        elif stop.cause in (Cause.CONDEMNED, Cause.RAN_OUT):
            self._gate.try_again(row.provider, stop)
        else:
            self._gate.adopt(row.provider, stop)

    async def _go_on_looking(self) -> None:
        while not await set_within(self._ended, LOOK_EVERY_S):
            try:
                found, rows = await asyncio.to_thread(self._look)
            except SQLAlchemyError as error:  # a store that cannot be read now is read again soon
                log.debug("the pauses could not be read: %s", error)
                continue
            self._gate.pause(found)
            for row in rows:
                self._take_over(row)

    def _look(self) -> tuple[list[Pause], list[Any]]:
        with self._store.read() as connection:
            return all_pauses(connection), list(connection.execute(select(breakers)))

    def _take_over(self, row: Any) -> None:
        """Take over a change that another process made after the last one we know."""
        if row.changed_at <= self._seen.get(row.provider, "") or row.provider not in self._digests:
            return
        self._seen[row.provider] = row.changed_at
        if row.state == "closed":
            self._gate.adopt(row.provider, None)
        elif row.credential_digest == self._digests[row.provider]:
            self._gate.adopt(row.provider, _stop(row))

    def _store_change(self, provider: str, stop: Stop | None) -> None:
        now = self._store.clock.stamp()
        self._seen[provider] = now
        values = {
            "provider": provider,
            "credential_id": PLATFORM,
            "state": "open" if stop else "closed",
            "cause": stop.cause.value if stop else "",
            "reason": stop.reason if stop else "",
            "credential_digest": self._digests.get(provider, ""),
            "changed_at": now,
            "probe_at": timestamp(stop.until) if stop and stop.until else None,
            "trips": stop.trips if stop else 0,
        }
        self._writer.post(Task(lambda connection: _store_breaker(connection, values)))


def _store_breaker(connection: Connection, values: Mapping[str, Any]) -> None:
    b = breakers.c
    mine = (b.provider == values["provider"], b.credential_id == values["credential_id"])
    connection.execute(delete(breakers).where(*mine))
    connection.execute(insert(breakers).values(**values))
