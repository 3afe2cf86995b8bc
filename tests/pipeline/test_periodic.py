"""What the service does by itself: it goes on whatever happens, takes away what is over, and leaves the rest."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Table, insert

from builders import a_prospect, an_attempt, rows, until, write
from sluiceway.errors import StoreUnavailable
from sluiceway.outcome import timestamp
from sluiceway.pipeline.periodic import Chores, Job, Periodic, politely
from sluiceway.rights.suppression import opened_list
from sluiceway.settings import load_settings
from sluiceway.store.engine import Store
from sluiceway.store.schema import (
    alarms,
    attempts,
    deliveries,
    idempotency_keys,
    limit_windows,
    login_attempts,
    prospects,
    sessions,
)
from sluiceway.store.writer import Writer
from sluiceway.usage.ledger import Begin, Op, apply


@pytest.fixture
async def writer(store: Store) -> AsyncIterator[Writer[Op]]:
    writer: Writer[Op] = Writer(store.writing, apply)
    yield writer
    await writer.close()


def chores_of(store: Store, writer: Writer[Op], told: list[str] | None = None, **settings: Any) -> Chores:
    """The service's jobs on a store."""
    return Chores(
        settings=load_settings(database_url=store.url, **settings),
        store=store,
        writer=writer,
        suppressions=opened_list(store, ""),
        meters=None,
        stopping=lambda: False,
        tell=(told if told is not None else []).append,
    )


def ago(store: Store, **time: float) -> str:
    return timestamp(store.clock.now() - timedelta(**time))


async def test_a_job_that_fails_is_logged_and_done_again(caplog: pytest.LogCaptureFixture) -> None:
    done: list[str] = []

    async def fails() -> None:
        done.append("tried")
        raise (StoreUnavailable("the store is closed") if len(done) == 1 else ValueError("a fault"))

    async def works() -> None:
        done.append("worked")

    with caplog.at_level(logging.WARNING):
        async with Periodic([Job("shaky", 0.01, fails), Job("steady", 0.01, works)]):
            await until(lambda: done.count("tried") > 2 and done.count("worked") > 2)
    assert "shaky was put off: the store is closed" in caplog.text
    assert "shaky failed and is tried again" in caplog.text
    assert "steady" not in caplog.text


async def test_the_end_waits_for_what_is_being_done_and_not_for_the_next_time() -> None:
    began, done = asyncio.Event(), []

    async def slow() -> None:
        began.set()
        await asyncio.sleep(0.05)
        done.append("done")

    async with asyncio.timeout(5), Periodic([Job("slow", 3600, slow)]):
        await began.wait()
    assert done == ["done"]


async def test_what_a_worker_left_open_that_died_is_settled_while_the_service_runs(
    store: Store, writer: Writer[Op]
) -> None:
    told: list[str] = []
    write(store, Begin(an_attempt(worker_id="long-dead")))
    await chores_of(store, writer, told).settle_dead()
    assert [row["charge"] for row in rows(store, attempts)] == ["unknown"]
    assert told == ["1 calls were cut short with their worker; `sluiceway usage unknown` lists them"]


async def test_what_is_over_is_taken_away_and_what_is_not_stays(store: Store, writer: Writer[Op]) -> None:
    old, now = ago(store, days=200), ago(store, seconds=1)
    session = {"user_id": "u", "csrf_secret": "s", "created_at": old}
    key = {"tenant_id": "t", "route": "r", "digest": "d", "worker_id": "w"}
    told = {"receiver": "alert", "receiver_id": "a", "event": "drift", "target": "apollo"}
    alarm = {"kind": "drift", "window": "w", "said": "s"}
    each: dict[Table, list[dict[str, Any]]] = {
        sessions: [
            {**session, "id": "goes", "seen_at": old, "expires_at": old},
            {**session, "id": "stays", "seen_at": now, "expires_at": ago(store, days=-1)},
        ],
        idempotency_keys: [{**key, "key": "goes", "created_at": old}, {**key, "key": "stays", "created_at": now}],
        login_attempts: [
            {"kind": "account", "name": "goes", "failures": 1, "last_at": old},
            {"kind": "account", "name": "stays", "failures": 1, "last_at": now},
        ],
        limit_windows: [
            {"limit_id": "goes", "opens_at": old, "closes_at": old},
            {"limit_id": "stays", "opens_at": now, "closes_at": ago(store, days=-1)},
        ],
        alarms: [
            {**alarm, "subject": "goes", "raised_at": old, "resolved_at": ago(store, days=40)},
            {**alarm, "subject": "stays", "raised_at": ago(store, days=40), "resolved_at": None},
        ],
        deliveries: [
            {**told, "id": "goes", "created_at": old, "next_at": None, "delivered_at": old},
            {**told, "id": "stays", "created_at": old, "next_at": now, "delivered_at": None},
        ],
    }
    with store.writing.begin() as connection:
        for table, values in each.items():
            connection.execute(insert(table), values)
    await chores_of(store, writer).forget()
    for table in each:
        (left,) = rows(store, table)
        assert "stays" in left.values(), table.name


async def test_many_old_deliveries_go_some_at_a_time(store: Store, writer: Writer[Op]) -> None:
    old = ago(store, days=40)
    told = {"receiver": "webhook", "receiver_id": "a", "event": "e", "target": "t", "created_at": old}
    with store.writing.begin() as connection:
        connection.execute(insert(deliveries), [{**told, "id": f"{number:04}"} for number in range(450)])
    await chores_of(store, writer).forget()
    assert rows(store, deliveries) == []
    assert writer.commits >= 4


async def test_retention_runs_while_the_service_does_once_a_day(store: Store, writer: Writer[Op]) -> None:
    told: list[str] = []
    a_prospect(store)
    chores = chores_of(store, writer, told, keep_people_days=1)
    await writer.flush()
    await chores.retain()
    assert rows(store, prospects) == []
    assert told == ["kept for long enough, and gone now: 1 people, 0 calls (their sums stay)"]
    a_prospect(store)
    await chores.retain()
    assert len(rows(store, prospects)) == 1, "it has run on this day"


def test_a_long_job_leaves_others_time_to_write_and_stops_when_it_is_to() -> None:
    stop = threading.Event()
    write_politely = politely(lambda change: change(None), stop.is_set)
    assert write_politely(lambda connection: "done") == "done"
    stop.set()
    with pytest.raises(StoreUnavailable, match="stopping"):
        write_politely(lambda connection: "never")
