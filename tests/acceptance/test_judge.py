"""The judge sees what it is there to see: every kind of tampering with an honest ledger is noticed."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

from acceptance.judge import judge
from builders import today

if TYPE_CHECKING:
    from pathlib import Path

    from redis import Redis

    from acceptance.desk import Desk
    from acceptance.judge import Meter
    from redis_server import RedisServer

TAMPERING = {
    "an attempt is missing": "DELETE FROM attempts WHERE id = (SELECT max(id) FROM attempts)",
    "a call was billed and is called free": "UPDATE attempts SET charge = 'free' WHERE id ="
    " (SELECT id FROM attempts WHERE charge = 'billed' LIMIT 1)",
    "a call was free and is called billed": "UPDATE attempts SET charge = 'billed' WHERE id ="
    " (SELECT id FROM attempts WHERE charge = 'free' LIMIT 1)",
    "everything is called unknown": "UPDATE attempts SET charge = 'unknown', milli_credits = NULL, usd_micros = NULL",
    "a price is wrong": "UPDATE attempts SET usd_micros = usd_micros + 1 WHERE source = 'exa'",
    "a daily total is wrong": "UPDATE daily_totals SET billed = billed + 1",
    "a daily total is missing": "DELETE FROM daily_totals WHERE provider = 'apollo'",
    "a rollup is wrong": "UPDATE usage_hours SET latency_us = latency_us + 1",
    "a run is open": "UPDATE runs SET closed_at = NULL WHERE id = (SELECT max(id) FROM runs)",
    "a result is open": "UPDATE source_results SET closed_at = NULL, status = 'running'"
    " WHERE id = (SELECT max(id) FROM source_results)",
    "a batch is open": "UPDATE batches SET finished_at = NULL",
    "an attempt is open": "UPDATE attempts SET charge = NULL, finished_at = NULL"
    " WHERE id = (SELECT max(id) FROM attempts)",
    "what was said is not kept": "DELETE FROM answers WHERE source = 'exa'",
    "somebody was never enriched": "DELETE FROM runs WHERE id = (SELECT max(id) FROM runs)",
    "a stored status is another": "UPDATE prospects SET enrichment_source_status ="
    " replace(enrichment_source_status, 'no_data', 'complete')",
    "a stored word is another": "UPDATE prospects SET enrichment_status = 'partial'",
    "a purchase points nowhere": "UPDATE source_results SET attempt_id = NULL WHERE source = 'apollo'",
    "a limit says too much": "UPDATE limit_windows SET used = used + 1 WHERE limit_id = 'contactout/credits/day'",
    "a limit says too little": "UPDATE limit_windows SET used = used - 1 WHERE limit_id = 'exa/usd/day'",
    "a limit holds what nobody has": "UPDATE limit_windows SET pending = 1 WHERE limit_id = 'apollo/requests/day'",
    "a limit forgot its window": "DELETE FROM limit_windows WHERE limit_id = 'claude/usd/cycle'",
    "a limit was not kept": "UPDATE quotas SET amount = 7 WHERE id = 'apollo/requests/day'",
    "a failure has no reason": "UPDATE source_results SET status = 'failed', error = NULL WHERE source = 'edgar'",
}


def test_an_honest_ledger_passes_and_every_tampering_is_noticed(desk: Desk) -> None:
    desk.limit()
    desk.finished(desk.people(8))
    meter = desk.sandbox.meter()["providers"]
    judge(desk.store, meter, faultless=True, usage=desk.usage())
    for what, statement in TAMPERING.items():
        copy = desk.folder / "tampered.db"
        shutil.copy(desk.store, copy)
        with closing(sqlite3.connect(copy)) as connection:
            changed = connection.execute(statement).rowcount
            connection.commit()
        assert changed, what
        assert _objects(copy, meter), f"not noticed: {what}"


def _objects(store: Path, meter: Meter, redis: Redis | None = None) -> bool:
    try:
        judge(store, meter, faultless=True, redis=redis)
    except AssertionError:
        return True
    return False


def test_a_counter_in_redis_that_is_not_the_total_is_noticed(desk: Desk, redis_server: RedisServer) -> None:
    desk.count_in(redis_server)
    desk.finished(desk.people(4), "--sources", "apollo,exa")
    meter = desk.sandbox.meter()["providers"]
    redis, key = redis_server.client, f"api_usage:exa:{today()}"
    money = f"{{{key}}}:usd_micros"
    tampering = {
        "lost": lambda: redis.delete(key),
        "behind": lambda: redis.decr(key),
        "ahead": lambda: redis.incr(key),
        "of a stranger": lambda: redis.set("api_usage:nobody:2026-01-01", 1, ex=60),
        "for ever": lambda: redis.persist(key),
        "gone too soon": lambda: redis.expire(key, 89 * 86_400),
        "without its money": lambda: redis.delete(money),
    }
    for what, tamper in tampering.items():
        assert not _objects(desk.store, meter, redis)
        held = {name: (redis.get(name), redis.expiretime(name)) for name in redis.scan_iter("*api_usage:*")}
        tamper()
        assert _objects(desk.store, meter, redis), f"not noticed: {what}"
        redis.flushall()
        for name, (value, expiry) in held.items():
            redis.set(name, value, exat=expiry)


def test_a_bill_that_is_higher_than_the_ledger_is_noticed(desk: Desk) -> None:
    desk.finished(desk.people(4), "--sources", "apollo")
    column = desk.sandbox.meter()["providers"]["apollo"]
    for figure in ("requests", "billed", "repeated_requests", "usd_micros"):
        assert _objects(desk.store, {"apollo": {**column, figure: column[figure] + 1}}), figure
    assert not _objects(desk.store, {"apollo": column})
