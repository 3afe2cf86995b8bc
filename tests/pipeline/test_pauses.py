"""What a person stops: within a second, in every process, for as long as they say."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
from desk import NOBODY, Desk, Open, waiting

from builders import somebody, until
from sluiceway.pipeline.controls import all_pauses, lift_pause, set_pause
from sluiceway.pipeline.gate import Cause, Pause
from sluiceway.store.engine import Store, open_store


def people(count: int) -> list[Any]:
    return [somebody(number) for number in range(count)]


@contextmanager
def elsewhere(url: str) -> Iterator[Store]:
    """The store, as another process has it open."""
    store = open_store(url)
    yield store
    store.close()


def paused(url: str, scope: str, name: str) -> None:
    with elsewhere(url) as store, store.writing.begin() as connection:
        set_pause(connection, Pause(scope, name, "Ines", "the invoice is in question"), store.clock.stamp())


def lifted(url: str, scope: str, name: str) -> bool:
    with elsewhere(url) as store, store.writing.begin() as connection:
        return lift_pause(connection, scope, name)


async def begun(at: Desk, batch: Any) -> asyncio.Task[Any]:
    """Enrich a batch at a steady pace, and wait until it is well under way."""
    at.answers(200, body=NOBODY, times=1000)
    running = asyncio.create_task(at.embedded(batch).run())
    await until(lambda: at.requests() >= 5)
    return running


@pytest.mark.parametrize(
    ("scope", "name"), [("provider", "apollo"), ("tenant", "default"), ("batch", None), ("all", "")]
)
async def test_a_pause_from_elsewhere_stops_calls_within_a_second_outlives_restarts_and_ends_with_resume(
    desk: Open, store_url: str, scope: str, name: str | None
) -> None:
    slowly = {"pace": {"apollo": 40.0}, "concurrency": 4}
    async with desk(**slowly) as at:
        batch = await at.batch(*people(120))
        name = batch.id if name is None else name
        running = await begun(at, batch)
        paused(store_url, scope, name)
        await asyncio.sleep(1.0)  # what is promised
        so_far = at.requests()
        tally = await running
        assert at.requests() == so_far < 120
        assert tally.left or tally.waiting == 120 - tally.done
        (said,) = at.told
        what = f"{scope} {name}".strip()
        assert said == f"{what} paused by Ines (the invoice is in question); `sluiceway resume {what}` goes on"
    async with desk(**slowly) as at:
        tally = await at.embedded(await at.batch(*people(120))).run()
        assert at.requests() == so_far
        assert tally.left or tally.waiting == 120 - so_far
        assert at.told == [said]
    assert lifted(store_url, scope, name)
    assert not lifted(store_url, scope, name)
    async with desk(concurrency=4) as at:
        assert at.told == []
        await at.run(*people(120))
        assert at.requests() == 120
        assert set(at.statuses()) == {"no_data"}


async def test_what_is_not_named_goes_on(desk: Open, store_url: str) -> None:
    async with desk("apollo", "exa", concurrency=4) as at:
        for scope, name in (("provider", "exa"), ("tenant", "acme"), ("batch", "another")):
            paused(store_url, scope, name)
        await until(lambda: len(at.told) == 3)
        tally = await at.run(*people(10), tenants=["acme", "zeta"] * 5)
        assert (at.requests("apollo"), at.requests("exa")) == (5, 0)
        assert tally.waiting == 10
        assert len(waiting(at.store)) == 15


async def test_work_that_waits_for_a_pause_to_end_says_so_and_operators_are_told_whose_it_is(
    desk: Open, store_url: str
) -> None:
    paused(store_url, "provider", "apollo")
    async with desk() as at:
        await at.run(*people(2))
        assert {reason for _, reason in waiting(at.store)} == {"provider apollo is paused"}
        assert "paused by Ines" in at.told[0]


async def test_a_running_process_goes_on_when_a_provider_is_resumed(desk: Open, store_url: str) -> None:
    async with desk(pace={"apollo": 40.0}, concurrency=2) as at:
        paused(store_url, "provider", "apollo")
        await until(lambda: at.told)
        assert not at.app.gate.is_open("apollo")
        lifted(store_url, "provider", "apollo")
        await until(lambda: at.app.gate.is_open("apollo"), within=1.5)
        assert at.told[-1] == "provider apollo is resumed"
        assert (await at.run(*people(5))).done == 5


async def test_a_tenants_pause_holds_the_documents_it_would_ask_for(desk: Open, store_url: str) -> None:
    paused(store_url, "tenant", "default")
    async with desk("edgar") as at:
        tally = await at.run(*people(3))
        assert (tally.done, tally.waiting) == (0, 3)
        assert at.requests("edgar") == 0


async def test_a_pause_ends_the_wait_of_those_who_sleep(desk: Open, store_url: str) -> None:
    async with desk(wait_at_most_s=300) as at:
        at.app.gate.stop("apollo", "a rest", at.store.clock.now() + timedelta(seconds=100), Cause.REST)
        running = asyncio.create_task(at.run(*people(5)))
        await until(lambda: len(waiting(at.store)) == 5)
        started = time.monotonic()
        paused(store_url, "all", "")
        tally = await running
        assert time.monotonic() - started < 3.0
        assert (tally.left, tally.waiting) == (True, 5)


async def test_pausing_again_changes_who_and_why(store: Store) -> None:
    with store.writing.begin() as connection:
        set_pause(connection, Pause("all", "", "Ines"), store.clock.stamp())
        set_pause(connection, Pause("all", "", "Tomas", "later"), store.clock.stamp())
        assert all_pauses(connection) == [Pause("all", "", "Tomas", "later")]
