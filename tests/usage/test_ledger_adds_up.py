"""Whatever is written to the ledger, in whatever order and however often: every sum is the sum of its rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import date, timedelta
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, select

from builders import A_CREDIT, DAY, UNPRICED, a_booking, a_finish, an_attempt
from sluiceway.outcome import FREE, NOT_SENT, UNKNOWN_CHARGE, billed
from sluiceway.rollups import KEY, SUMS, folded
from sluiceway.store.engine import Store, open_store
from sluiceway.store.schema import attempts, daily_totals, external_usage, usage_hours
from sluiceway.usage.counter import PLATFORM, daily_totals_since, usage_key
from sluiceway.usage.ledger import Begin, Op, apply
from sluiceway.usage.spend import By, Spend, spend_by, spend_by_provider

DAYS = ("2026-02-28", DAY, "2026-12-31", "2027-01-01")
PROVIDERS = ("apollo", "claude")
CHARGES = (
    A_CREDIT,
    UNPRICED,
    billed(usd_micros=70),
    billed(credits={"email": 1000, "search": 1000}),
    FREE,
    NOT_SENT,
    UNKNOWN_CHARGE,
)
TOTALS = ("billed", "tracked", "imported", "milli_credits", "usd_micros")

# Nine requests, of all kinds of days, hours, providers, tenants and credentials.
ASKED = [
    an_attempt(
        day=DAYS[number % 4],
        hour=(0, 5, 23)[number % 3],
        provider=PROVIDERS[number % 2],
        source=PROVIDERS[number % 2],
        tenant_id=(None, "acme", "default")[number % 3],
        credential_id=PLATFORM if number % 4 else "a-tenants-own",
        batch_id=(None, "b1", "b2")[number % 3],
        trigger=("file", "retry")[number % 2],
    )
    for number in range(9)
]
BEGINS = st.sampled_from(ASKED).map(Begin)
ENDS = st.builds(
    a_finish, st.sampled_from(ASKED), st.sampled_from(CHARGES), latency_us=st.none() | st.integers(0, 10**7)
)
BOOKINGS = st.builds(
    a_booking,
    st.integers(1, 1000),
    id=st.sampled_from("abc"),
    provider=st.sampled_from(PROVIDERS),
    day=st.sampled_from(DAYS),
    kind=st.sampled_from(["tracked", "imported"]),
    tenant_id=st.sampled_from([None, "acme"]),
)
COMMITS = st.lists(st.lists(BEGINS | ENDS | ENDS | BOOKINGS, max_size=8), max_size=8)
REPLAYS = st.lists(st.integers(0, 20), max_size=4)


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    store = open_store(f"sqlite:///{tmp_path_factory.mktemp('ledger') / 'ledger.db'}")
    yield store
    store.close()


def written(connection: Connection, commits: list[list[Op]], replays: list[int]) -> None:
    """Begin most of the requests, write commits, and then some of them again, as if their replies had been lost."""
    apply(connection, list(map(Begin, ASKED[:6])))
    for ops in commits:
        apply(connection, ops)
    for number in replays:
        if commits:
            apply(connection, commits[number % len(commits)])


def all_rows(connection: Connection, query: Any) -> list[dict[str, Any]]:
    return [dict(row) for row in connection.execute(query).mappings()]


def counted(connection: Connection) -> dict[str, Counter[str]]:
    """Count from the ledger's rows alone what each daily total must be."""
    totals: dict[str, Counter[str]] = {}
    for attempt in all_rows(connection, select(attempts)):
        if attempt["charge"] == "billed" and attempt["credential_id"] == PLATFORM:
            cost = {name: attempt[name] or 0 for name in ("milli_credits", "usd_micros")}
            totals.setdefault(usage_key(attempt["provider"], attempt["day"]), Counter()).update(billed=1, **cost)
    for booking in all_rows(connection, select(external_usage)):
        key = usage_key(booking["provider"], booking["day"])
        totals.setdefault(key, Counter()).update({booking["kind"]: booking["calls"]})
    return totals


@settings(max_examples=150)
@given(COMMITS, REPLAYS)
def test_every_sum_is_the_sum_of_its_rows(ledger: Store, commits: list[list[Op]], replays: list[int]) -> None:
    with ledger.writing.connect() as connection:
        written(connection, commits, replays)
        kept = all_rows(connection, select(usage_hours).order_by(*map(usage_hours.c.get, KEY)))
        rebuilt = sorted(all_rows(connection, folded()), key=lambda row: [row[name] for name in KEY])
        assert kept == rebuilt
        held = {
            row["name"]: Counter({name: row[name] for name in TOTALS})
            for row in all_rows(connection, select(daily_totals))
        }
        assert held == counted(connection)
        connection.rollback()


@settings(max_examples=60)
@given(COMMITS, REPLAYS, st.sets(st.sampled_from(DAYS)))
def test_the_parts_of_any_range_of_days_sum_to_the_whole(
    ledger: Store, commits: list[list[Op]], replays: list[int], cuts: set[str]
) -> None:
    edges = ["", *sorted(cuts), "9999"]
    with ledger.writing.connect() as connection:
        written(connection, commits, replays)
        for table, sums in ((usage_hours, SUMS), (daily_totals, TOTALS)):
            whole: Counter[str] = Counter()
            parts: Counter[str] = Counter()
            for row in all_rows(connection, select(table)):
                whole.update({name: row[name] for name in sums})
            for start, end in pairwise(edges):
                days = select(table).where(table.c.day >= start, table.c.day < end)
                for row in all_rows(connection, days):
                    parts.update({name: row[name] for name in sums})
            assert parts == whole
        connection.rollback()


@settings(max_examples=60)
@given(COMMITS, REPLAYS, st.sampled_from(["", *DAYS]))
def test_what_is_shown_as_spent_is_what_the_rollup_and_the_totals_hold(
    ledger: Store, commits: list[list[Op]], replays: list[int], since: str
) -> None:
    with ledger.writing.connect() as connection:
        written(connection, commits, replays)
        spent = spend_by_provider(connection, since_day=since)
        hours: dict[str, Counter[str]] = {}
        for row in all_rows(connection, select(usage_hours).where(usage_hours.c.day >= since)):
            hours.setdefault(row["provider"], Counter()).update({name: row[name] for name in SUMS})
        for provider, spend in spent.items():
            sums = hours.get(provider, Counter())
            assert spend.attempts - spend.open == sums["attempts"]
            assert [spend.billed, spend.free, spend.unknown, spend.not_sent] == [
                sums[name] for name in ("billed", "free", "unknown", "not_sent")
            ]
            assert [spend.credits, spend.usd_micros, spend.unpriced] == [
                sums[name] for name in ("milli_credits", "usd_micros", "unpriced")
            ]
            totals = [total for total in daily_totals_since(connection, since) if total.provider == provider]
            assert spend.tracked == sum(total.tracked for total in totals)
            assert spend.imported == sum(total.imported for total in totals)
            assert all(total.calls == total.billed + total.tracked + total.imported for total in totals)
        connection.rollback()


def summed(*spends: dict[str, Spend]) -> Counter[str]:
    """All rows of some spends together."""
    whole: Counter[str] = Counter()
    for spend in (spend for of in spends for spend in of.values()):
        whole.update({name: getattr(spend, name) for name in Spend.__struct_fields__})
    return whole


@settings(max_examples=60, deadline=None)
@given(COMMITS, REPLAYS, st.sets(st.sampled_from(DAYS)))
def test_whatever_it_is_told_apart_by_and_cut_into_spend_sums_to_the_same(
    ledger: Store, commits: list[list[Op]], replays: list[int], cuts: set[str]
) -> None:
    starts = ["", *sorted(cuts)]
    with ledger.writing.connect() as connection:
        written(connection, commits, replays)
        whole = summed(spend_by_provider(connection))
        assert whole["attempts"] == len(all_rows(connection, select(attempts)))
        assert whole["attempts"] == sum(whole[of] for of in ("billed", "free", "unknown", "not_sent", "open"))
        for by in By:
            parts = [spend_by(connection, by, since_day=start, until_day=day_before(until)) for start, until in
                     pairwise([*starts, "9999-12-31"])]  # fmt: skip
            assert summed(*parts) == whole
            assert summed(spend_by(connection, by)) == whole
        connection.rollback()


def day_before(day: str) -> str:
    return (date.fromisoformat(day) - timedelta(days=1)).isoformat()
