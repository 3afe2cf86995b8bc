"""Hourly sums: what is folded as it happens is what a rebuild finds."""

from __future__ import annotations

from sqlalchemy import delete, update

from builders import A_CREDIT, DAY, UNPRICED, a_finish, an_attempt, rows, write
from sluiceway.outcome import FREE, NOT_SENT, UNKNOWN_CHARGE
from sluiceway.rollups import KEY, rebuild
from sluiceway.store.engine import Store
from sluiceway.store.schema import usage_hours
from sluiceway.usage.ledger import Begin, Task

NEXT_DAY = "2026-03-05"


def some_usage(store: Store) -> None:
    """Two days of everything that can happen to an attempt."""
    for day in (DAY, NEXT_DAY):
        for hour, charge in enumerate((A_CREDIT, UNPRICED, FREE, NOT_SENT, UNKNOWN_CHARGE)):
            attempt = an_attempt(day=day, hour=hour % 2, tenant_id=None if hour == 0 else "acme")
            write(store, Begin(attempt), a_finish(attempt, charge))
    write(store, Begin(an_attempt()))


def test_a_rebuild_finds_what_was_folded(store: Store) -> None:
    some_usage(store)
    folded = rows(store, usage_hours)
    write(store, Task(lambda connection: connection.execute(delete(usage_hours)) and None))
    write(store, Task(lambda connection: rebuild(connection, [DAY, NEXT_DAY])))
    assert rows(store, usage_hours) == folded
    assert len(folded) == 6


def test_a_rebuild_of_one_day_mends_that_day_and_leaves_the_others(store: Store) -> None:
    some_usage(store)
    folded = rows(store, usage_hours)
    write(store, Task(lambda connection: connection.execute(update(usage_hours).values(billed=99)) and None))
    write(store, Task(lambda connection: rebuild(connection, [DAY])))
    for before, after in zip(folded, rows(store, usage_hours), strict=True):
        assert [before[name] for name in KEY] == [after[name] for name in KEY]
        assert after["billed"] == (before["billed"] if after["day"] == DAY else 99)


def test_a_day_without_attempts_rebuilds_to_nothing(store: Store) -> None:
    write(store, Task(lambda connection: rebuild(connection, [DAY])))
    assert rows(store, usage_hours) == []


def test_usage_of_nobodys_is_kept_apart_from_every_tenants(store: Store) -> None:
    some_usage(store)
    assert {row["tenant_id"] for row in rows(store, usage_hours)} == {"", "acme"}
