"""Adopting counters that another program wrote: shown first, booked once, and kept from then on."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta

import pytest

from builders import a_booking, row, rows, today, write
from redis_server import RedisServer
from sluiceway.store.engine import Store
from sluiceway.store.facts import Identity, identify
from sluiceway.store.schema import daily_totals, external_usage
from sluiceway.usage.adopt import Foreign, Found, adopt, find_foreign
from sluiceway.usage.counter import read_usage_key, usage_key
from sluiceway.usage.on_redis import Published, beside, connect, publish

KEY = usage_key("apollo", today())


@pytest.fixture
def me(store: Store) -> Identity:
    with store.writing.begin() as connection:
        return identify(connection)


def found(store: Store, me: Identity, server: RedisServer, prefix: str = "") -> Found:
    with connect(server.url) as client:
        return find_foreign(store, me, client, prefix)


def adopted(store: Store, me: Identity, server: RedisServer) -> list[Foreign]:
    """Adopt everything there is to adopt, and publish."""
    with connect(server.url) as client:
        taken = adopt(store, me, client, find_foreign(store, me, client, "").foreign)
        publish(store, Published(me), client)
    return taken


def test_a_store_is_identified_once(store: Store, me: Identity) -> None:
    with store.writing.begin() as connection:
        assert identify(connection) == me
    assert me.sandbox is False


@pytest.mark.parametrize(
    ("name", "means"),
    [
        ("api_usage:apollo:2026-11-24", ("apollo", "2026-11-24")),
        ("api_usage:a:b:2026-11-24", ("a:b", "2026-11-24")),
        ("api_usage:apollo:2026-13-24", None),
        ("api_usage:apollo:2026-11-24:version", None),
        ("api_usage::2026-11-24", None),
        ("usage:apollo:2026-11-24", None),
    ],
)
def test_a_counters_name_says_provider_and_day(name: str, means: tuple[str, str] | None) -> None:
    assert read_usage_key(name) == means


def test_what_would_be_adopted_is_shown_and_nothing_is_changed(
    store: Store, me: Identity, redis_server: RedisServer
) -> None:
    write(store, a_booking(3, day=today()))
    redis_server.client.incrby(KEY, 41)
    redis_server.client.set(usage_key("exa", today()), "many")
    redis_server.client.hset(usage_key("edgar", today()), "calls", "3")
    long_ago = usage_key("apollo", (datetime.now(UTC).date() - timedelta(days=91)).isoformat())
    redis_server.client.set(long_ago, 9)
    before = sorted(redis_server.client.scan_iter())
    there_is = found(store, me, redis_server)
    assert there_is.foreign == [Foreign(KEY, "apollo", today(), 41, 3, None)]
    assert there_is.left_alone == sorted([long_ago, usage_key("edgar", today()), usage_key("exa", today())])
    assert sorted(redis_server.client.scan_iter()) == before
    assert found(store, me, redis_server, "elsewhere:").foreign == []


def test_an_adopted_key_shows_imported_and_counted_calls_together(
    store: Store, me: Identity, redis_server: RedisServer
) -> None:
    write(store, a_booking(3, day=today()))
    redis_server.client.incrby(KEY, 41)
    (key,) = adopted(store, me, redis_server)
    assert key.books == 41
    assert redis_server.counters() == {KEY: 44}
    total = row(store, daily_totals)
    assert (total["tracked"], total["imported"]) == (3, 41)
    assert redis_server.without_expiry() == []
    (booking,) = [each for each in rows(store, external_usage) if each["kind"] == "imported"]
    assert booking["id"] == f"adopt:{me.id}:{KEY}"


def test_adopting_twice_books_once(store: Store, me: Identity, redis_server: RedisServer) -> None:
    redis_server.client.incrby(KEY, 41)
    assert len(adopted(store, me, redis_server)) == 1
    assert adopted(store, me, redis_server) == []
    redis_server.client.flushall()
    redis_server.client.incrby(KEY, 41)  # an old snapshot, from before it was adopted
    (key,) = found(store, me, redis_server).foreign
    assert (key.booked, key.books) == (41, 0)
    adopted(store, me, redis_server)
    assert redis_server.counters() == {KEY: 41}
    assert row(store, daily_totals)["imported"] == 41


@pytest.mark.parametrize("point", ["adopt.taken", "adopt.booked"])
def test_an_adoption_that_dies_half_way_goes_on_with_the_value_it_took(
    point: str, store: Store, me: Identity, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    redis_server.client.incrby(KEY, 41)

    def die(name: str) -> None:
        if name == point:
            raise KeyboardInterrupt

    monkeypatch.setattr("sluiceway.usage.adopt.crash_point", die)
    with pytest.raises(KeyboardInterrupt):
        adopted(store, me, redis_server)
    monkeypatch.undo()
    write(store, a_booking(3, day=today()))
    published = Published(me)
    with connect(redis_server.url) as client:
        publish(store, published, client)
    assert redis_server.counters() == {KEY: 41}, "nobody overwrites what is being adopted"
    assert "usage adopt" in published.news()[0]
    redis_server.client.incrby(KEY, 100)  # the other program goes on; what it adds now is too late
    (key,) = adopted(store, me, redis_server)
    assert key.calls == 41
    assert redis_server.counters() == {KEY: 44}
    assert row(store, daily_totals)["imported"] == 41


def test_a_counter_at_zero_is_taken_and_books_nothing(store: Store, me: Identity, redis_server: RedisServer) -> None:
    redis_server.client.set(KEY, 0)
    assert len(adopted(store, me, redis_server)) == 1
    assert rows(store, external_usage) == []
    write(store, a_booking(3, day=today()))
    with connect(redis_server.url) as client:
        publish(store, Published(me), client)
    assert redis_server.counters() == {KEY: 3}


def test_another_stores_counter_can_be_adopted(store: Store, me: Identity, redis_server: RedisServer) -> None:
    redis_server.client.set(KEY, 12, ex=1000)
    redis_server.client.set(beside(KEY, "version"), "another real 3 12", ex=1000)
    adopted(store, me, redis_server)
    assert row(store, daily_totals)["imported"] == 12
    assert found(store, me, redis_server) == Found([], [])


def test_two_who_adopt_at_once_book_once(store: Store, me: Identity, redis_server: RedisServer) -> None:
    for provider in ("apollo", "exa", "edgar"):
        redis_server.client.incrby(usage_key(provider, today()), 41)
    adopting = [threading.Thread(target=adopted, args=(store, me, redis_server)) for _ in range(4)]
    for thread in adopting:
        thread.start()
    for thread in adopting:
        thread.join()
    assert [each["imported"] for each in rows(store, daily_totals)] == [41, 41, 41]
    assert set(redis_server.counters().values()) == {41}
