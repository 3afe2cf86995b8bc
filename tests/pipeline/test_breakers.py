"""Breakers: a provider that fails, rests or refuses the key is left alone, and one request finds out about it."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import timedelta
from typing import Any

import pytest
from desk import NOBODY, Desk, Open, waiting

from builders import a_quota, rows, somebody, until
from sluiceway.outcome import parse_timestamp
from sluiceway.pipeline import gate as gates
from sluiceway.pipeline.caller import Budget
from sluiceway.pipeline.controls import close_breaker, open_breakers
from sluiceway.pipeline.gate import TRIPS_AFTER, Cause, Exhausted, Held
from sluiceway.pipeline.turns import Behalf
from sluiceway.sources._contract import Request, Subject
from sluiceway.store.engine import open_store
from sluiceway.store.schema import breakers
from sluiceway.usage.quota import unset_quota


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Breakers that rest for moments."""
    monkeypatch.setattr(gates, "_REST_S", (0.5, 1.0))


def people(count: int, start: int = 0) -> list[Any]:
    return [somebody(number) for number in range(start, start + count)]


def asking(at: Desk) -> tuple[Any, Request]:
    source = at.app.sources["apollo"]
    request = next(source.ask(Subject(somebody(), at.app.settings.want, at.store.clock.now().date())))
    assert isinstance(request, Request)
    return source, request


def state(at: Desk) -> dict[str, Any]:
    """The one breaker that the store knows."""
    (kept,) = rows(at.store, breakers)
    return kept


async def ask(at: Desk, **behalf: Any) -> str:
    """Ask once, as a person would who looks; returns the status."""
    source, request = asking(at)
    subject = Subject(somebody(), at.app.settings.want, at.store.clock.now().date())
    obtained = await at.caller().obtain(source, subject, request, Behalf("api", **behalf), Budget(0), patient=False)
    await at.write(obtained.finish)
    return str(obtained.reading.status)


# Failures.


async def test_failures_in_a_row_open_it_work_waits_one_request_finds_out_and_all_of_it_is_done(
    desk: Open, quick: None
) -> None:
    async with desk(concurrency=10, wait_at_most_s=60) as at:
        at.answers(500, times=TRIPS_AFTER + 11, delay_s=0.02)  # a first probe fails at least as well
        running = asyncio.create_task(at.run(*people(60)))
        await until(lambda: waiting(at.store))
        assert all("failed 20 times in a row; it is asked again at" in reason for _, reason in waiting(at.store))
        await running
        statuses = Counter(at.statuses())
        assert statuses["no_data"] + statuses["failed"] == 60
        failed = [attempt for attempt in at.attempts() if attempt["http_status"] == 500]
        assert len(failed) == TRIPS_AFTER + 11
        assert at.told[-1] == "apollo answers again; going on"
        assert state(at)["state"] == "closed"


async def test_while_one_request_finds_out_no_other_is_sent(desk: Open, quick: None) -> None:
    async with desk(concurrency=10, wait_at_most_s=60) as at:
        at.answers(200, body=NOBODY, delay_s=0.7)
        at.answers(200, body=NOBODY, times=100)
        at.app.gate.stop("apollo", "fails", at.store.clock.now() + timedelta(seconds=0.2), Cause.FAILING)
        running = asyncio.create_task(at.run(*people(30)))
        await until(lambda: at.requests() == 1)
        await asyncio.sleep(0.4)
        assert at.requests() == 1
        assert (await running).done == 30
        first, second, *_ = sorted(parse_timestamp(attempt["begun_at"]) for attempt in at.attempts())
        assert second - first > timedelta(seconds=0.6)


async def test_a_probe_that_is_asked_to_wait_long_opens_it_again_until_then(desk: Open, quick: None) -> None:
    async with desk(concurrency=5) as at:
        at.app.gate.stop("apollo", "fails", at.store.clock.now() - timedelta(seconds=1), Cause.FAILING)
        at.answers(429, times=10, headers={"retry-after": "300"})
        tally = await at.run(*people(20))
        assert at.requests() == 1, "one finds out, and the others believe it"
        assert (tally.done, tally.waiting) == (1, 19)
        assert state(at)["cause"] == "rest"
        until_then = parse_timestamp(state(at)["probe_at"]) - at.store.clock.now()
        assert timedelta(seconds=290) < until_then <= timedelta(seconds=301)


async def test_a_probe_that_a_limit_refuses_leaves_it_to_the_next(desk: Open) -> None:
    async with desk() as at:
        source, request = asking(at)
        at.app.gate.stop("apollo", "fails", at.store.clock.now() - timedelta(seconds=1), Cause.FAILING)
        await at.limit(a_quota(0))
        for _ in range(2):
            with pytest.raises(Exhausted):
                await at.caller().turns.begin(source, request, Behalf("api"))
        await at.do(unset_quota, a_quota().id)
        assert await ask(at) == "no_data"
        assert at.app.gate.is_open("apollo")


async def test_a_probe_whose_asker_is_cancelled_leaves_it_to_the_next(desk: Open) -> None:
    async with desk(settled=False) as at:
        at.answers(200, body=NOBODY, delay_s=20)
        at.app.gate.stop("apollo", "fails", at.store.clock.now() - timedelta(seconds=1), Cause.FAILING)
        asked = asyncio.create_task(ask(at))
        await until(lambda: at.requests() == 1)
        asked.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asked
        assert await ask(at) == "no_data"
        assert at.app.gate.is_open("apollo")


async def test_a_key_that_is_checked_by_hand_decides_nothing_it_did_not_prove(desk: Open) -> None:
    async with desk() as at:
        at.app.gate.stop("apollo", "fails", at.store.clock.now() - timedelta(seconds=1), Cause.FAILING)
        at.answers(401)
        assert await ask(at) == "unauthorized"
        assert await ask(at) == "no_data", "the check's refusal has not left the provider to a probe that never ends"


async def test_only_the_probes_own_answer_closes_it(desk: Open, quick: None) -> None:
    """Calls that were in flight when it opened come back one after the other, and prove nothing about now."""
    async with desk(concurrency=10, timeout_s=20) as at:
        at.answers(200, body=NOBODY, times=3, delay_s=1.0)
        at.answers(200, body=NOBODY, delay_s=2.0)
        early = [asyncio.create_task(ask(at)) for _ in range(3)]
        await until(lambda: at.requests() == 3)
        at.app.gate.stop("apollo", "fails", at.store.clock.now() + timedelta(seconds=0.1), Cause.FAILING)
        await asyncio.sleep(0.2)
        probe = asyncio.create_task(ask(at))
        await until(lambda: at.requests() == 4)
        await asyncio.gather(*early)
        assert not at.app.gate.is_open("apollo")
        with pytest.raises(Held):
            at.app.gate.check("apollo")
        await probe
        assert at.app.gate.is_open("apollo")


# Over processes.


async def test_an_open_breaker_outlives_its_process_and_is_probed_once_when_its_time_has_come(
    desk: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gates, "_REST_S", (2.0, 2.0))
    async with desk(concurrency=5, wait_at_most_s=0) as at:
        at.answers(500, times=TRIPS_AFTER + 4, delay_s=0.02)
        await at.run(*people(40))
        asked = at.requests()
        assert TRIPS_AFTER <= asked <= TRIPS_AFTER + 4
        assert (state(at)["state"], state(at)["cause"], state(at)["trips"]) == ("open", "failing", 1)
    async with desk(concurrency=5, wait_at_most_s=0) as at:
        at.sandbox.post("/_answer/clear")
        tally = await at.run(*people(40))
        assert (tally.done, at.requests()) == (0, asked), "its rest is kept"
        assert len(at.told) == 1
        assert "failed 20 times" in at.told[0]
    async with desk(concurrency=5, wait_at_most_s=30) as at:
        at.answers(200, body=NOBODY, delay_s=0.5)
        running = asyncio.create_task(at.run(*people(40)))
        await until(lambda: at.requests() == asked + 1)
        await asyncio.sleep(0.2)
        assert at.requests() == asked + 1
        assert (await running).waiting == 0
        assert state(at)["state"] == "closed"


async def test_many_prospects_behind_a_revoked_key_make_no_more_failures_than_were_in_flight(desk: Open) -> None:
    async with desk(concurrency=20) as at:
        at.answers(401, times=2000, body='{"error": "key revoked"}', delay_s=0.05)
        tally = await at.run(*people(1000))
        failed = at.requests()
        assert 1 <= failed <= 20
        assert (tally.done, tally.waiting) == (failed, 1000 - failed)
        assert len(at.told) == 1
        assert {reason for _, reason in waiting(at.store)} == set(at.told)
        assert state(at)["cause"] == "condemned"
    for _ in range(2):
        failed += 1
        async with desk(concurrency=20) as at:
            await at.run(*people(1000))
            assert at.requests() == failed, "a process that starts with the same key finds out with one request"
            assert len(at.told) == 1
            assert len(rows(at.store, breakers)) == 1


async def test_a_mended_key_starts_with_a_closed_breaker_and_the_store_knows(desk: Open) -> None:
    async with desk(concurrency=5) as at:
        at.answers(401, times=20, delay_s=0.05)
        await at.run(*people(30))
        at.sandbox.post("/_answer/clear")
    async with desk(concurrency=5, apollo_api_key="sandbox-mended") as at:
        assert at.app.gate.is_open("apollo")
        await at.app.writer.flush()
        with at.store.read() as connection:
            assert open_breakers(connection) == {}
        assert (await at.run(*people(30))).waiting == 0
        assert at.told == []


async def test_without_a_key_an_open_breaker_is_left_as_it_is(desk: Open) -> None:
    async with desk() as at:
        at.answers(401)
        await at.run(*people(2))
        kept = state(at)
    async with desk("exa") as at:
        await at.run(*people(1))
        assert state(at) == kept


async def test_a_breaker_that_opens_in_one_process_holds_work_in_another_within_a_second(desk: Open) -> None:
    async with desk() as one, desk() as other:
        one.answers(401)
        await one.run(*people(1))
        await until(lambda: not other.app.gate.is_open("apollo"), within=1.5)
        assert other.told == one.told
        source, request = asking(other)
        with pytest.raises(Held, match="refused the credential"):
            await other.caller().turns.begin(source, request, Behalf("api"))
        assert other.requests() == 1


async def test_a_later_rest_replaces_an_earlier_one_in_other_processes(desk: Open) -> None:
    async with desk() as one, desk() as other:
        now = one.store.clock.now()
        one.app.gate.stop("apollo", "a rest", now + timedelta(seconds=1), Cause.REST)
        await until(lambda: "apollo" in other.app.gate.stops)
        one.app.gate.stop("apollo", "the key was refused")
        await until(lambda: other.app.gate.stops["apollo"] == one.app.gate.stops["apollo"])
        assert other.told == ["a rest", "the key was refused"]


async def test_a_breaker_that_a_person_closes_lets_running_processes_ask_again(desk: Open, store_url: str) -> None:
    async with desk() as at:
        at.answers(401)
        await at.run(*people(2))
        another = open_store(store_url)
        with another.writing.begin() as connection:
            assert close_breaker(connection, "apollo", another.clock.stamp())
            assert not close_breaker(connection, "exa", another.clock.stamp())
        another.close()
        await until(lambda: at.app.gate.is_open("apollo"), within=1.5)
        assert await ask(at) == "no_data"


async def test_what_a_breaker_says_is_kept_without_the_key(desk: Open) -> None:
    async with desk() as at:
        secret = at.app.sources["apollo"].credential
        at.answers(401, body=f'{{"error": "no such key: {secret}"}}')
        await at.run(*people(1))
        assert secret not in str(state(at)) + str(at.told)
