"""Every figure is the same wherever it is kept; what differs is found, and mended from the ledger."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, delete, func, insert, select, update

from builders import A_CREDIT, DAY, UNPRICED, a_booking, a_finish, an_attempt, rows, write
from sluiceway.outcome import FREE, NOT_SENT, UNKNOWN_CHARGE
from sluiceway.rollups import SUMS
from sluiceway.store.engine import Store, open_store
from sluiceway.store.schema import attempts, daily_totals, external_usage, facts, usage_hours
from sluiceway.usage.counter import daily_totals_since, usage_key
from sluiceway.usage.ledger import Begin, apply
from sluiceway.usage.outside import metered_days
from sluiceway.usage.provider_meter import MeterRow, keep
from sluiceway.usage.reconcile import Change, Drift, Line, Reconciliation, fix, reconcile

NOW = datetime(2026, 3, 6, 12, tzinfo=UTC)
DAYS = ("2026-03-03", DAY, "2026-03-05")
CHARGES = (A_CREDIT, A_CREDIT, UNPRICED, FREE, NOT_SENT, UNKNOWN_CHARGE, None)
TOTALS = ("billed", "tracked", "imported", "milli_credits", "usd_micros")


def filled(connection: Connection) -> None:
    """Three days of two providers, with everything that can become of a call, and calls from outside."""
    for day in DAYS:
        for provider in ("apollo", "exa"):
            for number, charge in enumerate(CHARGES):
                attempt = an_attempt(
                    day=day, hour=number % 2, provider=provider, source=provider, begun_at=f"{day}T05:06:07.000Z",
                    tenant_id=(None, "acme")[number % 2], credential_id="platform" if number else "a-tenants-own",
                )  # fmt: skip
                apply(connection, [Begin(attempt), *([a_finish(attempt, charge)] if charge else [])])
        apply(connection, [a_booking(7, day=day), a_booking(3, day=day, provider="exa", kind="imported")])


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """A store with three days in it; whoever changes it must roll back."""
    store = open_store(f"sqlite:///{tmp_path_factory.mktemp('ledger') / 'ledger.db'}")
    with store.writing.begin() as connection:
        filled(connection)
    yield store
    store.close()


class Counters:
    """What Redis holds, as it may be read."""

    def __init__(self, connection: Connection) -> None:
        self.values: dict[str, int | None] = {t.name: t.calls for t in daily_totals_since(connection, "")}

    def __call__(self, names: Sequence[str]) -> Mapping[str, int | None]:
        return {name: self.values[name] for name in names if name in self.values}


def compared(connection: Connection, since: str = "", counters: Counters | None = None) -> Reconciliation:
    return reconcile(connection, NOW, since, counters)


def drifts(found: Reconciliation) -> list[tuple[str, str, Drift]]:
    return [(line.provider, line.day, drift) for line in found.drifting for drift in line.drifts]


def test_where_nothing_is_wrong_nothing_drifts(ledger: Store) -> None:
    with ledger.read() as connection:
        found = compared(connection, counters=Counters(connection))
    assert drifts(found) == []
    assert [(line.day, line.provider) for line in found.lines] == [
        (day, of) for day in DAYS for of in ("apollo", "exa")
    ]
    assert found.lines[0] == Line("apollo", DAYS[0], False, 9, 9, 9, 9, unknown=1, open=1)
    assert (found.counters_compared, found.horizon) == (True, None)


def test_without_redis_no_counter_is_compared(ledger: Store) -> None:
    with ledger.read() as connection:
        found = compared(connection)
    assert not found.counters_compared
    assert {line.counter for line in found.lines} == {None}


def one_more(connection: Connection, table: Any, figure: str, place: int, by: int) -> tuple[str, str]:
    """Change a figure in one row of a table; returns the row's provider and day."""
    found = connection.execute(select(table).order_by(*table.primary_key.columns)).mappings().all()
    row = found[place % len(found)]
    key = [column == row[column.name] for column in table.primary_key.columns]
    connection.execute(update(table).where(*key).values({figure: row[figure] + by}))
    return row["provider"], row["day"]


WRONG_ROLLUP = st.tuples(st.just(usage_hours), st.sampled_from(SUMS))
WRONG_TOTAL = st.tuples(st.just(daily_totals), st.sampled_from(TOTALS))


@settings(max_examples=80, deadline=None)
@given(WRONG_ROLLUP | WRONG_TOTAL, st.integers(0, 50), st.sampled_from([1, -1]))
def test_a_figure_that_is_off_by_one_is_found_and_mended(
    ledger: Store, wrong: tuple[Any, str], place: int, by: int
) -> None:
    table, figure = wrong
    with ledger.writing.connect() as connection:
        before = {t: connection.execute(select(t)).all() for t in (usage_hours, external_usage)}
        totals = daily_totals_since(connection, "")
        where = one_more(connection, table, figure, place, by)
        ((*found_at, drift),) = drifts(compared(connection))
        assert tuple(found_at) == where
        assert drift.where == ("rollup" if table is usage_hours else "daily total")
        assert (drift.found or 0) - drift.should_be == by
        (change,) = fix(connection, compared(connection))
        assert (change.was or 0) - change.now == by
        assert drifts(compared(connection)) == []
        assert fix(connection, compared(connection)) == []
        assert {t: connection.execute(select(t)).all() for t in before} == before
        after = daily_totals_since(connection, "")
        assert [(t.name, t.calls, t.tracked, t.imported) for t in after] == [
            (t.name, t.calls, t.tracked, t.imported) for t in totals
        ]
        raised = [new.name for new, old in zip(after, totals, strict=True) if new.version > old.version]
        assert raised == ([usage_key(*where)] if table is daily_totals else [])
        connection.rollback()


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 50), st.sampled_from([1, -1, None]))
def test_a_counter_that_is_off_by_one_or_gone_is_found_and_will_be_published_again(
    ledger: Store, place: int, by: int | None
) -> None:
    with ledger.writing.connect() as connection:
        counters, totals = Counters(connection), daily_totals_since(connection, "")
        total = totals[place % len(totals)]
        if by is None:
            del counters.values[total.name]
        else:
            counters.values[total.name] = total.calls + by
        ((provider, day, drift),) = drifts(compared(connection, counters=counters))
        found = None if by is None else total.calls + by
        assert (provider, day, drift) == (total.provider, total.day, Drift("counter", "calls", total.calls, found))
        fix(connection, compared(connection, counters=counters))
        after = {t.name: t for t in daily_totals_since(connection, "")}
        assert after[total.name].version == total.version + 1
        assert {name: t.calls for name, t in after.items()} == {t.name: t.calls for t in totals}
        connection.rollback()


def test_errors_that_cancel_out_over_a_day_are_found_hour_by_hour(ledger: Store) -> None:
    with ledger.writing.connect() as connection:
        day = usage_hours.c.day == DAY
        connection.execute(update(usage_hours).where(day, usage_hours.c.hour == 0).values(free=usage_hours.c.free + 1))
        connection.execute(update(usage_hours).where(day, usage_hours.c.hour == 1).values(free=usage_hours.c.free - 1))
        found = compared(connection)
        assert (
            len(drifts(found)) == connection.execute(select(func.count()).select_from(usage_hours).where(day)).scalar()
        )
        assert {line.day for line in found.drifting} == {DAY}
        connection.rollback()


def test_sums_that_are_gone_are_made_anew_with_what_was_tracked_and_imported(ledger: Store) -> None:
    with ledger.writing.connect() as connection:
        totals, hours = daily_totals_since(connection, ""), connection.execute(select(usage_hours)).all()
        connection.execute(delete(daily_totals))
        connection.execute(delete(usage_hours))
        assert {drift.found for _, _, drift in drifts(compared(connection))} == {None}
        changes = fix(connection, compared(connection))
        assert Change("apollo", DAY, "daily total", "tracked", None, 7) in changes
        assert drifts(compared(connection)) == []
        assert connection.execute(select(usage_hours)).all() == hours
        assert [
            (t.name, t.billed, t.tracked, t.imported, t.usd_micros) for t in daily_totals_since(connection, "")
        ] == [(t.name, t.billed, t.tracked, t.imported, t.usd_micros) for t in totals]
        connection.rollback()


def test_a_total_without_any_row_behind_it_becomes_nothing(ledger: Store) -> None:
    with ledger.writing.connect() as connection:
        name = usage_key("claude", DAY)
        connection.execute(insert(daily_totals).values(name=name, provider="claude", day=DAY, billed=4, version=9))
        ((provider, _, drift),) = drifts(compared(connection))
        assert (provider, drift) == ("claude", Drift("daily total", "billed", 0, 4))
        fix(connection, compared(connection))
        (total,) = (t for t in daily_totals_since(connection, "") if t.name == name)
        assert (total.calls, total.version) == (0, 10)
        connection.rollback()


def test_only_the_days_that_were_asked_for_are_compared(ledger: Store) -> None:
    with ledger.writing.connect() as connection:
        connection.execute(update(daily_totals).where(daily_totals.c.day < DAY).values(billed=99))
        assert drifts(compared(connection, since=DAY)) == []
        assert {line.day for line in compared(connection, since=DAY).lines} == set(DAYS[1:])
        connection.rollback()


def test_sealed_days_are_not_held_against_rows_that_are_gone(ledger: Store) -> None:
    with ledger.writing.connect() as connection:
        connection.execute(insert(facts).values(name="ledger_horizon", value=DAYS[0]))
        connection.execute(delete(attempts).where(attempts.c.day == DAYS[0]))
        counters = Counters(connection)
        found = compared(connection, counters=counters)
        assert (drifts(found), found.horizon) == ([], DAYS[0])
        assert [line.sealed for line in found.lines] == [True, True, False, False, False, False]
        counters.values[usage_key("apollo", DAYS[0])] = 1
        totals = daily_totals_since(connection, "")
        assert [change.where for change in fix(connection, compared(connection, counters=counters))] == ["counter"]
        after = daily_totals_since(connection, "")
        assert [t.calls for t in after] == [t.calls for t in totals]
        assert after[0].version == totals[0].version + 1
        connection.rollback()


def test_a_counter_that_we_never_wrote_is_named_and_left_alone(ledger: Store) -> None:
    with ledger.writing.connect() as connection:
        counters = Counters(connection)
        counters.values[usage_key("apollo", "2026-02-01")] = 500
        counters.values[usage_key("apollo", "2025-02-01")] = 500  # expired long ago, so not ours to look for
        ((_, day, drift),) = drifts(compared(connection, counters=counters))
        assert (day, drift.foreign, drift.mendable) == ("2026-02-01", True, False)
        assert fix(connection, compared(connection, counters=counters)) == []
        connection.rollback()


def test_counters_that_have_expired_are_not_missed(ledger: Store) -> None:
    nothing = Counters.__new__(Counters)
    nothing.values = {}
    with ledger.read() as connection:
        long_after = reconcile(connection, NOW + timedelta(days=92), "", nothing)
        soon_after = reconcile(connection, NOW + timedelta(days=80), "", nothing)
    assert drifts(long_after) == []
    assert len(drifts(soon_after)) == 6


def test_calls_at_midnight_are_told_apart(store: Store) -> None:
    for moment in ("23:58:59.999Z", "23:59:00.000Z", "00:00:59.999Z", "00:01:00.000Z"):
        attempt = an_attempt(begun_at=f"{DAY}T{moment}")
        write(store, Begin(attempt), a_finish(attempt))
    with store.read() as connection:
        (line,) = compared(connection).lines
    assert line.near_midnight == 2


# Providers' own meters.


def read_at(store: Store, time: str, used: int) -> None:
    """A reading of Apollo's meter of credits."""
    at = f"{DAY}T{time}.000Z"
    meter = ("apollo", "platform", "lead credits", "credits", "call", at, at)
    with store.writing.begin() as connection:
        keep(connection, [MeterRow(*meter, used=used, amount=100_000)])


def bought(store: Store, time: str, charge: Any = A_CREDIT, **changed: Any) -> None:
    at = f"{DAY}T{time}.000Z"
    attempt = an_attempt(begun_at=at, reserved_milli_credits=1000, **changed)
    write(store, Begin(attempt), a_finish(attempt, charge, at=at))


def the_meter(store: Store) -> Line:
    with store.read() as connection:
        (line,) = compared(connection).lines
    return line


def test_a_meter_that_counted_what_we_sent_agrees(store: Store) -> None:
    read_at(store, "01:00:00", 5000)
    bought(store, "02:00:00")
    bought(store, "03:00:00", FREE)
    bought(store, "04:00:00")
    read_at(store, "05:00:00", 7000)
    (metered,) = the_meter(store).meters
    assert (metered.theirs, metered.ours_least, metered.ours_most, metered.outside, metered.missing) == (
        2000, 2000, 2000, 0, 0,
    )  # fmt: skip
    assert the_meter(store).drifts == []


@pytest.mark.parametrize("used", [6000, 7000])
def test_unknown_calls_are_a_band_and_no_drift(store: Store, used: int) -> None:
    read_at(store, "01:00:00", 5000)
    bought(store, "02:00:00")
    bought(store, "03:00:00", UNKNOWN_CHARGE)
    read_at(store, "04:00:00", used)
    line = the_meter(store)
    assert (line.meters[0].outside, line.meters[0].missing, line.drifts) == (0, 0, [])


def test_days_follow_each_other_without_a_gap_and_none_counts_twice(store: Store) -> None:
    with store.writing.begin() as connection:
        for day, time, used in (
            (DAYS[0], "12", 0),
            (DAYS[0], "20", 4000),
            (DAYS[1], "03", 5000),
            (DAYS[1], "09", 7000),
        ):
            at = f"{day}T{time}:00:00.000Z"
            keep(connection, [MeterRow("apollo", "platform", "lead credits", "credits", "call", at, at, used=used)])
    with store.read() as connection:
        first, second = metered_days(connection)
        assert metered_days(connection, since=DAYS[1]) == [second]
    assert (first.theirs, second.theirs) == (4000, 3000)
    assert (first.until, second.since) == (f"{DAYS[0]}T20:00:00.000Z",) * 2


def test_what_they_counted_above_that_was_used_outside(store: Store) -> None:
    read_at(store, "01:00:00", 5000)
    bought(store, "02:00:00")
    read_at(store, "05:00:00", 9000)
    line = the_meter(store)
    assert (line.meters[0].outside, line.drifts) == (3000, [])


def test_what_they_lack_of_what_we_hold_to_be_billed_is_drift_that_no_fix_mends(store: Store) -> None:
    read_at(store, "01:00:00", 5000)
    bought(store, "02:00:00")
    bought(store, "03:00:00")
    read_at(store, "05:00:00", 6000)
    assert the_meter(store).drifts == [Drift("meter", "credits of lead credits", 2000, 1000)]
    with store.writing.begin() as connection:
        assert fix(connection, compared(connection)) == []
    assert len(rows(store, usage_hours)) == 1
