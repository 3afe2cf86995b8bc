"""Whatever begins, ends and is corrected, in whatever order and however often: limits hold, and are their folds."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, select

from builders import a_finish, a_quota, an_attempt
from sluiceway.outcome import FREE, NOT_SENT, UNKNOWN_CHARGE, Charge, ChargeKind, billed, timestamp
from sluiceway.store.engine import Store, open_store
from sluiceway.store.schema import attempts, limit_windows
from sluiceway.usage.counter import PLATFORM
from sluiceway.usage.ledger import Attempt, Begin, Op, apply
from sluiceway.usage.quota import Opens, QuotaClock, Unit, ledger_use, set_quota, window_at

START = datetime(2026, 3, 4, 23, 59, 50, tzinfo=UTC)
FIRST = Opens.FIRST_REQUEST
QUOTAS = {
    quota.id: quota
    for quota in (
        a_quota(3, clock=QuotaClock.SECOND),
        a_quota(6, clock=QuotaClock.MINUTE, opens=FIRST),
        a_quota(8),
        a_quota(4, tenant_id="acme"),
        a_quota(5, clock=QuotaClock.IN_FLIGHT),
        a_quota(120, unit=Unit.USD, clock=QuotaClock.CYCLE, cycle_day=5),
        a_quota(9000, unit=Unit.CREDITS, clock=QuotaClock.HOUR, hard=False),
        a_quota(2, provider="exa", clock=QuotaClock.HOUR, opens=FIRST),
        a_quota(60, provider="exa", unit=Unit.USD),
    )
}
CHARGES = (
    billed(credits={"lead": 1000}, usd_micros=5),
    billed(credits={"lead": 2000}, usd_micros=20),
    Charge(ChargeKind.BILLED, {"lead": 1000}, None),
    FREE,
    NOT_SENT,
    UNKNOWN_CHARGE,
)


def an_asking(number: int, seconds: float, late_s: float) -> Attempt:
    """A request stamped a little before or after others that were handed over with it."""
    stamp = timestamp(START + timedelta(seconds=seconds - late_s))
    return an_attempt(
        day=stamp[:10],
        hour=int(stamp[11:13]),
        begun_at=stamp,
        provider=("apollo", "exa")[number % 4 == 3],
        tenant_id=("acme", "zeta", None)[number % 3],
        credential_id="acmes-own" if number % 11 == 10 else PLATFORM,
        reserved_milli_credits=(0, 2000, 3000)[number % 3],
        reserved_usd_micros=(20, 50, 30, 20)[number % 4],
    )


# Askings as time goes on; each commit brings some, whose stamps are up to three seconds older than the newest.
GAPS = st.sampled_from([0.0, 0.01, 0.3, 1.0, 7.0, 20.0, 70.0])
STEPS = st.lists(
    st.tuples(
        GAPS,
        st.lists(st.tuples(st.integers(0, 30), st.floats(0, 3)), max_size=6),  # who asks, and how late its commit is
        st.lists(st.tuples(st.integers(0, 40), st.sampled_from(CHARGES)), max_size=6),  # whose call ends how
        st.none() | st.sampled_from(sorted(QUOTAS)),  # a limit that somebody sets again
        st.booleans(),  # whether the reply of the commit is lost
    ),
    max_size=10,
)


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    store = open_store(f"sqlite:///{tmp_path_factory.mktemp('limits') / 'ledger.db'}")
    yield store
    store.close()


def lived(connection: Connection, steps: Any) -> Iterator[str]:
    """Go through some commits; yields the moment after each."""
    seconds, asked = 0.0, [an_asking(0, 0, 0)]
    for gap_s, askings, ends, set_again, reply_lost in steps:
        seconds += gap_s
        now = timestamp(START + timedelta(seconds=seconds))
        new = [an_asking(number, seconds, late_s) for number, late_s in askings]
        asked += new
        finishes = [a_finish(asked[number % len(asked)], charge) for number, charge in ends]
        ops: list[Op] = [*map(Begin, new), *finishes]
        for _ in range(1 + reply_lost):
            apply(connection, ops)
        if set_again:
            set_quota(connection, QUOTAS[set_again], by="Ines", now=now)
        yield now


def kept(connection: Connection) -> list[Any]:
    return list(connection.execute(select(limit_windows).order_by(limit_windows.c.limit_id, limit_windows.c.opens_at)))


@settings(max_examples=80, deadline=None)
@given(STEPS)
def test_every_window_is_the_fold_of_its_calls_and_never_over_its_limit(ledger: Store, steps: Any) -> None:
    with ledger.writing.connect() as connection:
        for quota in QUOTAS.values():
            set_quota(connection, quota, by="Ines", now=timestamp(START))
        for _ in lived(connection, steps):
            for earlier, later in pairwise(kept(connection)):
                assert earlier.limit_id != later.limit_id or earlier.closes_at <= later.opens_at
            for window in kept(connection):
                quota = QUOTAS[window.limit_id]
                folded = ledger_use(connection, quota, window.opens_at or timestamp(START))
                assert (window.used, window.pending) == (folded.used, folded.pending), quota.id
                assert (window.opens_at, window.closes_at) == (folded.window.opens_at, folded.window.closes_at)
                assert 0 <= window.pending <= window.used
                assert not quota.hard or window.used <= quota.amount, quota.id
        connection.rollback()


@settings(max_examples=60, deadline=None)
@given(STEPS)
def test_no_call_of_the_platform_is_outside_a_calendar_window(ledger: Store, steps: Any) -> None:
    """Adding up all windows of a limit that was there from the start gives all calls that were ever sent."""
    day = QUOTAS["apollo/requests/day"]
    with ledger.writing.connect() as connection:
        set_quota(connection, day, by="Ines", now=timestamp(START))
        for _ in lived(connection, [(*step[:3], None, step[4]) for step in steps]):
            pass
        by_day: dict[str, int] = {}
        for row in connection.execute(select(attempts).where(attempts.c.provider == "apollo")):
            if row.credential_id == PLATFORM and row.charge != "not_sent":
                opens_at = window_at(day, row.begun_at).opens_at
                by_day[opens_at] = by_day.get(opens_at, 0) + 1
        assert {window.opens_at: window.used for window in kept(connection) if window.used} == by_day
        connection.rollback()
