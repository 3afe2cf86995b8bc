"""Redis goes before the store in deciding about limits: what it lets through and knows, and when it is believed."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest

from builders import A_CREDIT, a_finish, an_attempt, lost_commit_replies, rows, until
from flaky_line import FlakyLine
from redis_server import RedisServer
from sluiceway.errors import Redactor
from sluiceway.outcome import FREE, NOT_SENT, UNKNOWN_CHARGE, billed
from sluiceway.store.engine import Store, open_store
from sluiceway.store.facts import identify, version
from sluiceway.store.schema import limit_windows
from sluiceway.store.writer import Writer
from sluiceway.usage.admission import Limits, Refusal
from sluiceway.usage.admission_copy import begin_epoch, milliseconds
from sluiceway.usage.admission_on_redis import RedisAdmission
from sluiceway.usage.ledger import Attempt, Begin, Op, Task, apply
from sluiceway.usage.on_redis import connect_async
from sluiceway.usage.quota import EPOCH_OF, Quota, QuotaClock, Unit, ledger_use, set_quota, unset_quota, uses

CHARGES = (A_CREDIT, billed(credits={"lead": 300}, usd_micros=9_000), FREE, NOT_SENT, UNKNOWN_CHARGE)


def a_limit(amount: int, clock: QuotaClock = QuotaClock.DAY, unit: Unit = Unit.REQUESTS, **more: Any) -> Quota:
    return Quota("apollo", unit, clock, amount, **more)


class Worker:
    """A process's writer and its admission. `told` is what it said to a person."""

    def __init__(self, store: Store, server: RedisServer, admission: RedisAdmission, writer: Writer[Op]) -> None:
        self.store = store
        self.server = server
        self.admission = admission
        self.writer = writer

    def attempt(self, **changed: Any) -> Attempt:
        """A request that would be sent now."""
        now = self.store.clock.stamp()
        stamped = {"day": now[:10], "hour": int(now[11:13]), "begun_at": now, "reserved_milli_credits": 1000}
        return an_attempt(**{**stamped, "reserved_usd_micros": 26_000, **changed})

    async def admit(self, count: int = 1, **changed: Any) -> list[Attempt | Refusal]:
        return await self.admission.admit([self.attempt(**changed) for _ in range(count)])

    async def begin(self, count: int = 1, **changed: Any) -> list[Attempt]:
        """Admit some attempts and begin those that may; returns those that did."""
        let_through = [each for each in await self.admit(count, **changed) if isinstance(each, Attempt)]
        begun = await asyncio.gather(*(self.writer.put(Begin(attempt)) for attempt in let_through))
        return [attempt for attempt, answer in zip(let_through, begun, strict=True) if answer is True]

    async def do(self, write: Any, *arguments: Any, **named: Any) -> Any:
        return await self.writer.put(Task(lambda connection: write(connection, *arguments, **named)))

    async def limit(self, *quotas: Quota) -> None:
        """Set limits, and wait until Redis knows them."""
        for quota in quotas:
            await self.do(set_quota, quota, by="test", now=self.store.clock.stamp())
        await self.begin(provider="nobody", source="nobody")  # its commit has this process see the new limits
        await until(lambda: self.admission.copy.is_believed and self.marker() == self.epoch())

    async def believed(self) -> None:
        """Wait until Redis has heard of everything and is believed."""
        await self.heard()
        await until(lambda: self.admission.copy.is_believed)

    async def heard(self) -> None:
        """Wait until everything that was committed is on no list any more."""
        await self.writer.flush()
        await until(lambda: not self.admission._moves)  # noqa: SLF001

    def asked(self) -> int:
        """How often the script was called."""
        stats: dict[str, dict[str, int]] = self.server.client.info("commandstats")
        return stats.get("cmdstat_evalsha", {}).get("calls", 0)

    def held(self) -> dict[str, tuple[int, int]]:
        """What Redis has of each limit's present window: used, and pending."""
        found = self.server.client.hgetall(self.key("windows"))
        windows = {limit: json.loads(window) for limit, window in found.items()}
        now_ms = milliseconds(self.store.clock.stamp())
        return {
            limit: (int(used), int(pending)) for limit, (_, closes, used, pending) in windows.items() if closes > now_ms
        }

    def stored(self) -> dict[str, tuple[int, int]]:
        """What the store has of each limit's present window."""
        now = self.store.clock.stamp()
        return {
            each["limit_id"]: (each["used"], each["pending"])
            for each in rows(self.store, limit_windows)
            if each["opens_at"] <= now < each["closes_at"]
        }

    def key(self, what: str) -> str:
        (found,) = self.server.client.keys(f"*:{what}") or [""]
        return str(found)

    def marker(self) -> int:
        return int(self.server.client.get(self.key("marker")) or 0)

    def epoch(self) -> int:
        with self.store.read() as connection:
            return version(connection, EPOCH_OF)

    def wait_out(self) -> None:
        """Make every reservation as old as one can be, as if its ten seconds had passed."""
        key = self.key("reservations")
        for attempt, held in self.server.client.hgetall(key).items():
            since, parts = json.loads(held)
            self.server.client.hset(key, attempt, json.dumps([since - 10_000, parts]))
        self.server.client.delete(self.key("swept"))


@asynccontextmanager
async def a_worker(
    beside: Store, server: RedisServer, *, url: str | None = None, told: list[str] | None = None, prefix: str = ""
) -> AsyncIterator[Worker]:
    """A process that is ready to admit, with the store opened for itself."""
    store = open_store(beside.url)
    tell = (told if told is not None else []).append
    limits = Limits()
    writer: Writer[Op] = Writer(store.writing, partial(apply, limits=limits), committed=limits.committed)
    identity = await writer.put(Task(identify))
    try:
        async with RedisAdmission(
            client=connect_async(url or server.url),
            identity=identity,
            prefix=prefix,
            writer=writer,
            limits=limits,
            clock=store.clock,
            interval_s=0.003,
            tell=tell,
            redact=Redactor(),
        ) as admission:
            yield Worker(store, server, admission, writer)
    finally:
        await writer.close()
        store.close()


def refusals(said: Iterable[Attempt | Refusal]) -> list[Refusal]:
    return [each for each in said if isinstance(each, Refusal)]


# What is let through.


async def test_as_many_are_let_through_as_a_window_holds_and_the_others_told_until_when(
    store: Store, redis_server: RedisServer
) -> None:
    async with a_worker(store, redis_server) as worker:
        await worker.limit(a_limit(3, QuotaClock.HOUR))
        said = await worker.admit(5)
        assert [isinstance(each, Refusal) for each in said] == [False] * 3 + [True] * 2
        (refusal, _) = refusals(said)
        assert refusal.quota.amount == 3
        assert refusal.until[13:] == ":00:00.000Z"
        assert refusal.may_return, "those on their way may yet not begin"


async def test_attempts_are_stamped_by_the_clock_of_redis(store: Store, redis_server: RedisServer) -> None:
    async with a_worker(store, redis_server) as worker:
        await worker.limit(a_limit(3))
        (attempt,) = await worker.admit(begun_at="2020-01-01T00:00:00.000Z", day="2020-01-01", hour=0)
        assert isinstance(attempt, Attempt)
        seconds, micros = redis_server.client.time()
        late = datetime.fromtimestamp(seconds + micros / 1e6, UTC) - datetime.fromisoformat(attempt.begun_at)
        assert timedelta(0) <= late < timedelta(seconds=5)
        assert (attempt.day, attempt.hour) == (attempt.begun_at[:10], int(attempt.begun_at[11:13]))


async def test_an_attempt_that_one_limit_refuses_reserves_nothing_of_the_others(
    store: Store, redis_server: RedisServer
) -> None:
    async with a_worker(store, redis_server) as worker:
        await worker.limit(a_limit(9, QuotaClock.MINUTE), a_limit(1, QuotaClock.HOUR, tenant_id="default"))
        assert len(refusals(await worker.admit(3))) == 2
        await until(lambda: worker.held()["apollo/requests/minute"][0] == 1)
        assert not refusals(await worker.admit(3, tenant_id="acme"))


async def test_callers_at_the_same_time_share_a_round_trip_and_unlimited_ones_need_none(
    store: Store, redis_server: RedisServer
) -> None:
    async with a_worker(store, redis_server) as worker:
        await worker.limit(a_limit(100))
        before = worker.asked()
        await asyncio.gather(*(worker.admit() for _ in range(50)))
        assert worker.asked() == before + 1
        assert len(await worker.admit(5, provider="exa")) == 5
        assert worker.asked() == before + 1


async def test_only_the_store_ends_work(store: Store, redis_server: RedisServer) -> None:
    async with a_worker(store, redis_server) as worker:
        await worker.limit(a_limit(5))
        await worker.begin()
        await until(lambda: worker.held() == worker.stored())
        window = json.loads(redis_server.client.hget(worker.key("windows"), "apollo/requests/day"))
        mistaken = json.dumps([*window[:2], 5, 0])
        redis_server.client.hset(worker.key("windows"), "apollo/requests/day", mistaken)
        assert len(await worker.begin(7)) == 4, "the store has room for four, whatever Redis says"


# What Redis knows.


async def test_redis_knows_what_began_what_it_cost_and_what_was_given_back(
    store: Store, redis_server: RedisServer
) -> None:
    async with a_worker(store, redis_server) as worker:
        await worker.limit(a_limit(90_000, QuotaClock.HOUR, Unit.USD), a_limit(5, QuotaClock.IN_FLIGHT))
        first, second = await worker.begin(2)
        await worker.heard()
        await until(lambda: worker.held() == {"apollo/usd/hour": (52_000, 52_000), "apollo/requests/in_flight": (2, 2)})
        await worker.writer.put(a_finish(first, billed(usd_micros=20_000)))
        await worker.writer.put(a_finish(second, NOT_SENT))
        await worker.heard()
        ended = {"apollo/usd/hour": (20_000, 0), "apollo/requests/in_flight": (0, 0)}
        await until(lambda: worker.held() == ended == worker.stored())


async def test_what_will_not_begin_is_given_back(store: Store, redis_server: RedisServer) -> None:
    async with a_worker(store, redis_server) as worker:
        await worker.limit(a_limit(2, QuotaClock.HOUR))
        admitted = [each for each in await worker.admit(2) if isinstance(each, Attempt)]
        worker.admission.withdraw(admitted)
        assert not refusals(await worker.admit(2))


async def test_a_caller_that_is_cancelled_gives_back_what_it_would_have_had(
    store: Store, redis_server: RedisServer
) -> None:
    async with a_worker(store, redis_server) as worker:
        await worker.limit(a_limit(2, QuotaClock.HOUR))
        before = worker.asked()
        impatient = asyncio.create_task(worker.admit(2))
        await asyncio.sleep(0)
        impatient.cancel()
        assert not refusals(await worker.admit(1))
        redis_server.stop()
        impatient = asyncio.create_task(worker.admit(1))
        await asyncio.sleep(0.02)  # the question is on its way
        impatient.cancel()
        redis_server.go_on()
        await until(lambda: worker.asked() >= before + 3)
        await until(lambda: worker.held()["apollo/requests/hour"] == (1, 1))


async def test_a_reservation_whose_worker_died_before_the_begin_is_released_after_ten_seconds(
    store: Store, redis_server: RedisServer
) -> None:
    async with a_worker(store, redis_server) as worker:
        await worker.limit(a_limit(2, QuotaClock.HOUR))
        assert not refusals(await worker.admit(2))
        assert len(refusals(await worker.admit(2))) == 2
        worker.wait_out()
        assert len(await worker.begin(2)) == 2


@pytest.mark.drill
async def test_ten_seconds_are_ten_seconds(store: Store, redis_server: RedisServer) -> None:
    async with a_worker(store, redis_server) as worker:
        await worker.limit(a_limit(1, QuotaClock.HOUR))
        began = time.monotonic()
        assert not refusals(await worker.admit())
        while refusals(await worker.admit()):  # noqa: ASYNC110 - asking is what is tested
            await asyncio.sleep(0.1)
        assert 9.9 < time.monotonic() - began < 11.5


@pytest.mark.parametrize("seed", range(4))
async def test_the_copy_is_what_the_store_holds_whatever_happens(
    store: Store, redis_server: RedisServer, seed: int
) -> None:
    chance = random.Random(seed)
    async with a_worker(store, redis_server) as one, a_worker(store, redis_server) as other:
        limits = [a_limit(40, QuotaClock.DAY), a_limit(9, QuotaClock.IN_FLIGHT), a_limit(700_000, unit=Unit.USD)]
        await one.limit(*limits, a_limit(40_000, QuotaClock.CYCLE, Unit.CREDITS, cycle_day=31))
        await other.limit()
        still_open: list[Attempt] = []
        for _ in range(25):
            worker = chance.choice((one, other))
            match chance.randrange(6):
                case 0 | 1:
                    still_open += await worker.begin(chance.randint(1, 4))
                case 2 | 3 if still_open:
                    ended = [still_open.pop() for _ in range(chance.randint(1, len(still_open)))]
                    await asyncio.gather(*(worker.writer.put(a_finish(each, chance.choice(CHARGES))) for each in ended))
                    late = a_finish(ended[0], chance.choice(CHARGES))
                    await worker.writer.put(late)
                case 4:
                    worker.admission.copy.distrust(worker.epoch())
                    still_open += await worker.begin(2)
                case _:
                    worker.admission.withdraw([a for a in await worker.admit(2) if isinstance(a, Attempt)])
        await one.heard()
        await other.heard()
        await one.believed()
        await until(lambda: one.held() == one.stored(), within=5)
        for use in uses_of(store):
            folded = use_in_ledger(store, use.quota)
            assert (use.used, use.pending) == (folded.used, folded.pending)


def uses_of(store: Store) -> list[Any]:
    with store.read() as connection:
        return list(uses(connection, store.clock.stamp()))


def use_in_ledger(store: Store, quota: Quota) -> Any:
    with store.read() as connection:
        return ledger_use(connection, quota, store.clock.stamp())


# When Redis is not believed.


async def test_while_redis_is_silent_the_store_decides_without_waiting_long(
    store: Store, redis_server: RedisServer
) -> None:
    told: list[str] = []
    async with a_worker(store, redis_server, told=told) as worker:
        await worker.limit(a_limit(3))
        redis_server.stop()
        began = time.monotonic()
        assert len(await worker.begin(5)) == 3
        assert time.monotonic() - began < 1.0
        assert [said for said in told if "decided by the store alone" in said] == told
        redis_server.go_on()
        await worker.believed()
        await until(lambda: worker.held() == worker.stored(), within=15)
        assert told[1:] == ["Redis answers again and takes part in keeping limits"]


async def test_a_worker_begins_without_redis_and_with_it_as_soon_as_it_is_there(
    store: Store, redis_server: RedisServer
) -> None:
    redis_server.kill()
    async with a_worker(store, redis_server) as worker:
        await worker.do(set_quota, a_limit(3), by="test", now=store.clock.stamp())
        assert len(await worker.begin(2)) == 2
        redis_server.start()
        await worker.believed()
        await until(lambda: worker.held() == {"apollo/requests/day": (2, 2)})
        assert len(await worker.begin(2)) == 1


@pytest.mark.parametrize("lost", ["emptied", "restarted empty"])
async def test_a_redis_that_has_lost_everything_is_filled_from_the_store(
    store: Store, redis_server: RedisServer, lost: str
) -> None:
    async with a_worker(store, redis_server) as worker:
        await worker.limit(a_limit(5))
        assert len(await worker.begin(3)) == 3
        await worker.heard()
        redis_server.client.flushall() if lost == "emptied" else redis_server.restart_empty()
        assert len(await worker.begin(4)) == 2
        await worker.believed()
        await until(lambda: worker.held() == {"apollo/requests/day": (5, 5)})


async def test_an_old_snapshot_is_not_believed(store: Store, redis_server: RedisServer) -> None:
    async with a_worker(store, redis_server) as worker:
        await worker.limit(a_limit(5))
        redis_server.snapshot()
        old = worker.marker()
        worker.admission.copy.distrust(old)
        await worker.believed()
        assert len(await worker.begin(4)) == 4
        redis_server.restore()
        assert worker.marker() == old
    async with a_worker(store, redis_server) as another:  # it has heard of nothing
        await another.believed()
        assert another.marker() == another.epoch() > old
        await until(lambda: another.held() == {"apollo/requests/day": (4, 4)})


async def test_a_snapshot_of_the_present_epoch_lets_too_many_through_and_the_store_does_not(
    store: Store, redis_server: RedisServer
) -> None:
    async with a_worker(store, redis_server) as worker:
        await worker.limit(a_limit(5))
        redis_server.snapshot()
        assert len(await worker.begin(4)) == 4
    redis_server.restore()
    async with a_worker(store, redis_server) as another:
        assert another.admission.copy.is_believed
        assert another.held() in ({}, {"apollo/requests/day": (0, 0)}), "Redis knows no better, and lets five through"
        assert len(await another.begin(5)) == 1
        await until(lambda: another.admission.copy.is_believed and another.held() == {"apollo/requests/day": (5, 5)})


async def test_a_worker_killed_after_the_begin_and_before_redis_hears_of_it_opens_no_gap(
    store: Store, redis_server: RedisServer
) -> None:
    async with a_worker(store, redis_server) as worker:
        await worker.limit(a_limit(2, QuotaClock.HOUR))
        dying = [each for each in await worker.admit(2) if isinstance(each, Attempt)]
        with store.writing.begin() as connection:  # its commit; it is killed before it can say so
            apply(connection, [Begin(attempt) for attempt in dying])
        worker.wait_out()
        before = worker.marker()
        assert await worker.begin(2) == [], "both were let through by Redis, and refused by the store"
        await worker.heard()
        await until(lambda: worker.admission.copy.is_believed and worker.marker() > before)
        await until(lambda: worker.held()["apollo/requests/hour"] == (2, 2))


async def test_when_whoever_reads_the_copy_dies_over_it_another_does(store: Store, redis_server: RedisServer) -> None:
    async with a_worker(store, redis_server) as worker:
        await worker.limit(a_limit(5))
        with store.writing.begin() as connection:  # an epoch has begun, and nothing was written to Redis
            dead = begin_epoch(connection, worker.epoch() + 1, store.clock.now())
        assert len(await worker.begin(7)) == 5
        assert len(await worker.begin(1)) == 0
        await until(lambda: worker.marker() > dead.epoch and worker.admission.copy.is_believed)
        await until(lambda: worker.held() == {"apollo/requests/day": (5, 5)})


async def test_a_limit_set_or_taken_away_makes_a_new_copy(store: Store, redis_server: RedisServer) -> None:
    async with a_worker(store, redis_server) as worker:
        assert len(await worker.begin(3)) == 3
        before = worker.epoch()
        await worker.limit(a_limit(5, QuotaClock.HOUR))
        assert worker.epoch() > before
        await until(lambda: worker.held() == {"apollo/requests/hour": (3, 3)})
        await worker.do(unset_quota, "apollo/requests/hour")
        assert len(refusals(await worker.admit(5))) == 3, "nothing has told this process"
        await worker.writer.flush()
        assert len(await worker.begin(5)) == 5, "but being refused made it look"


async def test_a_lost_reply_costs_no_call_and_is_mended(store: Store, redis_server: RedisServer) -> None:
    with FlakyLine(redis_server.port) as line:
        async with a_worker(store, redis_server, url=line.url) as worker:
            await worker.limit(a_limit(50))
            for _ in range(3):
                open_now = await worker.begin(2)
                line.lose(1)
                assert len(await worker.begin(3)) == 3, "Redis has reserved for them and could not say so"
                await worker.writer.put(a_finish(open_now[0], NOT_SENT))
                await worker.believed()
            assert line.lost == 3
            await until(lambda: worker.held() == worker.stored() == {"apollo/requests/day": (12, 12)})


async def test_a_lost_commit_reply_is_mended(store: Store, redis_server: RedisServer) -> None:
    async with a_worker(store, redis_server) as worker:
        await worker.limit(a_limit(50))
        (first, second) = await worker.begin(2)
        with lost_commit_replies(worker.store.writing, times=1) as lost:
            await worker.writer.put(a_finish(first, NOT_SENT))
            await worker.begin(3)
        assert lost
        await worker.writer.put(a_finish(second))
        await worker.believed()
        await until(lambda: worker.held() == worker.stored() == {"apollo/requests/day": (4, 3)})


async def test_the_copy_is_believed_for_a_minute_at_most(store: Store, redis_server: RedisServer) -> None:
    async with a_worker(store, redis_server) as worker:
        await worker.limit(a_limit(5))
        assert 0 < redis_server.client.pttl(worker.key("marker")) <= 60_000
        await worker.begin(1)
        before = worker.marker()
        redis_server.client.delete(worker.key("marker"))
        assert len(await worker.begin(7)) == 4
        await until(lambda: worker.marker() > before)


async def test_keys_have_the_prefix_and_an_end_and_share_a_slot(store: Store, redis_server: RedisServer) -> None:
    async with a_worker(store, redis_server, prefix="acme:") as worker:
        await worker.limit(a_limit(5))
        await worker.admit()
        names = redis_server.client.keys()
        assert len(names) == 4
        assert all(name.startswith("acme:{sluiceway:admission:") for name in names)
        assert len({name.partition("}")[0] for name in names}) == 1
        assert redis_server.without_expiry() == []
