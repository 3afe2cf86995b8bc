"""Fold finished attempts into hourly sums, and rebuild those sums from the attempts.

The fold is given exactly the rows that a statement moved, so folding and rebuilding always agree; a test holds them
against each other.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec
from sqlalchemy import Connection, case, delete, func, insert, literal_column, select

from sluiceway.outcome import ChargeKind
from sluiceway.store.bulk import Upsert
from sluiceway.store.schema import attempts, usage_hours

KEY = ("day", "hour", "provider", "source", "tenant_id")
SUMS = ("attempts", "billed", "free", "unknown", "not_sent", "milli_credits", "usd_micros", "unpriced", "latency_us")

_ADD = Upsert(usage_hours, (*KEY, *SUMS), KEY, ", ".join(f"{s} = usage_hours.{s} + excluded.{s}" for s in SUMS))
_PLACE = {name: place for place, name in enumerate(SUMS)}


class Moved(msgspec.Struct, frozen=True):
    """The facts of one finished attempt that sums are made of."""

    id: str
    day: str
    hour: int
    provider: str
    source: str
    tenant_id: str | None
    credential_id: str
    charge: str
    milli_credits: int | None
    usd_micros: int | None
    latency_us: int | None
    begun_at: str
    reserved_milli_credits: int | None
    reserved_usd_micros: int | None


class HoursFold:
    """Adds one commit's attempts to the hourly sums."""

    def __init__(self) -> None:
        self._added: dict[tuple[str, int, str, str, str], list[int]] = {}

    def finished(self, moved: Moved) -> None:
        """Count an attempt that has just finished."""
        sums = self._sums(moved)
        sums[_PLACE["attempts"]] += 1
        sums[_PLACE["latency_us"]] += moved.latency_us or 0
        self._charge(sums, moved)

    def corrected(self, moved: Moved) -> None:
        """Count an attempt again whose charge was unknown and is now known."""
        sums = self._sums(moved)
        sums[_PLACE["unknown"]] -= 1
        self._charge(sums, moved)

    def _sums(self, moved: Moved) -> list[int]:
        key = (moved.day, moved.hour, moved.provider, moved.source, moved.tenant_id or "")
        return self._added.setdefault(key, [0] * len(SUMS))

    def _charge(self, sums: list[int], moved: Moved) -> None:
        sums[_PLACE[moved.charge]] += 1
        sums[_PLACE["milli_credits"]] += moved.milli_credits or 0
        sums[_PLACE["usd_micros"]] += moved.usd_micros or 0
        sums[_PLACE["unpriced"]] += moved.charge == ChargeKind.BILLED and moved.usd_micros is None

    def write(self, connection: Connection) -> None:
        """Write the sums in key order, so that two workers never wait for each other in a circle."""
        rows: list[list[Any]] = [[*key, *sums] for key, sums in sorted(self._added.items())]
        _ADD.run(connection, rows)


def rebuild(connection: Connection, days: Iterable[str]) -> None:
    """Throw away the hourly sums of some UTC days and fold their attempts anew."""
    for day in days:
        connection.execute(delete(usage_hours).where(usage_hours.c.day == day))
        connection.execute(insert(usage_hours).from_select([*KEY, *SUMS], folded(day)))


def folded(day: str | None = None) -> Any:
    """Return the query that folds finished attempts (of one day) the way `HoursFold` does."""
    a = attempts.c
    tenant = func.coalesce(a.tenant_id, literal_column("''"))  # PostgreSQL would not group by a parameter
    kinds = [func.sum(case((a.charge == kind, 1), else_=0)).label(kind) for kind in ChargeKind]
    unpriced = case(((a.charge == ChargeKind.BILLED) & a.usd_micros.is_(None), 1), else_=0)
    amounts = [
        func.sum(func.coalesce(a.milli_credits, 0)).label("milli_credits"),
        func.sum(func.coalesce(a.usd_micros, 0)).label("usd_micros"),
        func.sum(unpriced).label("unpriced"),
        func.sum(func.coalesce(a.latency_us, 0)).label("latency_us"),
    ]
    query = select(
        a.day, a.hour, a.provider, a.source, tenant.label("tenant_id"), func.count().label("attempts"), *kinds, *amounts
    )
    query = query.where(a.finished_at.is_not(None)).group_by(a.day, a.hour, a.provider, a.source, tenant)
    return query if day is None else query.where(a.day == day)
