"""What becomes of the calls of a process that died, and of one that only seems to be slow."""

from __future__ import annotations

import socket
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from desk import Open, taken_in
from sqlalchemy import insert

from builders import INES, a_finish, a_prospect, an_attempt, an_opening, lost_commit_replies, row, rows, write
from sluiceway.errors import BadInput
from sluiceway.identifier import new_id
from sluiceway.outcome import timestamp
from sluiceway.pipeline.recover import (
    Worker,
    forget_dead_workers,
    holding,
    is_alive,
    recover,
    register,
    working,
)
from sluiceway.store.engine import Store
from sluiceway.store.schema import attempts, daily_totals, prospects, runs, source_results, usage_hours, workers
from sluiceway.store.writer import Writer
from sluiceway.usage.ledger import Attempt, Begin, Op, Task, apply


def in_time(store: Store, **changed: Any) -> Attempt:
    """An attempt that was begun just now."""
    now = store.clock.now()
    begun, deadline = timestamp(now), timestamp(now + timedelta(seconds=20))
    times = {"day": begun[:10], "hour": int(begun[11:13]), "begun_at": begun, "deadline_at": deadline}
    return an_attempt(**{**times, **changed})


def overdue(store: Store, by: float, **changed: Any) -> Attempt:
    """An attempt whose deadline passed some seconds ago."""
    return in_time(store, deadline_at=timestamp(store.clock.now() - timedelta(seconds=by)), **changed)


def entered(store: Store, worker: Worker, **changed: Any) -> Worker:
    """Enter a worker into the store, as it would itself."""
    values = {"id": worker.id, "host": socket.gethostname(), "pid": 1, "started_at": "t"}
    write(store, Task(lambda connection: connection.execute(insert(workers).values({**values, **changed})) and None))
    return worker


def exists(path: Path) -> bool:
    return path.exists()


def remove(path: Path) -> None:
    path.unlink()


def a_dead_worker(store: Store) -> Worker:
    """A worker that is in the store, and whose lock is free."""
    worker = Worker(new_id())
    store.lock_of(worker.id).touch()
    return entered(store, worker)


async def recovered(store: Store) -> int:
    writer: Writer[Op] = Writer(store.writing, apply)
    try:
        return await recover(store, writer)
    finally:
        await writer.close()


async def test_an_attempt_whose_workers_lock_is_free_is_declared_unknown(store: Store) -> None:
    attempt = in_time(store, worker_id=a_dead_worker(store).id)
    write(store, Begin(attempt))
    assert await recovered(store) == 1
    declared = row(store, attempts)
    assert (declared["charge"], declared["result"]) == ("unknown", "unknown")
    assert declared["error"] == "its worker ended before the answer came"
    assert declared["usd_micros"] is declared["milli_credits"] is None
    assert row(store, usage_hours)["unknown"] == 1
    assert rows(store, daily_totals) == []


@pytest.mark.parametrize("lock", ["gone", "never entered"])
async def test_a_worker_without_a_lock_file_is_dead(store: Store, lock: str) -> None:
    worker = a_dead_worker(store)
    remove(store.lock_of(worker.id))
    write(store, Begin(in_time(store, worker_id=worker.id if lock == "gone" else "never entered")))
    assert await recovered(store) == 1


async def test_a_living_workers_attempt_is_left_alone(store: Store) -> None:
    with working(store) as worker:
        entered(store, worker)
        write(store, Begin(in_time(store, worker_id=worker.id)))
        assert await recovered(store) == 0
        assert row(store, attempts)["charge"] is None


async def test_a_worker_is_judged_by_its_lock_whatever_its_machine_was_called(store: Store) -> None:
    worker = a_dead_worker(store)
    with working(store) as living:
        entered(store, living, host="another.example")
        for each in (worker, living):
            write(store, Begin(in_time(store, worker_id=each.id)))
        assert await recovered(store) == 1
    assert {each["charge"] for each in rows(store, attempts) if each["worker_id"] == living.id} == {None}


@pytest.mark.parametrize(("late_by", "declared"), [(11, 1), (8, 0), (-20, 0)])
async def test_what_is_long_overdue_is_declared_whoever_seems_alive(store: Store, late_by: int, declared: int) -> None:
    with working(store) as worker:
        entered(store, worker)
        write(store, Begin(overdue(store, by=late_by, worker_id=worker.id)))
        assert await recovered(store) == declared
        if declared:
            assert row(store, attempts)["error"] == "its deadline passed and no worker finished it"


async def test_recovering_again_finds_nothing(store: Store) -> None:
    write(store, *(Begin(in_time(store, worker_id=a_dead_worker(store).id)) for _ in range(5)))
    assert await recovered(store) == 5
    assert await recovered(store) == 0
    assert row(store, usage_hours)["unknown"] == 5


async def test_a_late_answer_still_wins_over_what_recovery_declared(store: Store) -> None:
    attempt = overdue(store, by=60, worker_id=a_dead_worker(store).id)
    write(store, Begin(attempt))
    await recovered(store)
    write(store, a_finish(attempt))
    assert row(store, attempts)["charge"] == "billed"
    assert row(store, daily_totals)["billed"] == 1
    assert (row(store, usage_hours)["billed"], row(store, usage_hours)["unknown"]) == (1, 0)
    assert await recovered(store) == 0


async def test_a_finished_attempt_is_not_touched(store: Store) -> None:
    attempt = overdue(store, by=60, worker_id=a_dead_worker(store).id)
    write(store, Begin(attempt), a_finish(attempt))
    assert await recovered(store) == 0


async def test_a_worker_is_alive_for_as_long_as_it_holds_its_lock(store: Store) -> None:
    with working(store) as worker:
        entered(store, worker)
        assert is_alive(store, worker.id)
    assert not is_alive(store, worker.id)
    assert not is_alive(store, "never heard of")
    assert not exists(store.lock_of(worker.id))


async def test_dead_workers_that_hold_nothing_are_forgotten(store: Store) -> None:
    idle, with_attempt, with_run = (a_dead_worker(store) for _ in range(3))
    write(
        store,
        Begin(in_time(store, worker_id=with_attempt.id)),
        an_opening(a_prospect(store), worker_id=with_run.id),
    )
    with working(store) as living:
        entered(store, living)
        writer: Writer[Op] = Writer(store.writing, apply)
        await forget_dead_workers(store, writer)
        await writer.close()
        assert {each["id"] for each in rows(store, workers)} == {with_attempt.id, with_run.id, living.id}
    assert not exists(store.lock_of(idle.id))
    assert exists(store.lock_of(with_run.id))


async def test_registering_survives_a_lost_commit_reply(store: Store) -> None:
    writer: Writer[Op] = Writer(store.writing, apply)
    try:
        with working(store) as worker, lost_commit_replies(store.writing):
            await register(worker, store, writer)
    finally:
        await writer.close()
    assert row(store, workers)["id"] == worker.id


def test_only_one_works_on_a_thing_at_a_time(store: Store) -> None:
    said = "the file is being enriched"
    with holding(store, "a-file", said), holding(store, "another-file", said):
        mine_too = holding(store, "a-file", said)
        with pytest.raises(BadInput, match=f"{said}; wait for it to end"):
            mine_too.__enter__()
    with holding(store, "a-file", said):
        pass


# A whole process: what it left is declared, taken over, and asked once more.


def left_behind(store: Store, attempted: int, sources: tuple[str, ...] = ("apollo",), digest: str = "a list") -> None:
    """Leave Ines as a process leaves her that dies during its first request: a run, a result, open attempts."""
    now = timestamp(store.clock.now())
    (batch,) = write(store, Task(lambda connection: taken_in(connection, [INES], digest, False, now)))
    prospect_id, worker = row(store, prospects)["id"], a_dead_worker(store)
    opening = an_opening(prospect_id, *sources, worker_id=worker.id, batch_id=batch.id)
    begun = [
        in_time(store, worker_id=worker.id, prospect_id=prospect_id, source_result_id=opening.results[0].id)
        for _ in range(attempted)
    ]
    write(store, opening, *map(Begin, begun))


async def test_after_a_crash_one_more_request_is_sent(store: Store, desk: Open) -> None:
    left_behind(store, attempted=1)
    async with desk(settled=False) as at:
        assert at.app.recovered == 1
        at.answers(200)
        assert (await at.run()).done == 1
        assert at.charges() == ["unknown", "billed"]
        assert at.statuses() == ["complete"]
        assert row(at.store, runs)["worker_id"] == at.app.worker.id
        assert row(at.store, runs)["closed_at"] is not None


async def test_after_two_crashes_nothing_is_sent_a_third_time(store: Store, desk: Open) -> None:
    left_behind(store, attempted=2)
    async with desk(settled=False) as at:
        await at.run()
        assert at.requests() == 0
        assert row(at.store, source_results)["status"] == "unknown"
        assert "asking again might pay a second time" in row(at.store, source_results)["error"]
        assert row(at.store, runs)["status"] == "failed"


async def test_leave_sends_nothing_after_a_crash(store: Store, desk: Open) -> None:
    left_behind(store, attempted=1)
    async with desk(settled=False, on_unknown="leave") as at:
        await at.run()
        assert at.requests() == 0
        assert at.statuses() == ["unknown"]


async def test_a_crash_before_the_request_was_begun_costs_nothing_and_asks(store: Store, desk: Open) -> None:
    left_behind(store, attempted=0)
    async with desk() as at:
        assert at.app.recovered == 0
        at.answers(200)
        await at.run()
        assert at.charges() == ["billed"]
        assert at.statuses() == ["complete"]


async def test_a_run_that_another_batch_left_open_is_finished_and_not_asked_again(store: Store, desk: Open) -> None:
    left_behind(store, attempted=0, digest="another list")
    async with desk(settled=False, commit_interval_ms=100) as at:
        at.answers(200, 200)
        await at.run(digest="a list")
        assert at.requests() == 1
        assert at.charges() == ["billed"]
        assert at.statuses() == ["complete", "cached"]


async def test_a_crash_leaves_only_the_unanswered_source_to_ask(store: Store, desk: Open) -> None:
    left_behind(store, attempted=1, sources=("apollo", "exa"))
    async with desk("apollo", "exa", settled=False) as at:
        at.answers(200)
        await at.run()
        assert at.requests("apollo") == at.requests("exa") == 1
        assert all(result["closed_at"] for result in at.results())


async def test_a_source_that_a_later_batch_does_not_ask_is_cancelled(store: Store, desk: Open) -> None:
    left_behind(store, attempted=1, sources=("exa",), digest="another list")
    async with desk("apollo", settled=False) as at:
        at.answers(200)
        await at.run(digest="a list")
        assert at.requests("exa") == 0
        assert [(each["source"], each["status"]) for each in at.results()] == [
            ("exa", "cancelled"),
            ("apollo", "complete"),
        ]
        assert all(run["closed_at"] for run in rows(at.store, runs))
