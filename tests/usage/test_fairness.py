"""Whose turn it is: nobody waits long, everybody gets the same, and what one leaves the others take."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builders import until
from sluiceway.usage.fairness import QUANTUM, DeficitRoundRobin, FairQueue
from sluiceway.usage.pace import Pace

LANES = "abcdefgh"


def jain(shares: Sequence[int]) -> float:
    """Jain's index: 1 when all have the same, 1/n when one has everything."""
    return sum(shares) ** 2 / (len(shares) * sum(share * share for share in shares))


def filled(**waiting: int) -> DeficitRoundRobin[str]:
    """A queue with so many waiting in each lane; what waits is its lane's name."""
    queue: DeficitRoundRobin[str] = DeficitRoundRobin()
    for lane, count in waiting.items():
        for _ in range(count):
            queue.add(lane, lane)
    return queue


def served(queue: DeficitRoundRobin[str], count: int) -> list[str]:
    return [item for _ in range(count) if (item := queue.take()) is not None]


# Lanes.


def test_a_lane_is_first_come_first_served() -> None:
    queue: DeficitRoundRobin[int] = DeficitRoundRobin()
    for number in range(20):
        queue.add("a", number)
    queue.add("a", 99, first=True)
    assert [queue.take() for _ in range(22)] == [99, *range(20), None]
    assert len(queue) == 0


def test_lanes_take_turns_of_a_few_each() -> None:
    assert "".join(served(filled(a=10, b=3, c=10), 23)) == "aaaabbbccccaaaaccccaacc"


@given(st.data())
def test_a_newcomer_is_served_after_at_most_two_turns_of_each_lane_that_waits(data: st.DataObject) -> None:
    queue: DeficitRoundRobin[str] = DeficitRoundRobin()
    steps = data.draw(st.lists(st.sampled_from([*LANES, "take"]), max_size=80))
    for step in steps:
        if step == "take":
            queue.take()
        else:
            queue.add(step, step)
    waiting = len(list(queue.lanes()))
    queue.add("newcomer", "newcomer")
    for _ in range(2 * QUANTUM * waiting + 1):
        if queue.take() == "newcomer":
            break
        queue.add(data.draw(st.sampled_from(LANES)), "more")  # others go on to come
    else:
        pytest.fail("the newcomer waited too long")


@pytest.mark.parametrize("tenants", [2, 3, 7, 50])
def test_those_who_always_wait_get_the_same(tenants: int) -> None:
    queue = filled(**{f"t{number}": 20 + number * 7 for number in range(tenants)})
    shares: Counter[str] = Counter()
    for _ in range(1000):
        lane = queue.take()
        assert lane is not None
        shares[lane] += 1
        queue.add(lane, lane)  # one always comes after
    assert jain(list(shares.values())) >= 0.95
    assert len(shares) == tenants


def test_what_a_lane_does_not_use_the_others_do() -> None:
    queue = filled(a=500)
    taken = Counter(served(queue, 100))
    queue.add("b", "b")
    taken += Counter(served(queue, 101))
    assert taken == {"a": 200, "b": 1}


def test_a_lane_that_may_not_go_does_not_hold_the_others_up_and_loses_nothing() -> None:
    queue = filled(a=30, b=30, c=30)
    taken = [queue.take(lambda lane: lane != "a") for _ in range(40)]
    assert Counter(taken) == {"b": 20, "c": 20}
    assert queue.take(lambda lane: False) is None
    assert Counter(served(queue, 50)) == {"a": 30, "b": 10, "c": 10}


async def test_a_fair_queue_is_bounded_and_hands_out_in_turns() -> None:
    queue = FairQueue(6)
    for number in range(6):
        queue.put_nowait(("a" if number < 5 else "b", number))
    assert queue.full()
    with pytest.raises(asyncio.QueueFull):
        queue.put_nowait(("c", 9))
    assert [(await queue.get())[1] for _ in range(6)] == [0, 1, 2, 3, 5, 4]
    assert queue.empty()


# The pace.


@pytest.fixture
def stop() -> asyncio.Event:
    return asyncio.Event()


async def arrivals(pace: Pace, stop: asyncio.Event, *lanes: str) -> list[str]:
    """Wait in these lanes at once; returns them in the order in which they got their slots."""
    order: list[str] = []

    async def wait(lane: str) -> None:
        if await pace.take(stop, lane):
            order.append(lane)

    await asyncio.gather(*map(wait, lanes))
    return order


async def test_the_pace_is_kept_whoever_waits(stop: asyncio.Event) -> None:
    pace = Pace(400)
    started = time.monotonic()
    await arrivals(pace, stop, *"abcd" * 25)
    took = time.monotonic() - started
    assert 99 / 400 <= took < 1.0


async def test_slots_go_round_the_lanes_that_wait(stop: asyncio.Event) -> None:
    order = await arrivals(Pace(2000), stop, *"a" * 40, *"b" * 40, *"c" * 40)
    shares = Counter(order[:60])
    assert jain(list(shares.values())) >= 0.95
    assert "b" in order[: 2 * QUANTUM + 1]


async def test_a_lane_that_is_pushed_back_does_not_hold_the_others_up(stop: asyncio.Event) -> None:
    pace = Pace(2000)
    pace.push_back(0.25, "a")
    started = time.monotonic()
    order = await arrivals(pace, stop, *"aaabbbccc")
    assert Counter(order[:6]) == {"b": 3, "c": 3}
    assert order[6:] == ["a"] * 3
    assert time.monotonic() - started >= 0.24


async def test_who_comes_while_everybody_else_is_pushed_back_goes_at_once(stop: asyncio.Event) -> None:
    pace = Pace(2000)
    pace.push_back(5.0, "a")
    held_up = asyncio.create_task(pace.take(stop, "a"))
    await asyncio.sleep(0.02)  # the usher has gone to sleep until lane a opens
    started = time.monotonic()
    assert await pace.take(stop, "b")
    assert time.monotonic() - started < 1.0
    stop.set()
    assert await held_up is False


async def test_a_push_back_of_everybody_is_kept(stop: asyncio.Event) -> None:
    pace = Pace(2000)
    pace.push_back(0.2)
    assert not pace.take_now("a")
    started = time.monotonic()
    await arrivals(pace, stop, "a", "b")
    assert time.monotonic() - started >= 0.19


async def test_nobody_overtakes_those_who_wait(stop: asyncio.Event) -> None:
    pace = Pace(50)
    assert pace.take_now("a")
    waiting = asyncio.create_task(pace.take(stop, "a"))
    await asyncio.sleep(0)
    assert not pace.take_now("b")
    assert await waiting


async def test_the_end_of_the_work_ends_every_wait_at_once(stop: asyncio.Event) -> None:
    pace = Pace(0.01)
    assert pace.take_now()
    pace.push_back(1000, "b")
    waiting = [asyncio.create_task(pace.take(stop, lane)) for lane in "aabb"]
    await asyncio.sleep(0.01)
    stop.set()
    started = time.monotonic()
    assert await asyncio.gather(*waiting) == [False] * 4
    assert time.monotonic() - started < 1.0
    assert await pace.take(stop, "c") is False, "who comes later does not wait either"


async def test_who_stopped_waiting_takes_no_slot(stop: asyncio.Event) -> None:
    pace = Pace(20)
    assert pace.take_now()
    impatient = [asyncio.create_task(pace.take(stop, "a")) for _ in range(30)]
    patient = asyncio.create_task(pace.take(stop, "b"))
    await asyncio.sleep(0)
    for task in impatient:
        task.cancel()
    started = time.monotonic()
    await until(patient.done, within=1.0)
    assert time.monotonic() - started < 0.5
    assert all(task.cancelled() for task in await settled(impatient))


async def settled(tasks: list[asyncio.Task[bool]]) -> list[asyncio.Task[bool]]:
    await asyncio.wait(tasks)
    return tasks
