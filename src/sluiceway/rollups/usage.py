"""Fold finished attempts into sums of calls and money: by hour, by provider's hour, and by day and who they were for.

The folds are given exactly the rows that a statement moved, so folding and rebuilding always agree; a test holds them
against each other.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from operator import itemgetter
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, Select, Table, case, exists, func, literal_column, select

from sluiceway.outcome import ChargeKind
from sluiceway.rollups.rollup import Key, Rollup
from sluiceway.store.schema import (
    activity,
    attempts,
    provider_hours,
    source_results,
    tenant_days,
    unviewed_days,
    usage_days,
    usage_hours,
)


class Moved(msgspec.Struct, frozen=True):
    """The facts of one finished attempt that sums are made of."""

    id: str
    day: str
    hour: int
    provider: str
    source: str
    tenant_id: str | None
    user_id: str | None
    api_key_id: str | None
    batch_id: str | None
    trigger: str
    prospect_id: str | None
    source_result_id: str | None
    credential_id: str
    charge: str
    milli_credits: int | None
    usd_micros: int | None
    latency_us: int | None
    begun_at: str
    reserved_milli_credits: int | None
    reserved_usd_micros: int | None
    is_viewed: int


VIEWED: Final = "profile_viewed"
"""The mark of a prospect whose profile was viewed."""

# Written into statements that return what they moved, and nothing in it comes from outside.
_IS_VIEWED = (
    "EXISTS (SELECT 1 FROM prospect_marks AS m "
    "WHERE m.prospect_id = attempts.prospect_id AND m.action = 'profile_viewed')"
)
MOVED: Final = ", ".join([*(f"attempts.{name}" for name in Moved.__struct_fields__[:-1]), f"({_IS_VIEWED})"])
"""What a statement that ends attempts returns of them, as a `Moved`."""

_FINEST = ("day", "hour", "provider", "source", "tenant_id", "user_id", "api_key_id", "batch_id", "trigger")
_PERHAPS_NOBODYS = {"tenant_id", "user_id", "api_key_id", "batch_id"}


def _folded(table: Table, day: str | None) -> Select[Any]:
    """Return the query that sums finished attempts (of one day) by the key of a table of sums."""
    a = attempts.c
    keys = [_key(column.name) for column in table.primary_key.columns]
    sums = [_sum(column.name) for column in table.columns if not column.primary_key]
    query = select(*keys, *sums).where(a.finished_at.is_not(None)).group_by(*(_bare(key.name) for key in keys))
    return query if day is None else query.where(a.day == day)


def _key(name: str) -> Any:
    return _bare(name).label(name)


def _bare(name: str) -> Any:
    # written out, because PostgreSQL would not group by a parameter
    return func.coalesce(attempts.c[name], literal_column("''")) if name in _PERHAPS_NOBODYS else attempts.c[name]


def _sum(name: str) -> Any:
    a = attempts.c
    match name:
        case "attempts":
            summed: Any = func.count()
        case "unpriced":
            summed = func.sum(case(((a.charge == ChargeKind.BILLED) & a.usd_micros.is_(None), 1), else_=0))
        case _ if name in set(ChargeKind):
            summed = func.sum(case((a.charge == name, 1), else_=0))
        case _:
            summed = func.sum(func.coalesce(a[name], 0))
    return summed.label(name)


def folded(day: str | None = None) -> Select[Any]:
    """Return the query that folds finished attempts (of one day) by the hour."""
    return _folded(usage_hours, day)


HOURS = Rollup(usage_hours, folded, of_attempts=True)
PROVIDER_HOURS = Rollup(provider_hours, lambda day: _folded(provider_hours, day), of_attempts=True)
TENANT_DAYS = Rollup(tenant_days, lambda day: _folded(tenant_days, day), of_attempts=True)
DAYS = Rollup(usage_days, lambda day: _folded(usage_days, day), of_attempts=True)

KEY, SUMS = HOURS.key, HOURS.sums
_PLACE = {name: place for place, name in enumerate(SUMS)}
_ATTEMPTS, _UNKNOWN, _LATENCY = (_PLACE[name] for name in ("attempts", "unknown", "latency_us"))
_CREDITS, _USD, _UNPRICED = (_PLACE[name] for name in ("milli_credits", "usd_micros", "unpriced"))
_COARSER = [
    (rollup, itemgetter(*map(_FINEST.index, rollup.key)), len(rollup.sums))
    for rollup in (HOURS, PROVIDER_HOURS, TENANT_DAYS, DAYS)
]  # fmt: skip


class UsageFold:
    """Adds one commit's attempts to the sums of calls and money."""

    def __init__(self) -> None:
        self._added: dict[Key, list[int]] = {}
        self._unviewed: dict[Key, list[int]] = {}

    def finished(self, moved: Moved) -> None:
        """Count an attempt that has just finished."""
        sums = self._sums(moved)
        sums[_ATTEMPTS] += 1
        sums[_LATENCY] += moved.latency_us or 0
        self._charge(sums, moved)

    def corrected(self, moved: Moved) -> None:
        """Count an attempt again whose charge was unknown and is now known."""
        sums = self._sums(moved)
        sums[_UNKNOWN] -= 1
        self._charge(sums, moved)

    def _sums(self, m: Moved) -> list[int]:
        key = (
            m.day, m.hour, m.provider, m.source,
            m.tenant_id or "", m.user_id or "", m.api_key_id or "", m.batch_id or "", m.trigger,
        )  # fmt: skip
        sums = self._added.get(key)
        if sums is None:
            sums = self._added[key] = [0] * len(SUMS)
        return sums

    def _charge(self, sums: list[int], moved: Moved) -> None:
        sums[_PLACE[moved.charge]] += 1
        if moved.charge == "billed":
            usd, unpriced = moved.usd_micros or 0, int(moved.usd_micros is None)
            sums[_CREDITS] += moved.milli_credits or 0
            sums[_USD] += usd
            sums[_UNPRICED] += unpriced
            if (usd or unpriced) and moved.prospect_id and moved.source_result_id and not moved.is_viewed:
                unviewed = self._unviewed.setdefault((moved.day, moved.tenant_id or ""), [0, 0])
                unviewed[0] += usd
                unviewed[1] += unpriced

    def write(self, connection: Connection) -> None:
        """Write the sums."""
        for rollup, pick, width in _COARSER:
            rollup.add(connection, _summed((pick(key), sums[:width]) for key, sums in self._added.items()))
        UNVIEWED.add(connection, self._unviewed)


def _summed(rows: Iterable[tuple[Key, Sequence[int]]]) -> dict[Key, list[int]]:
    coarse: dict[Key, list[int]] = {}
    for key, sums in rows:
        held = coarse.get(key)
        coarse[key] = list(sums) if held is None else [one + other for one, other in zip(held, sums, strict=True)]
    return coarse


# What was spent on prospects whose profile nobody has viewed. The first view takes it away, so it is as of now.


def _folded_unviewed(day: str | None) -> Select[Any]:
    a, did = attempts.c, activity.c
    tenant = func.coalesce(a.tenant_id, literal_column("''"))
    of_the_index = did.action != literal_column("'profile_enriched'")
    is_viewed = exists().where(did.target == a.prospect_id, did.action == VIEWED, of_the_index)
    query = select(a.day, tenant.label("tenant_id"), _sum("usd_micros"), _sum("unpriced"))
    query = query.where(a.charge == ChargeKind.BILLED, a.prospect_id.is_not(None), a.source_result_id.is_not(None))
    query = query.where(~is_viewed).group_by(a.day, tenant)
    return query if day is None else query.where(a.day == day)


UNVIEWED = Rollup(unviewed_days, _folded_unviewed, of_attempts=True)


def take_from_unviewed(connection: Connection, prospect_ids: Iterable[str]) -> None:
    """Take what was paid for prospects that are viewed for the first time out of what was spent on unviewed ones."""
    for prospect_id in prospect_ids:
        paid = connection.execute(_paid_for(prospect_id)).all()
        taken = [((day, tenant), (-int(usd), -int(unpriced))) for day, tenant, usd, unpriced in paid]
        UNVIEWED.add(connection, _summed(taken))


def _paid_for(prospect_id: str) -> Select[Any]:
    a, r = attempts.c, source_results.c
    tenant = func.coalesce(a.tenant_id, literal_column("''"))
    query = select(a.day, tenant, _sum("usd_micros"), _sum("unpriced"))
    query = query.join(source_results, r.id == a.source_result_id).where(r.prospect_id == prospect_id)
    query = query.where(a.charge == ChargeKind.BILLED, a.prospect_id == prospect_id)
    return query.group_by(a.day, tenant)
