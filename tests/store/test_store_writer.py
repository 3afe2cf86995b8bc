"""Group commit: shared, durable when told, one bad row alone, and patient while the store cannot be written."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import pytest
from sqlalchemy.exc import IntegrityError

from builders import (
    a_booking,
    an_attempt,
    locked,
    lost_commit_replies,
    row,
    rows,
    until,
)
from sluiceway.errors import StoreUnavailable
from sluiceway.store.engine import Store
from sluiceway.store.schema import attempts, daily_totals, external_usage
from sluiceway.store.writer import Writer
from sluiceway.usage.ledger import Begin, Op, Task, apply

UNBOOKABLE = {"calls": 0}  # the schema asks for at least one


@pytest.fixture
def told() -> list[str]:
    """What the writer said of its troubles."""
    return []


@pytest.fixture
async def writer(store: Store, told: list[str]) -> AsyncIterator[Writer[Op]]:
    writer: Writer[Op] = Writer(store.writing, apply, tell=told.append)
    yield writer
    await writer.close()


async def test_an_operation_is_durable_when_its_future_resolves(store: Store, writer: Writer[Op]) -> None:
    assert await writer.put(a_booking(3)) is True
    assert row(store, external_usage)["calls"] == 3


async def test_many_operations_share_a_commit(store: Store, writer: Writer[Op]) -> None:
    await asyncio.gather(*(writer.put(a_booking()) for _ in range(300)))
    assert len(rows(store, external_usage)) == 300
    assert writer.commits < 30


async def test_no_commit_is_larger_than_it_may_be(store: Store) -> None:
    sizes: list[int] = []

    def measured(connection: Any, ops: Any) -> list[Any]:
        sizes.append(len(ops))
        return apply(connection, ops)

    writer: Writer[Op] = Writer(store.writing, measured, largest=20)
    await asyncio.gather(*(writer.put(a_booking()) for _ in range(101)))
    await writer.close()
    assert (sum(sizes), max(sizes)) == (101, 20)


async def test_operations_are_applied_in_the_order_they_were_handed_over(store: Store, writer: Writer[Op]) -> None:
    seen: list[int] = []
    await asyncio.gather(*(writer.put(Task(lambda _, n=number: seen.append(n))) for number in range(100)))
    assert seen == list(range(100))


async def test_one_bad_operation_fails_alone_and_the_others_commit(store: Store, writer: Writer[Op]) -> None:
    ops = [a_booking(), a_booking(**UNBOOKABLE), a_booking(), Task(lambda _: 1 / 0), a_booking()]
    results = await asyncio.gather(*map(writer.put, ops), return_exceptions=True)
    assert [type(result) for result in results] == [bool, IntegrityError, bool, ZeroDivisionError, bool]
    assert len(rows(store, external_usage)) == 3
    assert row(store, daily_totals)["tracked"] == 3


async def test_an_operation_nobody_waits_for_is_not_refused_in_silence(
    store: Store, told: list[str], writer: Writer[Op]
) -> None:
    writer.post(a_booking(note="about ines@harbourline.example", **UNBOOKABLE))
    writer.post(a_booking())
    await writer.flush()
    await until(lambda: told)
    (said,) = told
    assert said.startswith("the store refused")
    assert "External" in said
    assert len(rows(store, external_usage)) == 1


async def test_what_the_store_refused_is_told_without_what_it_said_about_people(
    told: list[str], writer: Writer[Op]
) -> None:
    writer.post(a_booking(note="about ines@harbourline.example", **UNBOOKABLE))
    await until(lambda: told)
    assert "ines" not in told[0]
    assert "\n" not in told[0]


async def test_a_lost_commit_reply_changes_nothing(store: Store, writer: Writer[Op]) -> None:
    with lost_commit_replies(store.writing) as lost:
        await asyncio.gather(writer.put(a_booking(2)), writer.put(a_booking(3)), writer.put(Begin(an_attempt())))
    assert lost
    total = row(store, daily_totals)
    assert (total["tracked"], total["version"]) == (5, 1)
    assert len(rows(store, external_usage)) == 2
    assert len(rows(store, attempts)) == 1


async def test_a_locked_store_is_waited_for_and_said_so_once_each_way(
    store: Store, told: list[str], writer: Writer[Op]
) -> None:
    with locked(store):
        done = writer.put(a_booking())
        await until(lambda: told)
        assert not done.done()
    await done
    await until(lambda: len(told) == 2)
    assert told == [
        "the store cannot be written (database is locked); work waits until it can",
        "the store can be written again; going on",
    ]
    assert len(rows(store, external_usage)) == 1


async def test_cancelling_the_waiter_does_not_withdraw_what_was_handed_over(store: Store, writer: Writer[Op]) -> None:
    with locked(store):
        waiter = asyncio.ensure_future(writer.put(a_booking()))
        await asyncio.sleep(0)
        waiter.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiter
    await writer.flush()
    assert len(rows(store, external_usage)) == 1


async def test_closing_commits_what_is_queued(store: Store) -> None:
    writer: Writer[Op] = Writer(store.writing, apply, interval=0.5)
    for _ in range(50):
        writer.post(a_booking())
    await writer.close()
    assert len(rows(store, external_usage)) == 50


async def test_nothing_can_be_handed_to_a_closed_writer(store: Store) -> None:
    writer: Writer[Op] = Writer(store.writing, apply)
    await writer.close()
    with pytest.raises(StoreUnavailable, match="closed"):
        writer.post(a_booking())
    with pytest.raises(StoreUnavailable, match="closed"):
        await writer.put(a_booking())


async def test_a_listener_that_fails_does_not_end_the_writer(store: Store) -> None:
    def fail(sentence: str) -> None:
        raise BrokenPipeError(sentence)

    writer: Writer[Op] = Writer(store.writing, apply, tell=fail)
    writer.post(a_booking(**UNBOOKABLE))
    try:
        assert await asyncio.wait_for(writer.put(a_booking()), 0.3) is True
    finally:
        with suppress(BrokenPipeError):
            await writer.close()


async def test_flush_returns_when_everything_queued_is_durable(store: Store) -> None:
    durable: list[int] = []

    def noted(connection: Any, ops: Any) -> list[Any]:
        durable.extend(ops)
        return [None] * len(ops)

    writer: Writer[int] = Writer(store.writing, noted, interval=0)
    for number in range(300):
        writer.post(number)
        if number % 3 == 0:
            await writer.flush()
            assert durable == list(range(number + 1))
    await writer.close()


async def test_what_a_request_waits_for_is_committed_before_what_nobody_waits_for(store: Store) -> None:
    commits: list[list[int]] = []

    def noted(connection: Any, ops: Any) -> list[Any]:
        commits.append(list(ops))
        return [None] * len(ops)

    writer: Writer[int] = Writer(store.writing, noted)
    for number in range(200):
        writer.post(number)
    first = [writer.put_first(number) for number in range(1000, 1003)]
    await asyncio.gather(*first)
    assert commits[0] == [1000, 1001, 1002]
    await writer.put_first(2000)
    assert sum(commit[0] < 1000 for commit in commits) < 3, "it waits for one bounded commit of the others at most"
    await writer.flush()
    assert [op for commit in commits for op in commit if op < 1000] == list(range(200))
    await writer.close()


async def test_a_flush_waits_for_what_was_put_first_as_well(store: Store) -> None:
    durable: list[int] = []

    def noted(connection: Any, ops: Any) -> list[Any]:
        durable.extend(ops)
        return [None] * len(ops)

    writer: Writer[int] = Writer(store.writing, noted, largest=10)
    for number in range(100):
        writer.put_first(number)
    await writer.flush()
    assert durable == list(range(100))
    await writer.close()


async def test_what_nobody_waits_for_is_never_left_far_behind(store: Store) -> None:
    """A busy process would otherwise begin calls faster than it records how they ended."""
    behind = 0

    def noted(connection: Any, ops: Any) -> list[Any]:
        nonlocal behind
        behind -= sum(op < 0 for op in ops)
        return [None] * len(ops)

    async def go_on(writer: Writer[int]) -> None:
        nonlocal behind
        for number in range(50):
            await writer.put_first(number)
            for _ in range(5):
                behind += 1
                writer.post(-1)
            most.append(behind)

    most: list[int] = []
    writer: Writer[int] = Writer(store.writing, noted)
    await asyncio.gather(*(go_on(writer) for _ in range(100)))
    await writer.close()
    assert behind == 0
    assert max(most) < 2_000, "of 25,000"
