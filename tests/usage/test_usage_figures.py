"""Figures folded from the ledger: what was spent, how fast, how it ended, and what a provider's meter leaves open."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from builders import (
    A_CREDIT,
    DAY,
    UNPRICED,
    a_booking,
    a_closing,
    a_finish,
    a_prospect,
    an_attempt,
    an_opening,
    the_end,
    write,
)
from sluiceway.outcome import FREE, NOT_SENT, UNKNOWN_CHARGE
from sluiceway.store.engine import Store
from sluiceway.usage.counter import daily_totals_since
from sluiceway.usage.ledger import Begin
from sluiceway.usage.meter import Metered, drift, unexplained
from sluiceway.usage.pace import Pace
from sluiceway.usage.spend import Speed, Spend, outcomes_by_source, speed_by_source, spend_by_provider

BEFORE = "2026-03-03"


def asked(store: Store, *charges: Any, **attempted: Any) -> None:
    """Finish one attempt per charge."""
    for charge in charges:
        attempt = an_attempt(**attempted)
        write(store, Begin(attempt), a_finish(attempt, charge))


def spent(store: Store, **of: Any) -> dict[str, Spend]:
    with store.read() as connection:
        return spend_by_provider(connection, **of)


def test_spend_is_every_attempt_by_charge_and_what_the_billed_ones_cost(store: Store) -> None:
    asked(store, A_CREDIT, A_CREDIT, UNPRICED, FREE, NOT_SENT, UNKNOWN_CHARGE)
    write(store, Begin(an_attempt()), a_booking(7), a_booking(3, kind="imported"))
    assert spent(store) == {
        "apollo": Spend(
            attempts=7, billed=3, free=1, unknown=1, not_sent=1, open=1, credits=3000, usd_micros=52_000, unpriced=1,
            tracked=7, imported=3,
        )
    }  # fmt: skip


def test_spend_can_be_of_some_days_or_of_one_batch(store: Store) -> None:
    asked(store, A_CREDIT, day=BEFORE, batch_id="b")
    asked(store, FREE, day=DAY)
    write(store, a_booking(5, day=BEFORE), a_booking(2, provider="exa"))
    assert spent(store, since_day=DAY) == {"apollo": Spend(attempts=1, free=1), "exa": Spend(tracked=2)}
    assert spent(store, batch_id="b") == {"apollo": Spend(attempts=1, billed=1, credits=1000, usd_micros=26_000)}


def test_nothing_spent_is_nothing_shown(store: Store) -> None:
    assert spent(store) == {}


def test_daily_totals_are_shown_oldest_first_from_a_day_on(store: Store) -> None:
    asked(store, A_CREDIT, day=DAY)
    write(store, a_booking(day=BEFORE), a_booking(day=DAY, provider="exa"))
    with store.read() as connection:
        totals = daily_totals_since(connection, BEFORE)
        assert daily_totals_since(connection, DAY) == totals[1:]
    assert [(total.name, total.calls) for total in totals] == [
        (f"api_usage:apollo:{BEFORE}", 1),
        (f"api_usage:apollo:{DAY}", 1),
        (f"api_usage:exa:{DAY}", 1),
    ]


def test_speed_is_of_answered_attempts_only(store: Store) -> None:
    for latency_us in range(1, 101):
        attempt = an_attempt()
        write(store, Begin(attempt), a_finish(attempt, latency_us=latency_us))
    lost = an_attempt(source="exa")
    write(store, Begin(lost), a_finish(lost, UNKNOWN_CHARGE, http_status=None))
    with store.read() as connection:
        assert speed_by_source(connection) == {"apollo": Speed(median_us=51, p95_us=96)}
        assert speed_by_source(connection, "another batch") == {}


def test_outcomes_of_a_batch_are_the_last_of_each_prospect(store: Store) -> None:
    prospect_id = a_prospect(store)
    former = None
    for status in ("failed", "complete"):
        opening = an_opening(prospect_id, former=former, batch_id="b")
        former = opening.run.id
        write(store, opening, a_closing(opening.results[0], status), the_end(opening.run, status))
    with store.read() as connection:
        assert outcomes_by_source(connection, "b") == {"apollo": {"complete": 1}}
        assert outcomes_by_source(connection) == {"apollo": {"complete": 1, "failed": 1}}


@pytest.mark.parametrize(
    ("spend", "metered", "left"),
    [
        (Spend(billed=3, free=2), Metered(5, 3), 0),
        (Spend(billed=3, free=2, unknown=1), Metered(5, 3), 0),
        (Spend(billed=3, free=2, unknown=1), Metered(6, 4), 0),
        (Spend(billed=3, free=2, open=1), Metered(6, 4), 0),
        (Spend(billed=3, not_sent=9), Metered(3, 3), 0),
        (Spend(billed=3), Metered(4, 3), 1),
        (Spend(billed=3), Metered(3, 4), 1),
        (Spend(billed=3), Metered(2, 2), 2),
        (Spend(), Metered(1, 1), 2),
    ],
)
def test_a_meter_and_the_ledger_agree_within_what_is_unknown(spend: Spend, metered: Metered, left: int) -> None:
    assert unexplained(spend, metered) == left


def test_drift_is_over_all_providers_and_repeats_are_explained_by_unknowns_only() -> None:
    spends = {"apollo": Spend(billed=1), "exa": Spend(billed=1, unknown=1)}
    meters = {"apollo": Metered(1, 1), "exa": Metered(2, 2), "claude": Metered(1, 0)}
    assert drift(spends, meters, repeated=1) == 1
    assert drift(spends, meters, repeated=3) == 3


# Pace.


def test_slots_are_handed_out_one_by_one_and_never_in_a_burst() -> None:
    pace = Pace(0.001)
    assert [pace.take_now() for _ in range(3)] == [True, False, False]


async def test_a_slot_comes_with_time_and_the_next_one_after_a_gap() -> None:
    pace, loop = Pace(50), asyncio.get_running_loop()
    started = loop.time()
    assert [await pace.take(asyncio.Event()) for _ in range(4)] == [True] * 4
    assert loop.time() - started >= 3 / 50 - 0.001


async def test_the_end_of_the_work_ends_the_wait_for_a_slot() -> None:
    pace, stop = Pace(0.001), asyncio.Event()
    assert pace.take_now()
    waiting = asyncio.create_task(pace.take(stop))
    await asyncio.sleep(0)
    stop.set()
    assert await waiting is False


def test_a_pause_that_was_asked_for_is_kept() -> None:
    pace = Pace(1000)
    pace.push_back(60)
    assert not pace.take_now()
