"""Sealing days: single calls are dropped by whole UTC days, and what they summed to is kept as it is, for ever.

The sums of a day are folded once more, the ledger horizon moves over it and its attempts go, in one transaction.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, timedelta

from sqlalchemy import Connection, delete, func, select

from sluiceway.outcome import ChargeKind
from sluiceway.rollups import rebuild
from sluiceway.store.facts import LEDGER_HORIZON, ledger_horizon, set_fact
from sluiceway.store.schema import answers, attempts, daily_totals
from sluiceway.usage.reconcile import rebuild_totals


def days_to_seal(connection: Connection, keep_days: int, today: date) -> Iterator[str]:
    """Yield the UTC days whose calls are older than so many days, oldest first.

    Ends before a day on which a call is still open: what it cost could not be summed any more.
    """
    a, before = attempts.c, (today - timedelta(days=keep_days)).isoformat()
    open_since = connection.execute(select(func.min(a.day)).where(a.finished_at.is_(None))).scalar()
    day = connection.execute(select(func.min(a.day))).scalar()
    while day is not None and day < before and (open_since is None or day < open_since):
        yield day
        day = connection.execute(select(func.min(a.day)).where(a.day > day)).scalar()


def count_calls(connection: Connection, days: list[str]) -> int:
    """Count the attempts of some UTC days."""
    return connection.execute(select(func.count()).where(attempts.c.day.in_(days))).scalar_one() if days else 0


def seal(connection: Connection, day: str) -> int:
    """Seal a UTC day and drop its attempts with what they answered, in the open transaction; returns how many."""
    rebuild(connection, [day])
    rebuild_totals(connection, [(provider, day) for provider in _counted_on(connection, day)])
    connection.execute(delete(answers).where(answers.c.day == day))
    dropped = connection.execute(delete(attempts).where(attempts.c.day == day)).rowcount
    if day > (ledger_horizon(connection) or ""):
        set_fact(connection, LEDGER_HORIZON, day)
    return dropped


def _counted_on(connection: Connection, day: str) -> set[str]:
    """Return the providers that have a daily total, or should."""
    billed = (attempts.c.day == day) & (attempts.c.charge == ChargeKind.BILLED)
    totals = select(daily_totals.c.provider).where(daily_totals.c.day == day)
    return set(connection.execute(totals.union(select(attempts.c.provider).where(billed))).scalars())
