"""Work that meets a limit: it waits without holding a place, ends where waiting is no use, and is never asked twice."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import msgspec
import pytest
from desk import NOBODY, Desk, Open, waiting

from builders import (
    INES,
    a_finish,
    a_quota,
    a_result,
    an_attempt,
    full_disk,
    limited,
    locked,
    lost_commit_replies,
    row,
    rows,
    somebody,
    the_end,
    until,
)
from sluiceway.identifier import new_id
from sluiceway.outcome import FREE, parse_timestamp, timestamp
from sluiceway.pipeline import embedded
from sluiceway.pipeline.gate import Cause, Exhausted, Held, Pause
from sluiceway.pipeline.recover import register, working
from sluiceway.pipeline.run import Ended
from sluiceway.pipeline.turns import Behalf
from sluiceway.sources._contract import Price, Request, Subject
from sluiceway.store.engine import Store, open_store
from sluiceway.store.schema import attempts, limit_windows, runs
from sluiceway.usage.admission import Refusal
from sluiceway.usage.ledger import Attempt, Begin, OpenRun, RunRow
from sluiceway.usage.quota import Opens, Quota, QuotaClock, Unit, ledger_use, unset_quota, uses

PRICE = 26_000  # what one lookup at Apollo may cost, in micro-dollars
DOLLARS = a_quota(2 * PRICE, unit=Unit.USD)
A_MINUTE_FROM_NOW = a_quota(1, clock=QuotaClock.MINUTE, opens=Opens.FIRST_REQUEST)
"""A window that cannot turn by chance while a test looks."""


def people(count: int) -> list[Any]:
    return [somebody(number) for number in range(count)]


def asking(at: Desk, source: str = "apollo") -> tuple[Any, Request]:
    subject = Subject(INES, at.app.settings.want, at.store.clock.now().date())
    request = next(at.app.sources[source].ask(subject))
    assert isinstance(request, Request)
    return at.app.sources[source], request


def per_second(at: Desk) -> Counter[str]:
    """How many attempts began in each second."""
    return Counter(attempt["begun_at"][:19] for attempt in at.attempts())


def hold(store: Store) -> None:
    """Check that every limit is the fold of its calls, and that no hard one is over."""
    now = store.clock.stamp()
    with store.read() as connection:
        for use in uses(connection, now):
            folded = ledger_use(connection, use.quota, now)
            assert (use.used, use.pending) == (folded.used, folded.pending)
            assert not use.quota.hard or use.used <= use.quota.amount


# Short windows.


async def test_work_waits_for_the_next_second_and_is_done_after_it(desk: Open) -> None:
    async with desk(concurrency=12, wait_at_most_s=60) as at:
        await at.limit(a_quota(5, clock=QuotaClock.SECOND))
        running = asyncio.create_task(at.run(*people(20)))
        await until(lambda: waiting(at.store))
        assert {reason for _, reason in waiting(at.store)} == {"the limit of 5 requests per second is used up"}
        tally = await running
        assert (tally.done, tally.waiting, tally.left) == (20, 0, False)
        assert set(at.statuses()) == {"no_data"}
        assert at.requests() == len(at.attempts()) == 20
        assert max(per_second(at).values()) <= 5
        assert all(run["closed_at"] for run in rows(at.store, runs))
        hold(at.store)


async def test_what_waits_for_a_window_says_until_when_and_gives_its_place_to_others(desk: Open) -> None:
    async with desk("apollo", "exa", concurrency=1, wait_at_most_s=300) as at:
        await at.limit(A_MINUTE_FROM_NOW)
        running = asyncio.create_task(at.run(*people(6)))
        await until(lambda: at.requests("exa") == 6)
        await until(lambda: len(waiting(at.store)) == 5)
        window = row(at.store, limit_windows)
        wakes = [result["wake_at"] for result in at.results() if result["status"] == "waiting"]
        assert len(wakes) == 5
        assert all(wake >= window["closes_at"] for wake in wakes)
        assert len({parse_timestamp(wake).minute for wake in wakes}) == 5, "one place a minute, each booked by one"
        assert not running.done()
        at.app.gate.drain()
        started = time.monotonic()
        tally = await running
        assert time.monotonic() - started < 2.0, "nothing is in flight, so the end is not waited for"
        assert (tally.waiting, tally.done) == (5, 1)
        assert at.requests() == 1


async def test_what_would_wake_too_late_is_left_for_the_next_command(desk: Open) -> None:
    async with desk(concurrency=5, wait_at_most_s=2) as at:
        await at.limit(A_MINUTE_FROM_NOW)
        tally = await at.run(*people(5))
        assert (tally.done, tally.waiting, tally.left) == (1, 4, False)
        await at.do(unset_quota, A_MINUTE_FROM_NOW.id)
    async with desk(concurrency=5) as at:
        tally = await at.run(*people(5))
        assert (tally.done, tally.waiting) == (5, 0)
        assert set(at.statuses()) == {"no_data"}
        assert at.requests() == 5


async def test_requests_that_wait_for_a_known_limit_do_not_keep_the_process_busy(desk: Open) -> None:
    """A limit's last moments are waited out asleep, not by asking again and again."""
    async with desk() as at:
        caller, (source, request) = at.caller(), asking(at)
        minute = a_quota(1, clock=QuotaClock.MINUTE)
        caller.turns.note_refusal(Refusal(minute, at.store.clock.stamp(after_s=1.4)))
        await asyncio.sleep(0.7)
        longest, beats = 0.0, 0
        begun = asyncio.create_task(caller.turns.begin(source, request, Behalf("api")))
        while not begun.done():
            before = time.monotonic()
            await asyncio.sleep(0.01)
            longest, beats = max(longest, time.monotonic() - before), beats + 1
        assert (await begun).provider == "apollo"
        assert beats > 10
        assert longest < 0.3


async def test_a_tenants_limit_makes_only_that_tenant_wait(desk: Open) -> None:
    async with desk(concurrency=4, wait_at_most_s=300) as at:
        await at.limit(a_quota(1, clock=QuotaClock.MINUTE, opens=Opens.FIRST_REQUEST, tenant_id="acme"))
        running = asyncio.create_task(at.run(*people(12), tenants=["acme"] * 6 + ["zeta"] * 6))
        await until(lambda: at.requests() == 7 and len(waiting(at.store)) == 5)
        assert Counter(attempt["tenant_id"] for attempt in at.attempts()) == {"acme": 1, "zeta": 6}
        at.app.gate.drain()
        await running


async def test_waiting_places_are_booked_by_what_a_request_may_cost(desk: Open) -> None:
    async with desk(concurrency=20, wait_at_most_s=0) as at:
        at.answers(200, times=100)
        await at.limit(a_quota(4 * PRICE, unit=Unit.USD, clock=QuotaClock.MINUTE, opens=Opens.FIRST_REQUEST))
        await at.run(*people(12))
        assert at.requests() == 4
        window = row(at.store, limit_windows)
        opened = parse_timestamp(window["closes_at"])
        waits = [parse_timestamp(each["wake_at"]) - opened for each in at.results() if each["status"] == "waiting"]
        assert Counter(round(wait / timedelta(minutes=1)) for wait in waits) == {0: 4, 1: 4}, "four a minute"
        hold(at.store)


# Days and cycles.


async def test_a_used_up_day_ends_the_source_and_the_next_asking_finishes_it(desk: Open) -> None:
    async with desk("apollo", "exa", concurrency=5) as at:
        await at.limit(a_quota(3))
        tally = await at.run(*people(10))
        assert (tally.done, tally.waiting) == (10, 0)
        assert (at.requests("apollo"), at.requests("exa")) == (3, 10)
        ended = [result for result in at.results() if result["source"] == "apollo"]
        assert Counter(result["status"] for result in ended) == {"no_data": 3, "quota_exceeded": 7}
        tomorrow = timestamp(
            (at.store.clock.now() + timedelta(days=1)).replace(hour=0, minute=0, second=0, microsecond=0)
        )
        for result in ended:
            if result["status"] == "quota_exceeded":
                assert (result["retry_at"], result["attempt_id"]) == (tomorrow, None)
                assert result["error"] == "the limit of 3 requests per day is used up"
        assert sum("3 requests per day is used up" in said for said in at.told) == 1
        assert (await at.run(*people(10))).done == 10
        assert (at.requests("apollo"), at.requests("exa")) == (3, 10), "it is still used up"
        await at.limit(a_quota(100))
    async with desk("apollo", "exa", concurrency=5) as at:
        await at.run(*people(10))
        assert (at.requests("apollo"), at.requests("exa")) == (10, 10)
        hold(at.store)


async def test_places_far_ahead_are_booked_no_further_than_makes_sense(desk: Open) -> None:
    async with desk(concurrency=20, wait_at_most_s=0) as at:
        await at.limit(A_MINUTE_FROM_NOW)
        await at.run(*people(60))
        opened = parse_timestamp(row(at.store, limit_windows)["closes_at"])
        waits = [parse_timestamp(each["wake_at"]) - opened for each in at.results() if each["status"] == "waiting"]
        assert len(waits) == 59
        assert timedelta(minutes=14.9) < max(waits) < timedelta(minutes=15.1)


async def test_a_limit_that_is_raised_is_noticed_by_a_running_process(desk: Open) -> None:
    async with desk(settled=False) as at:
        caller, (source, request) = at.caller(), asking(at)
        await at.limit(a_quota(0))
        with pytest.raises(Exhausted):
            await caller.turns.begin(source, request, Behalf("api"))
        await at.limit(a_quota(1))
        attempt = await caller.turns.begin(source, request, Behalf("api"))
        await at.write(a_finish(attempt, FREE, at=at.now()))
        with pytest.raises(Exhausted, match="1 request per day is used up"):
            await caller.turns.begin(source, request, Behalf("api"))
        await at.limit(a_quota(2))
        give_up = time.monotonic() + 10
        while True:  # what is known to be used up is asked about again every few seconds
            assert time.monotonic() < give_up
            try:
                attempt = await caller.turns.begin(source, request, Behalf("api"))
                break
            except Exhausted:
                await asyncio.sleep(0.05)
        await at.write(a_finish(attempt, FREE, at=at.now()))


async def test_a_limit_that_another_process_sets_is_met_at_the_next_commit(desk: Open, store_url: str) -> None:
    async with desk(concurrency=3) as at:
        at.answers(200, body=NOBODY, times=100, delay_s=0.05)
        running = asyncio.create_task(at.run(*people(60)))
        await until(lambda: at.requests() >= 6)
        another = open_store(store_url)
        limited(another, a_quota(0), at=another.clock.stamp())
        begun = len(rows(another, attempts))
        another.close()
        await running
        assert len(at.attempts()) == begun, "not one more begins"
        assert Counter(at.statuses())["quota_exceeded"] == 60 - begun


async def test_one_request_larger_than_the_limit_ends_and_no_window_helps(desk: Open) -> None:
    async with desk() as at:
        await at.limit(a_quota(PRICE - 1, unit=Unit.USD, clock=QuotaClock.MINUTE))
        assert (await at.run()).done == 1
        (result,) = at.results()
        assert (result["status"], result["retry_at"]) == ("quota_exceeded", None)
        assert result["error"] == "one request may cost more than the limit of $0.025999 per minute"
        assert at.told == [f"apollo: {result['error']}"], "there is no moment to wait for"
        assert at.requests() == 0


async def test_what_is_too_little_for_one_request_is_not_held_against_a_cheaper_one(desk: Open) -> None:
    async with desk() as at:
        await at.limit(DOLLARS)
        turns, (source, request), mine = at.caller().turns, asking(at), Behalf("file", "default")
        dear = msgspec.structs.replace(request, price=Price({}, DOLLARS.amount))
        turns.note_refusal(Refusal(DOLLARS, at.store.clock.stamp(after_s=3600), amount=DOLLARS.amount))
        with pytest.raises(Exhausted):
            await turns.begin(source, dear, mine)
        assert turns.begin_now(source, dear, mine) is None
        assert isinstance(await turns.begin(source, request, mine), Attempt)


async def test_a_soft_limit_warns_and_lets_everything_through(desk: Open) -> None:
    async with desk() as at:
        await at.limit(a_quota(5, hard=False))
        await at.run(*people(10))
        assert at.requests() == 10
        assert at.told == ["apollo: 80 % of 5 requests per day are used"]


# Reservations.


async def test_money_that_turns_out_not_to_be_spent_is_waited_for(desk: Open) -> None:
    """Two calls at a time hold all that may be spent; every miss gives it back, so that everybody is asked."""
    async with desk(concurrency=10, wait_at_most_s=60) as at:
        at.answers(200, body=NOBODY, times=100, delay_s=0.02)
        await at.limit(DOLLARS)
        tally = await at.run(*people(20))
        assert (tally.done, at.requests()) == (20, 20)
        assert set(at.statuses()) == {"no_data"}
        hold(at.store)


async def test_money_is_never_overspent(desk: Open) -> None:
    async with desk(concurrency=10, wait_at_most_s=30) as at:
        at.answers(200, times=100, credits=1, usd_micros=PRICE, pools={"lead": 1000})
        await at.limit(a_quota(7 * PRICE + 5, unit=Unit.USD))
        await at.run(*people(20))
        assert at.requests() == 7
        assert Counter(at.statuses())["quota_exceeded"] == 13
        hold(at.store)


async def test_a_call_of_unknown_charge_keeps_what_it_reserved(desk: Open) -> None:
    async with desk(on_unknown="leave", timeout_s=0.3) as at:
        at.answers(200, delay_s=20)
        await at.limit(a_quota(PRICE, unit=Unit.USD))
        await at.run(*people(2))
        assert at.statuses() == ["timed_out", "quota_exceeded"]
        assert row(at.store, limit_windows)["used"] == PRICE
        hold(at.store)


async def test_requests_that_never_left_are_given_back(desk: Open) -> None:
    async with desk("apollo", "exa", settled=False) as at:
        await at.limit(a_quota(3))
        at.unreachable()
        await at.run()
        assert {attempt["charge"] for attempt in at.attempts() if attempt["source"] == "apollo"} == {"not_sent"}
        assert row(at.store, limit_windows)["used"] == 0


async def test_no_more_calls_are_in_flight_than_allowed(desk: Open) -> None:
    async with desk(concurrency=20, wait_at_most_s=60) as at:
        at.answers(200, body=NOBODY, times=100, delay_s=0.03)
        await at.limit(a_quota(3, clock=QuotaClock.IN_FLIGHT))
        running = asyncio.create_task(at.run(*people(30)))
        most = 0
        while not running.done():
            most = max(most, sum(attempt["finished_at"] is None for attempt in at.attempts()))
            await asyncio.sleep(0.005)
        assert (await running).done == 30
        assert 0 < most <= 3
        hold(at.store)


# Others.


@asynccontextmanager
async def an_open_call(at: Desk, *, of_a_living_worker: bool) -> AsyncIterator[Attempt]:
    """Have another worker hold a call open."""
    now = at.store.clock.stamp()
    deadline = at.store.clock.stamp(after_s=600)
    attempt = an_attempt(day=now[:10], hour=int(now[11:13]), begun_at=now, deadline_at=deadline)
    with working(at.store) as other:
        await register(other, at.store, at.app.writer)
        attempt = an_attempt(**{**_as_dict(attempt), "worker_id": other.id})
        await at.write(Begin(attempt))
        if of_a_living_worker:
            yield attempt
    if not of_a_living_worker:
        yield attempt


def _as_dict(attempt: Attempt) -> dict[str, Any]:
    return {name: getattr(attempt, name) for name in attempt.__struct_fields__}


async def test_what_a_dead_worker_held_in_flight_comes_back_to_a_running_one(
    desk: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded, "_LOOK_FOR_DEAD_S", 0.2)
    async with desk(concurrency=2, wait_at_most_s=60, settled=False) as at:
        await at.limit(a_quota(1, clock=QuotaClock.IN_FLIGHT))
        async with an_open_call(at, of_a_living_worker=False) as theirs:
            tally = await at.run(*people(3))
            assert (tally.done, at.requests()) == (3, 3)
        assert next(a for a in at.attempts() if a["id"] == theirs.id)["charge"] == "unknown"
        hold(at.store)


async def test_nobody_waits_for_ever_for_what_a_living_worker_holds(desk: Open) -> None:
    async with desk(concurrency=2, wait_at_most_s=1.5, settled=False) as at:
        await at.limit(a_quota(1, clock=QuotaClock.IN_FLIGHT))
        async with an_open_call(at, of_a_living_worker=True):
            started = time.monotonic()
            tally = await at.run(*people(3))
            assert (tally.done, tally.waiting, at.requests()) == (0, 3, 0)
            assert time.monotonic() - started < 10.0


async def test_who_waits_for_another_workers_run_holds_no_place(desk: Open) -> None:
    async with desk() as at:  # one prospect at a time
        batch = await at.batch(INES, *people(3))
        with working(at.store) as other:
            await register(other, at.store, at.app.writer)
            theirs = RunRow(new_id(), "default", at.prospect_id(), None, "file", other.id, at.now(), None, "running")
            await at.write(OpenRun(theirs, None, (a_result(theirs),)))
            running = asyncio.create_task(at.embedded(batch).run())
            await until(lambda: at.requests() == 3)
            assert not running.done()
            await at.write(the_end(theirs, "none", at=at.now()))
            assert (await running).ended[Ended.CLOSED] == 4


# What goes wrong meanwhile.


async def test_what_was_bought_before_the_others_had_to_wait_is_recorded_before_anybody_wakes(desk: Open) -> None:
    """Apollo's answer is in memory and the store is locked when the rest that Exa asked for is over."""
    async with desk("apollo", "exa", wait_at_most_s=30) as at:
        at.answers(200, delay_s=0.3)
        rest = at.store.clock.now() + timedelta(seconds=0.6)
        at.app.gate.stop("exa", "a rest", rest, Cause.REST)
        running = asyncio.create_task(at.run())
        await until(lambda: at.requests() == 1)
        with locked(at.store):
            await until(lambda: at.store.clock.now() > rest + timedelta(seconds=0.5))
        assert (await running).done == 1
        assert (at.requests("apollo"), at.requests("exa")) == (1, 1)


async def test_a_commit_whose_reply_is_lost_admits_nobody_twice(desk: Open) -> None:
    async with desk(concurrency=10, wait_at_most_s=30) as at:
        await at.limit(a_quota(25), a_quota(3, clock=QuotaClock.IN_FLIGHT), DOLLARS)
        with lost_commit_replies(at.store.writing, times=6) as lost:
            await at.run(*people(40))
        assert len(lost) == 6
        assert at.requests() == len(at.attempts()) == 25
        assert Counter(at.statuses()) == {"no_data": 25, "quota_exceeded": 15}
        hold(at.store)


async def test_limits_and_counters_are_equal_after_a_full_disk(desk: Open) -> None:
    async with desk("apollo", "exa", concurrency=20, wait_at_most_s=60) as at:
        await at.limit(
            a_quota(150), a_quota(100_000_000, unit=Unit.USD, provider="exa"), a_quota(40, clock=QuotaClock.SECOND)
        )
        running = asyncio.create_task(at.run(*people(200)))
        await until(lambda: at.requests() >= 20)
        with full_disk(at.store):
            await until(lambda: any("disk is full" in said for said in at.told))
            received = at.requests() + at.requests("exa")
            await asyncio.sleep(0.3)
            assert at.requests() + at.requests("exa") == received, "what cannot be recorded is not sent"
        assert (await running).done == 200
        assert (at.requests("apollo"), at.requests("exa")) == (150, 200)
        hold(at.store)


async def test_a_pause_that_is_lifted_at_once_leaves_nobody_out(desk: Open) -> None:
    async with desk(concurrency=3) as at:
        at.answers(200, body=NOBODY, times=100, delay_s=0.02)
        running = asyncio.create_task(at.run(*people(40)))
        await until(lambda: at.requests() >= 5)
        at.app.gate.pause([Pause("all", "", "Ines")])
        await asyncio.sleep(0.05)
        at.app.gate.pause([])
        tally = await asyncio.wait_for(running, 10)
        assert tally.left
        assert tally.done < 40
        assert (await at.run(*people(40))).done == 40
        assert at.requests() == 40


async def test_only_so_many_sleep_before_new_ones_are_read(desk: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "_MOST_KNOWN", 50)
    async with desk(concurrency=20, wait_at_most_s=3000) as at:
        await at.limit(A_MINUTE_FROM_NOW)
        running = asyncio.create_task(at.run(*people(500)))
        await until(lambda: len(waiting(at.store)) == 199)
        await asyncio.sleep(0.3)
        assert len(rows(at.store, runs)) == 200, "a page is read at once, and no second one"
        at.app.gate.drain()
        assert (await running).left


# Turns.


def turns(at: Desk) -> list[str]:
    """Whose each attempt was, in the order they were begun."""
    return [str(attempt["tenant_id"]) for attempt in at.attempts()]


async def test_a_file_sorted_by_tenant_is_enriched_in_turns(desk: Open) -> None:
    async with desk() as at:
        await at.run(*people(60), tenants=["a"] * 40 + ["b"] * 10 + ["c"] * 10)
        order = turns(at)
        assert len(order) == 60
        assert max(order.index("b"), order.index("c")) <= 2 * 4 * 3
        assert Counter(order[:30]) == {"a": 10, "b": 10, "c": 10} or Counter(order[:30])["a"] <= 14


async def test_who_wakes_is_taken_up_in_turns_too(desk: Open) -> None:
    async with desk(wait_at_most_s=60) as at:
        rest = at.store.clock.now() + timedelta(seconds=1.5)
        at.app.gate.stop("apollo", "a rest", rest, Cause.REST)
        running = asyncio.create_task(at.run(*people(40), tenants=["a"] * 30 + ["b"] * 10))
        await until(lambda: len(waiting(at.store)) == 40)
        await running
        assert len(turns(at)) == 40
        assert turns(at).index("b") <= 2 * 4 * 2


def shares(order: Sequence[str]) -> float:
    counts = list(Counter(order).values())
    return sum(counts) ** 2 / (len(counts) * sum(count * count for count in counts))


@pytest.mark.parametrize(
    ("pace", "limit"),
    [(600.0, None), (5000.0, a_quota(250, clock=QuotaClock.SECOND))],
    ids=["by-the-pace", "by-a-limit"],
)
async def test_tenants_that_always_wait_are_admitted_alike(desk: Open, pace: float, limit: Quota | None) -> None:
    """Four tenants with unlike backlogs, and a newcomer when the others have long been waiting."""
    async with desk(settled=False, concurrency=1, pace={"apollo": pace}) as at:
        if limit:
            await at.limit(limit)
        caller, (source, request) = at.caller(), asking(at)
        order: list[str] = []

        async def always_asks(tenant: str) -> None:
            while len(order) < 1300:
                try:
                    await caller.turns.begin(source, request, Behalf("api", tenant))
                except Held as held:
                    await asyncio.sleep(max(0.0, at.store.clock.seconds_until(str(held.wake_at))))
                else:
                    order.append(tenant)

        backlogs = {"a": 120, "b": 60, "c": 40, "d": 40}
        asking_ones = [asyncio.create_task(always_asks(t)) for t, count in backlogs.items() for _ in range(count)]
        await until(lambda: len(order) >= 200)
        came_at = len(order)
        newcomers = [asyncio.create_task(always_asks("e")) for _ in range(40)]
        await asyncio.gather(*asking_ones, *newcomers)
        window = order[came_at + 50 : came_at + 1050]
        assert len(window) == 1000
        assert set(window) == set("abcde")
        assert shares(window) >= 0.95
        if limit is None:
            assert order[came_at:].index("e") <= 2 * 4 * 5
