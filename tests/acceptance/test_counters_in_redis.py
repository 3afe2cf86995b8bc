"""Counters in Redis beside a run of the real command: equal to the ledger at the end, whatever Redis went through."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from acceptance.desk import KILLED, slow, until
from builders import today
from sluiceway.store.engine import open_store
from sluiceway.usage.on_redis import beside, live_totals

if TYPE_CHECKING:
    from acceptance.desk import Desk
    from redis_server import RedisServer

PEOPLE = 100


@pytest.fixture(autouse=True)
def _publish_to(desk: Desk, redis_server: RedisServer) -> None:
    desk.env["SLUICEWAY_REDIS_URL"] = redis_server.url


def totals(desk: Desk) -> dict[str, int]:
    store = open_store(desk.url)
    try:
        return {total.name: total.calls for total in live_totals(store)}
    finally:
        store.close()


def _nothing(redis_server: RedisServer) -> None:
    """Leave Redis alone."""


def _emptied(redis_server: RedisServer) -> None:
    """Redis dies and comes back with nothing."""
    redis_server.restart_empty()


def _restored(redis_server: RedisServer) -> None:
    """Redis comes back as it was a moment ago."""
    redis_server.snapshot()
    time.sleep(1.5)
    redis_server.restore()


def _killed(redis_server: RedisServer) -> None:
    """Redis is away for a while."""
    redis_server.kill()
    time.sleep(1.5)
    redis_server.start()


def _stopped(redis_server: RedisServer) -> None:
    """Redis hangs for three seconds."""
    redis_server.stop()
    time.sleep(3)
    redis_server.go_on()


@pytest.mark.parametrize("happens", [_nothing, _emptied, _restored, _killed, _stopped])
def test_counters_end_equal_to_the_ledger(
    happens: Callable[[RedisServer], None], desk: Desk, redis_server: RedisServer
) -> None:
    desk.sandbox.post("/_scenario", slow(100))
    people = desk.people(PEOPLE)
    running = desk.begin(people, concurrency=8)
    until(redis_server.counters, 30, "a first counter")
    happens(redis_server)
    assert running.process.poll() is None, "the run was over too soon to tell"
    assert running.done().code == 0, running.screen
    shown = redis_server.counters()
    assert shown == totals(desk)
    billed = {provider: spend["billed"] for provider, spend in desk.usage().items()}
    assert shown == {f"api_usage:{provider}:{today()}": calls for provider, calls in billed.items() if calls}
    assert redis_server.without_expiry() == []
    desk.judged(faultless=True)


def test_a_hanging_redis_does_not_slow_a_run(desk: Desk, redis_server: RedisServer) -> None:
    """Without answers from Redis at all, a run takes what it takes without Redis, and two seconds at its end."""
    desk.sandbox.post("/_scenario", slow(60))
    people = desk.people(PEOPLE)
    took = []
    for url in ("", redis_server.url):
        desk.store.unlink(missing_ok=True)
        redis_server.stop() if url else None
        began = time.monotonic()
        done = desk.finished(people, concurrency=10, env={"SLUICEWAY_REDIS_URL": url})
        took.append(time.monotonic() - began)
    redis_server.go_on()
    assert took[1] < took[0] * 1.5 + 3
    assert done.screen.count("counters in Redis lag behind") == 1
    assert "the counters in Redis are left behind" in done.screen
    desk.finished(people)
    assert redis_server.counters() == totals(desk)


def test_a_killed_runs_counters_are_published_by_the_next(desk: Desk, redis_server: RedisServer) -> None:
    people = desk.people(20)
    desk.killed(people, "call.answered:40")
    desk.finished(people)
    assert redis_server.counters() == totals(desk)


def test_adopting_shows_asks_and_books_once(desk: Desk, redis_server: RedisServer) -> None:
    key = f"api_usage:apollo:{today()}"
    redis_server.client.incrby(key, 41)
    said = desk.finished(desk.people(5)).screen
    assert said.count(f"{key} in Redis was not written from this store and is left as it is") == 1
    assert redis_server.client.get(key) == "41"
    counted = totals(desk)[key]
    env = {"SLUICEWAY_REDIS_URL": redis_server.url}

    shown = desk.look("usage", "adopt", "--dry-run", "--database", desk.url, env=env)
    assert shown.code == 0, shown.screen
    assert f"{41 + counted}" in shown.out
    refused = desk.look("usage", "adopt", "--database", desk.url, env=env)
    assert refused.code == 2
    assert "add --yes to agree" in refused.err
    assert redis_server.client.get(key) == "41"

    adopted = desk.look("usage", "adopt", "--yes", "--json", "--database", desk.url, env=env).json()
    assert [(each["key"], each["calls"], each["counted"]) for each in adopted["adopted"]] == [(key, 41, counted)]
    assert redis_server.client.get(key) == str(41 + counted)
    again = desk.look("usage", "adopt", "--yes", "--database", desk.url, env=env)
    assert "there is nothing to adopt" in again.out
    apollo = desk.usage()["apollo"]
    assert (apollo["imported"], apollo["tracked"], apollo["billed"]) == (41, 0, counted)


@pytest.mark.parametrize("point", ["adopt.taken", "adopt.booked"])
def test_an_adoption_that_is_killed_books_once(point: str, desk: Desk, redis_server: RedisServer) -> None:
    desk.finished(desk.people(2))
    key = f"api_usage:apollo:{today()}"
    redis_server.client.delete(key, beside(key, "version"))
    redis_server.client.incrby(key, 41)
    adopt = ("usage", "adopt", "--yes", "--database", desk.url)
    assert desk.run(*adopt, env={"SLUICEWAY_CRASH_AT": point}).code == KILLED
    assert redis_server.client.get(key) == "41"
    assert desk.run(*adopt).code == 0
    assert redis_server.counters() == totals(desk)
    with sqlite3.connect(desk.store) as ledger:
        assert ledger.execute("SELECT sum(calls) FROM external_usage").fetchone() == (41,)
    ledger.close()


def test_adopting_needs_a_redis_and_one_that_answers(desk: Desk, redis_server: RedisServer) -> None:
    without = desk.look("usage", "adopt", "--database", desk.url)
    assert (without.code, without.err) == (
        2, "sluiceway: SLUICEWAY_REDIS_URL is not set, so there are no counters in Redis\n",
    )  # fmt: skip
    redis_server.kill()
    url = redis_server.url.replace("redis://", "redis://:s3cr3t-word@")
    dead = desk.look("usage", "adopt", "--yes", "--database", desk.url, env={"SLUICEWAY_REDIS_URL": url})
    assert dead.code == 1
    assert "Redis does not answer" in dead.err
    assert "s3cr3t" not in dead.err
