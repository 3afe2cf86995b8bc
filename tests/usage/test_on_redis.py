"""Counters in Redis: exact names, whole values, always with an expiry, and equal to the store whatever happens."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
import redis
from redis.crc import key_slot

from builders import A_CREDIT, a_booking, a_finish, an_attempt, today, until, write
from flaky_line import FlakyLine
from redis_server import RedisServer
from sluiceway.errors import BadSetting, Redactor
from sluiceway.settings import Settings, load_settings
from sluiceway.store.engine import Store
from sluiceway.store.facts import Identity, identify
from sluiceway.usage.counter import usage_key
from sluiceway.usage.ledger import Begin
from sluiceway.usage.on_redis import Published, Publisher, beside, connect, expires_at, keys_of, live_totals, publish

DAY = today()


@pytest.fixture(autouse=True)
def _in_quick_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the publisher look often, so that nobody waits for it."""
    waits = {"_QUIET_S": 0.05, "_BUSY_S": 0.1, "_LOOK_AT_MARKER_S": 0.2, "_RETRY_S": (0.02, 0.05), "_ANSWER_S": 0.3}
    for name, value in waits.items():
        monkeypatch.setattr(f"sluiceway.usage.on_redis.{name}", value)


def identity_of(store: Store) -> Identity:
    with store.writing.begin() as connection:
        return identify(connection)


def counted(store: Store, calls: int = 1, provider: str = "apollo", day: str = DAY, **changed: Any) -> None:
    """Book calls into the store."""
    write(store, a_booking(calls, provider=provider, day=day, **changed))


def billed(store: Store, day: str = DAY, provider: str = "apollo") -> None:
    attempt = an_attempt(day=day, provider=provider)
    write(store, Begin(attempt), a_finish(attempt, A_CREDIT))


def days_ago(days: int) -> str:
    return (datetime.now(UTC).date() - timedelta(days=days)).isoformat()


def totals(store: Store, prefix: str = "") -> dict[str, int]:
    """What the counters should be."""
    return {prefix + total.name: total.calls for total in live_totals(store)}


class Thread:
    """A process that publishes from a thread, such as one that only tracks."""

    def __init__(self, store: Store, server: RedisServer, prefix: str = "", identity: Identity | None = None) -> None:
        self.published = Published(identity or identity_of(store), prefix)
        self._store = store
        self._client = connect(server.url)

    def publish(self) -> bool:
        try:
            return publish(self._store, self.published, self._client)
        finally:
            self._client.connection_pool.disconnect()


@asynccontextmanager
async def publishing(
    store: Store, url: str, said: list[str] | None = None, prefix: str = ""
) -> AsyncIterator[Publisher]:
    """A process that enriches, as far as its counters go."""
    publisher = Publisher(
        store=store, identity=identity_of(store), url=url, prefix=prefix,
        tell=(said if said is not None else []).append, redact=Redactor(),
    )  # fmt: skip
    try:
        yield publisher
    finally:
        await publisher.close()


def test_a_counters_key_is_exactly_the_provider_and_the_day(store: Store, redis_server: RedisServer) -> None:
    billed(store)
    assert Thread(store, redis_server).publish()
    assert redis_server.counters() == {f"api_usage:apollo:{DAY}": 1}
    assert redis_server.client.get(f"api_usage:apollo:{DAY}") == "1"


def test_credits_and_dollars_have_keys_of_their_own_in_the_same_slot(store: Store, redis_server: RedisServer) -> None:
    billed(store)
    counted(store, 5, "exa")
    Thread(store, redis_server).publish()
    key = usage_key("apollo", DAY)
    assert redis_server.client.get(f"{{{key}}}:milli_credits") == "1000"
    assert redis_server.client.get(f"{{{key}}}:usd_micros") == "26000"
    assert redis_server.client.exists(*keys_of(usage_key("exa", DAY))[1:3]) == 0
    assert len({key_slot(name.encode()) for name in keys_of(key)}) == 1


@pytest.mark.parametrize("key", ["api_usage:apollo:2026-11-24", "{acme}:api_usage:apollo:2026-11-24", "a{b:k"])
def test_what_stands_beside_a_key_is_in_its_slot(key: str) -> None:
    assert key_slot(beside(key, "version").encode()) == key_slot(key.encode())


def test_every_key_expires_ninety_days_after_its_day_ended(store: Store, redis_server: RedisServer) -> None:
    billed(store)
    Thread(store, redis_server).publish()
    midnight = datetime.combine(date.fromisoformat(DAY) + timedelta(days=91), datetime.min.time(), UTC)
    for name in keys_of(usage_key("apollo", DAY)):
        assert redis_server.client.expiretime(name) == int(midnight.timestamp())
    assert expires_at("2026-11-24") == int(datetime(2027, 2, 23, tzinfo=UTC).timestamp())
    assert redis_server.without_expiry() == []


def test_no_key_is_ever_without_its_expiry_even_while_writers_and_the_server_die(
    store: Store, redis_server: RedisServer
) -> None:
    """A reader looks for keys without expiry all the time, while new keys appear and connections break off."""
    for day in range(60):
        counted(store, day + 1, day=days_ago(day))
    seen, over = set(), threading.Event()

    def look() -> None:
        with redis.Redis(port=redis_server.port, decode_responses=True) as client:
            while not over.is_set():
                seen.update(name for name in client.scan_iter(count=1000) if client.ttl(name) == -1)

    looking = threading.Thread(target=look)
    looking.start()
    with FlakyLine(redis_server.port) as line:
        for keep in range(0, 600, 60):
            redis_server.client.flushall()
            client, published = connect(line.url), Published(identity_of(store))
            line.lose(1, keep)
            with pytest.raises((redis.RedisError, OSError)):
                publish(store, published, client)
            assert publish(store, published, client)
            client.close()
    over.set()
    looking.join()
    assert seen == set()
    assert redis_server.counters() == totals(store)


def test_counters_older_than_ninety_days_are_never_published(store: Store, redis_server: RedisServer) -> None:
    counted(store, 1, day=days_ago(90))
    counted(store, 2, day=days_ago(91))
    Thread(store, redis_server).publish()
    assert redis_server.counters() == {usage_key("apollo", days_ago(90)): 1}


def test_an_older_version_is_refused(store: Store, redis_server: RedisServer) -> None:
    counted(store, 1)
    old = live_totals(store)
    counted(store, 10)
    ahead, behind = Thread(store, redis_server), Published(identity_of(store))
    ahead.publish()
    with connect(redis_server.url) as client:
        assert behind.digest(old, client.eval(*behind.call(old))) is False
        assert redis_server.counters() == {usage_key("apollo", DAY): 11}
        assert publish(store, behind, client)
    assert behind.news() == []
    assert redis_server.counters() == totals(store)


def test_a_store_put_back_to_an_earlier_state_is_followed(store: Store, redis_server: RedisServer) -> None:
    counted(store, 1)
    key = usage_key("apollo", DAY)
    me = identity_of(store)
    redis_server.client.set(key, 500, ex=1000)
    redis_server.client.set(beside(key, "version"), f"{me.id} real 77 500", ex=1000)
    process = Thread(store, redis_server)
    assert process.publish()
    assert redis_server.counters() == {key: 1}
    assert "put back" in process.published.news()[0]


def test_publishing_again_writes_nothing(store: Store, redis_server: RedisServer) -> None:
    billed(store)
    process = Thread(store, redis_server)
    process.publish()
    writes = redis_server.client.info("commandstats")["cmdstat_set"]["calls"]
    assert process.publish()
    Thread(store, redis_server).publish()
    assert redis_server.client.info("commandstats")["cmdstat_set"]["calls"] - writes == 1  # its own marker


async def test_a_redis_that_restarts_empty_is_filled_again(store: Store, redis_server: RedisServer) -> None:
    for day in range(120):
        counted(store, day + 1, day=days_ago(day))
    async with publishing(store, redis_server.url):
        await until(lambda: redis_server.counters() == totals(store))
        redis_server.restart_empty()
        assert redis_server.counters() == {}
        await until(lambda: redis_server.counters() == totals(store))
    assert len(totals(store)) == 91


async def test_a_redis_restored_from_an_old_snapshot_catches_up(store: Store, redis_server: RedisServer) -> None:
    """Also for a counter that has not changed since, and that the running process thinks it has published."""
    counted(store, 1)
    said: list[str] = []
    async with publishing(store, redis_server.url, said):
        await until(lambda: redis_server.counters() == totals(store))
        redis_server.snapshot()
        counted(store, 1, "exa", days_ago(3))
        counted(store, 5)
        await until(lambda: redis_server.counters() == totals(store))
        redis_server.restore()
        assert redis_server.counters() != totals(store)
        await until(lambda: redis_server.counters() == totals(store))


def test_two_processes_both_notice_an_old_snapshot(store: Store, redis_server: RedisServer) -> None:
    """What the second published after the snapshot is missed, even though the first has published again since."""
    first, second = Thread(store, redis_server), Thread(store, redis_server)
    counted(store, 1)
    assert first.publish()
    assert second.publish()
    redis_server.snapshot()
    counted(store, 1, "exa")
    assert second.publish()
    redis_server.restore()
    counted(store, 1, "edgar")
    assert first.publish()
    assert redis_server.counters() == totals(store)
    redis_server.client.delete(usage_key("exa", DAY))
    counted(store, 1, "claude")
    assert second.publish()
    assert redis_server.counters() == totals(store)


def test_a_single_deleted_counter_comes_back_within_the_hour(
    store: Store, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted(store, 3)
    process = Thread(store, redis_server)
    process.publish()
    redis_server.client.delete(usage_key("apollo", DAY))
    monkeypatch.setattr("sluiceway.usage.on_redis._LOOK_AT_ALL_S", 0.0)
    assert process.publish()
    assert redis_server.counters() == totals(store)


def test_a_version_that_was_evicted_alone_is_written_again(store: Store, redis_server: RedisServer) -> None:
    counted(store, 3)
    Thread(store, redis_server).publish()
    redis_server.client.delete(beside(usage_key("apollo", DAY), "version"))
    process = Thread(store, redis_server)
    assert process.publish()
    assert process.published.news() == []
    assert redis_server.client.exists(beside(usage_key("apollo", DAY), "version"))


async def test_a_dead_redis_is_said_once_and_so_is_that_the_counters_caught_up(
    store: Store, redis_server: RedisServer
) -> None:
    said: list[str] = []
    redis_server.kill()
    async with publishing(store, redis_server.url, said) as publisher:
        await until(lambda: publisher._failures > 1)  # noqa: SLF001
        counted(store, 7)
        redis_server.start()
        await until(lambda: len(said) > 1)
    assert [sentence.split(" (")[0] for sentence in said] == [
        "counters in Redis lag behind", "counters in Redis have caught up",
    ]  # fmt: skip
    assert redis_server.counters() == totals(store)


async def test_a_hanging_redis_is_survived_and_what_it_had_read_by_then_does_no_harm(
    store: Store, redis_server: RedisServer
) -> None:
    said: list[str] = []
    async with publishing(store, redis_server.url, said) as publisher:
        counted(store, 1)
        await until(redis_server.counters)
        redis_server.stop()
        counted(store, 2)
        await until(lambda: publisher._failures > 1)  # noqa: SLF001
        counted(store, 3, "exa")
        redis_server.go_on()
        await until(lambda: redis_server.counters() == totals(store))
        await until(lambda: "counters in Redis have caught up" in said)


async def test_the_last_try_at_the_end_takes_two_seconds_at_most(store: Store, redis_server: RedisServer) -> None:
    said: list[str] = []
    async with publishing(store, redis_server.url, said):
        counted(store, 1)
        redis_server.stop()
        began = time.monotonic()
    took = time.monotonic() - began
    redis_server.go_on()
    assert took < 2.5
    assert "left behind" in said[-1]


async def test_what_was_counted_last_is_published_at_the_end(store: Store, redis_server: RedisServer) -> None:
    async with publishing(store, redis_server.url):
        counted(store, 1)
        await until(redis_server.counters)
        counted(store, 1)
    assert redis_server.counters() == totals(store)


async def test_a_reply_lost_at_the_very_end_leaves_nothing_behind(store: Store, redis_server: RedisServer) -> None:
    said: list[str] = []
    with FlakyLine(redis_server.port) as line:
        async with publishing(store, line.url, said):
            counted(store, 1)
            await until(redis_server.counters)
            counted(store, 1)
            line.lose(1)
        assert line.lost == 1
    assert redis_server.counters() == totals(store)
    assert "left behind" not in "".join(said)


@pytest.mark.parametrize("keep", [0, 1, 9, 40, 90])
async def test_replies_lost_in_the_middle_change_nothing_in_the_end(
    keep: int, store: Store, redis_server: RedisServer
) -> None:
    with FlakyLine(redis_server.port) as line:
        async with publishing(store, line.url):
            counted(store, 1)
            await until(redis_server.counters)
            line.lose(2, keep)
            for provider in ("apollo", "exa", "claude"):
                counted(store, 4, provider)
            await until(lambda: line.lost == 2)
            await until(lambda: redis_server.counters() == totals(store))


def test_a_key_something_else_wrote_is_left_alone_and_said_once(store: Store, redis_server: RedisServer) -> None:
    key = usage_key("apollo", DAY)
    redis_server.client.incrby(key, 41)
    redis_server.client.hset(usage_key("exa", DAY), "calls", "3")
    counted(store, 3)
    counted(store, 3, "exa")
    counted(store, 3, "edgar")
    process = Thread(store, redis_server)
    process.publish()
    assert redis_server.client.get(key) == "41"
    assert redis_server.client.hgetall(usage_key("exa", DAY)) == {"calls": "3"}
    assert redis_server.client.get(usage_key("edgar", DAY)) == "3"
    assert not redis_server.client.exists(beside(key, "version"))
    (said,) = process.published.news()
    assert f"{key} (and 1 more) in Redis was not written from this store" in said
    assert "usage adopt" in said
    counted(store, 1)
    process.publish()
    assert process.published.news() == []


def test_a_program_that_adds_to_our_key_is_overwritten_and_said(store: Store, redis_server: RedisServer) -> None:
    counted(store, 3)
    process = Thread(store, redis_server)
    process.publish()
    redis_server.client.incr(usage_key("apollo", DAY))
    counted(store, 1)
    process.publish()
    assert redis_server.counters() == totals(store)
    (said,) = process.published.news()
    assert said.startswith(f"something else wrote 4 to {usage_key('apollo', DAY)}")


def test_another_stores_key_is_left_alone(store: Store, redis_server: RedisServer) -> None:
    counted(store, 3)
    Thread(store, redis_server, identity=Identity("another", sandbox=False)).publish()
    process = Thread(store, redis_server)
    counted(store, 1)
    process.publish()
    assert redis_server.counters() == {usage_key("apollo", DAY): 3}
    assert "was not written from this store" in process.published.news()[0]


def test_invented_counts_give_way_to_real_ones_and_never_the_other_way(store: Store, redis_server: RedisServer) -> None:
    counted(store, 3)
    sandbox = Thread(store, redis_server, identity=Identity("a-sandbox", sandbox=True))
    sandbox.publish()
    counted(store, 1)
    assert Thread(store, redis_server).publish()
    assert redis_server.counters() == {usage_key("apollo", DAY): 4}
    counted(store, 1)
    sandbox.publish()
    assert redis_server.counters() == {usage_key("apollo", DAY): 4}


def test_a_prefix_keeps_two_writers_apart(store: Store, redis_server: RedisServer) -> None:
    key = usage_key("apollo", DAY)
    redis_server.client.incrby(key, 41)
    counted(store, 3)
    for prefix in ("acme:", "{acme}:"):
        process = Thread(store, redis_server, prefix)
        process.publish()
        assert process.published.news() == []
        assert redis_server.client.get(f"{prefix}{key}") == "3"
    assert redis_server.client.get(key) == "41"
    ours = [name for name in redis_server.client.scan_iter() if name != key]
    assert all("acme" in name for name in ours)


@pytest.mark.parametrize("url", ["localhost", "http://localhost", "redis://localhost:port", "postgres://u:pw@h/db"])
def test_a_url_that_is_no_rediss_is_told_when_a_command_starts(url: str) -> None:
    with pytest.raises(BadSetting, match=r"redis_url: .*is not a URL such as redis://localhost:6379") as told:
        load_settings(redis_url=url)
    assert "pw" not in str(told.value)


async def test_the_password_is_never_said(store: Store, redis_server: RedisServer) -> None:
    settings: Settings = load_settings(redis_url=f"redis://:pa%2Fss-w0rd@127.0.0.1:{redis_server.port}")
    assert {"pa%2Fss-w0rd", "pa/ss-w0rd"} <= set(settings.secrets())
    redis_server.client.config_set("requirepass", "another")
    said: list[str] = []
    publisher = Publisher(
        store=store, identity=identity_of(store), url=settings.redis_url.get_secret_value(), prefix="",
        tell=said.append, redact=Redactor(settings.secrets()),
    )  # fmt: skip
    await until(lambda: said)
    await publisher.close()
    assert "ss-w0rd" not in " ".join(said)


Race = Callable[[Store, RedisServer], None]


def _threads_that_publish(store: Store, redis_server: RedisServer) -> None:
    """Four processes count and publish at once."""

    def work(number: int) -> None:
        process = Thread(store, redis_server)
        for step in range(25):
            counted(store, number + step + 1, "apollo" if step % 2 else f"p{number}")
            process.publish()

    _at_once(work)


def _threads_while_redis_is_emptied(store: Store, redis_server: RedisServer) -> None:
    """... and every now and then Redis loses everything."""

    def work(number: int) -> None:
        process = Thread(store, redis_server)
        for step in range(25):
            counted(store, number + step + 1)
            process.publish()
            if number == 0 and step % 8 == 7:
                redis_server.client.flushall()
        process.publish()

    _at_once(work)
    Thread(store, redis_server).publish()


def _publishers_on_one_loop(store: Store, redis_server: RedisServer) -> None:
    """Three publishers of one store race on a loop while a fourth party counts."""

    async def race() -> None:
        url = redis_server.url
        async with publishing(store, url), publishing(store, url), publishing(store, url):
            for step in range(30):
                counted(store, step + 1, f"p{step % 3}")
                await asyncio.sleep(0.01)

    asyncio.run(race())


def _at_once(work: Callable[[int], None]) -> None:
    failures: list[BaseException] = []

    def guarded(number: int) -> None:
        try:
            work(number)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=guarded, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


@pytest.mark.parametrize("race", [_threads_that_publish, _threads_while_redis_is_emptied, _publishers_on_one_loop])
def test_however_writers_race_counters_end_equal_to_the_totals(
    race: Race, store: Store, redis_server: RedisServer
) -> None:
    race(store, redis_server)
    assert redis_server.counters() == totals(store)
    assert redis_server.without_expiry() == []
