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
from sluiceway.pipeline.own_sources import OwnSources
from sluiceway.store.engine import Store
from sluiceway.store.schema import breakers, pauses
from sluiceway.store.writer import Writer
from sluiceway.tenancy.credentials import OpenCredential, credential_digest
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
    """Let a provider be asked again before its time, with every credential; returns whether a breaker was open."""
    opened = (breakers.c.provider == provider, breakers.c.state == "open")
    values = {"state": "closed", "changed_at": now}
    return connection.execute(breakers.update().where(*opened).values(**values)).rowcount > 0


def open_breakers(connection: Connection) -> dict[str, Stop]:
    """Return why providers are not asked, by account."""
    return {_account(row): _stop(row) for row in connection.execute(select(breakers)) if row.state == "open"}


def _account(row: Any) -> str:
    """Return whose breaker a row is, as the gate names it."""
    return row.provider if row.credential_id == PLATFORM else f"{row.provider}/{row.credential_id}"


def _stop(row: Any) -> Stop:
    until = parse_timestamp(row.probe_at) if row.probe_at else None
    return Stop(row.reason, until, Cause(row.cause), row.trips)


class Controls:
    """Keeps one process's gate and the store in step, and its sources with tenants' own credentials.

    `credentials` are the platform's, by provider.
    """

    def __init__(
        self, store: Store, writer: Writer[Op], gate: Gate, credentials: Mapping[str, str], own: OwnSources
    ) -> None:
        self._store = store
        self._writer = writer
        self._gate = gate
        self._credentials = credentials
        self._own = own
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
        self._follow(*await asyncio.to_thread(self._look), first=True)
        self._gate.on_change = self._store_change
        self._task = asyncio.create_task(self._go_on_looking(), name="sluiceway-controls")

    def _take_up(self, account: str, row: Any) -> None:
        """Start with a breaker that an earlier process left open, unless it has been mended by another credential.

        A rest is kept; what somebody may have mended meanwhile is found out by one request.
        """
        stop = _stop(row)
        if row.credential_digest != self._digest_of(account):
            if self._credential_of(account):
                self._store_change(account, None)
        elif stop.cause in (Cause.CONDEMNED, Cause.RAN_OUT):
            self._gate.try_again(account, stop)
        else:
            self._gate.adopt(account, stop)

    async def _go_on_looking(self) -> None:
        while not await set_within(self._ended, LOOK_EVERY_S):
            try:
                self._follow(*await asyncio.to_thread(self._look))
            except SQLAlchemyError as error:  # a store that cannot be read now is read again soon
                log.debug("the pauses could not be read: %s", error)

    def _look(self) -> tuple[list[Pause], list[OpenCredential] | None, list[Any]]:
        with self._store.read() as connection:
            own = self._own.look_again(connection)
            return all_pauses(connection), own, list(connection.execute(select(breakers)))

    def _follow(
        self, found: list[Pause], own: list[OpenCredential] | None, rows: list[Any], *, first: bool = False
    ) -> None:
        self._gate.pause(found)
        new = self._own.take(own) if own is not None else set()
        for row in rows:
            account = _account(row)
            if first or account in new:
                self._seen[account] = row.changed_at
                if row.state == "open":
                    self._take_up(account, row)
            elif self._credential_of(account) is not None:
                self._take_over(account, row)

    def _take_over(self, account: str, row: Any) -> None:
        """Take over a change that another process made after the last one we know."""
        if row.changed_at <= self._seen.get(account, ""):
            return
        self._seen[account] = row.changed_at
        if row.state == "closed":
            self._gate.adopt(account, None)
        elif row.credential_digest == self._digest_of(account):
            self._gate.adopt(account, _stop(row))

    def _credential_of(self, account: str) -> str | None:
        """Return the credential that is used for an account; `None` for one that is none of this process's."""
        own = self._own.speaking_with(account)
        return own.credential if own else self._credentials.get(account)

    def _digest_of(self, account: str) -> str:
        credential = self._credential_of(account)
        return "" if credential is None else credential_digest(credential)

    def _store_change(self, account: str, stop: Stop | None) -> None:
        now = self._store.clock.stamp()
        self._seen[account] = now
        provider, _, credential_id = account.partition("/")
        values = {
            "provider": provider,
            "credential_id": credential_id or PLATFORM,
            "state": "open" if stop else "closed",
            "cause": stop.cause.value if stop else "",
            "reason": stop.reason if stop else "",
            "credential_digest": self._digest_of(account),
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
