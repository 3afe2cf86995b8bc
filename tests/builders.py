"""Short ways to make what the ledger holds, to write it, and to look at what is there afterwards.

Everything built here is complete and ordinary; a test names only what matters to it.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import msgspec
from sqlalchemy import Connection, Engine, Table, event, insert, select
from sqlalchemy.exc import OperationalError

from sluiceway.identifier import new_id
from sluiceway.outcome import Charge, as_json, billed
from sluiceway.prospect import Person, identity_key
from sluiceway.rollups import prospects_added
from sluiceway.store.engine import Store
from sluiceway.store.schema import metadata, prospects
from sluiceway.usage.admission import Limits
from sluiceway.usage.ledger import (
    Attempt,
    Close,
    CloseResult,
    CloseRun,
    External,
    Finish,
    Op,
    OpenRun,
    ResultRow,
    RunRow,
    apply,
)
from sluiceway.usage.quota import Quota, QuotaClock, Unit, set_quota, uses

AT = "2026-03-04T05:06:07.000Z"
LATER = "2026-03-04T05:06:09.000Z"
DAY = "2026-03-04"
A_CREDIT = billed(credits={"lead": 1000}, usd_micros=26_000)
UNPRICED = Charge(A_CREDIT.kind, {"lead": 1000}, None)

INES = Person(
    first_name="Ines", last_name="Okafor-Lind", company="Harbourline Robotics", domain="harbourline.example",
    email="ines@harbourline.example",
)  # fmt: skip


def somebody(number: int = 0) -> Person:
    """A person; another number is another person."""
    return Person(full_name=f"Person {number}", company="Quell Holdings", email=f"person{number}@quell.example")


def a_prospect(store: Store, person: Person = INES, tenant: str = "default") -> str:
    """Put a prospect into the store; returns its id."""
    values = {
        "id": new_id(),
        "tenant_id": tenant,
        "identity_key": identity_key(person),
        "person": as_json(person),
        "created_at": AT,
    }
    with store.writing.begin() as connection:
        connection.execute(insert(prospects).values(values))
        prospects_added(connection, [(tenant, AT)])
    return values["id"]


def an_attempt(**changed: Any) -> Attempt:
    """A request to Apollo, about to be sent."""
    attempt = Attempt(
        day=DAY, id=new_id(), hour=5, provider="apollo", source="apollo", endpoint="people/match", request_key="k",
        credential_id="platform", worker_id="w", trigger="file", tenant_id="default", batch_id=None, prospect_id=None,
        source_result_id=None, begun_at=AT, deadline_at=LATER,
    )  # fmt: skip
    return msgspec.structs.replace(attempt, **changed)


def a_finish(attempt: Attempt, charge: Charge = A_CREDIT, **changed: Any) -> Finish:
    """The end of an attempt: by default a billed answer."""
    ended = {"billed": "complete", "free": "failed", "unknown": "unknown", "not_sent": "failed"}[charge.kind]
    finish = Finish(attempt.day, attempt.id, LATER, ended, charge, http_status=200, latency_us=120_000)
    return msgspec.structs.replace(finish, **changed)


def a_run(prospect_id: str, **changed: Any) -> RunRow:
    """An open run of one prospect."""
    run = RunRow(new_id(), "default", prospect_id, None, "file", "w", AT, None, "running")
    return msgspec.structs.replace(run, **changed)


def a_result(run: RunRow, source: str = "apollo", **changed: Any) -> ResultRow:
    """A source's open part of a run."""
    result = ResultRow(
        new_id(), run.tenant_id, run.id, run.prospect_id, source, "work_email|k", "running", None, None, AT, None
    )
    return msgspec.structs.replace(result, **changed)


def an_opening(
    prospect_id: str, *sources: str, former: str | None = None, begins: Sequence[Attempt] = (), **changed: Any
) -> OpenRun:
    """The opening of a run that asks these sources (by default Apollo)."""
    run = a_run(prospect_id, **changed)
    return OpenRun(run, former, tuple(a_result(run, source) for source in sources or ("apollo",)), tuple(begins))


def a_close(result: ResultRow, status: str = "complete", **changed: Any) -> Close:
    """The closing of a source's part."""
    return msgspec.structs.replace(Close(result.id, result.prospect_id, result.source, status, LATER), **changed)


def a_closing(result: ResultRow, status: str = "complete", **changed: Any) -> CloseResult:
    """The closing of a source's part that needed no request."""
    return CloseResult(a_close(result, status, **changed))


def the_end(run: RunRow, status: str = "complete", at: str = LATER) -> CloseRun:
    """The end of a run."""
    return CloseRun(run.id, run.prospect_id, at, status)


def a_booking(calls: int = 1, **changed: Any) -> External:
    """Counted calls with no attempt behind them."""
    return msgspec.structs.replace(External(new_id(), "apollo", DAY, "tracked", calls, AT), **changed)


def a_quota(amount: int = 10, **changed: Any) -> Quota:
    """A limit on Apollo's requests of a day."""
    return msgspec.structs.replace(Quota("apollo", Unit.REQUESTS, QuotaClock.DAY, amount), **changed)


def limited(store: Store, *quotas: Quota, at: str = AT) -> None:
    """Set limits, as a person does."""
    with store.writing.begin() as connection:
        for quota in quotas:
            set_quota(connection, quota, by="Ines", now=at)


def use_of(store: Store, quota: Quota, at: str = AT) -> tuple[int, int]:
    """What is used of a limit, and what of it is reserved for calls still open, as admission keeps it."""
    with store.read() as connection:
        (use,) = (use for use in uses(connection, at) if use.quota.id == quota.id)
        return use.used, use.pending


def write(store: Store, *ops: Op, limits: Limits | None = None) -> list[Any]:
    """Apply operations in one commit."""
    with store.writing.begin() as connection:
        return apply(connection, ops, limits)


def rows(store: Store, table: Table) -> list[dict[str, Any]]:
    """Everything a table holds, in the order of its key."""
    with store.read() as connection:
        query = select(table).order_by(*table.primary_key.columns)
        return [dict(row) for row in connection.execute(query).mappings()]


def row(store: Store, table: Table) -> dict[str, Any]:
    """The one row a table holds."""
    (only,) = rows(store, table)
    return only


def everything(store: Store) -> dict[str, list[dict[str, Any]]]:
    """The whole ledger, to be compared with itself."""
    return {name: rows(store, table) for name, table in metadata.tables.items()}


def stored(store: Store, prospect_id: str, column: str = "enrichment_source_status") -> Any:
    """What a prospect holds in one of its JSON columns."""
    with store.read() as connection:
        text = connection.execute(select(prospects.c[column]).where(prospects.c.id == prospect_id)).scalar_one()
    return msgspec.json.decode(text)


async def until(holds: Callable[[], Any], within: float = 20.0) -> None:
    """Wait until something holds."""
    give_up = time.monotonic() + within
    while not holds():
        assert time.monotonic() < give_up, "what was waited for did not come about"
        await asyncio.sleep(0.002)


def today() -> str:
    """The UTC day it is."""
    return datetime.now(UTC).date().isoformat()


@contextmanager
def lost_commit_replies(engine: type[Engine] | Engine, times: int = 1) -> Iterator[list[str]]:
    """Let the next commits succeed and say that they failed; yields a list that grows with each."""
    lost: list[str] = []
    failure = sqlite3.OperationalError("the reply was lost")
    failure.sqlite_errorname = "SQLITE_IOERR_FSYNC"

    def commit(connection: Any) -> None:
        if len(lost) < times:
            connection.connection.driver_connection.commit()
            lost.append("reply")
            raise OperationalError("COMMIT", {}, failure)

    event.listen(engine, "commit", commit)
    try:
        yield lost
    finally:
        event.remove(engine, "commit", commit)


@contextmanager
def full_disk(store: Store) -> Iterator[None]:
    """Let the store's file grow no further, for as long as the block lasts; what needs a new page cannot be written."""
    pages = {"most": 1}  # fewer than there are means: no more than there are

    def limit(connection: Connection) -> None:
        connection.exec_driver_sql(f"PRAGMA max_page_count = {pages['most']}")

    event.listen(store.writing, "begin", limit, insert=True)
    try:
        yield
    finally:
        pages["most"] = 1 << 30


@contextmanager
def locked(store: Store) -> Iterator[None]:
    """Write to the store from elsewhere, for as long as the block lasts."""
    other = sqlite3.connect(str(store.writing.url.database), isolation_level=None)
    try:
        other.execute("BEGIN EXCLUSIVE")
        yield
    finally:
        other.close()
