"""How source results ended, by the UTC day they were closed. Each is closed once, so nothing here is ever corrected."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec
from sqlalchemy import Connection, Select, func, select

from sluiceway.rollups.rollup import Key, Rollup
from sluiceway.store.schema import outcome_days, source_results, tenant_outcome_days


class Ended(msgspec.Struct, frozen=True):
    """A source result that a statement has just closed. `fingerprint` names its error, where it failed."""

    id: str
    tenant_id: str
    source: str
    status: str
    closed_at: str
    error: str | None
    fingerprint: str | None


def _folded(tenants: bool, day: str | None) -> Select[Any]:
    r = source_results.c
    closed_on = func.substr(r.closed_at, 1, 10).label("day")
    ended = select(r.tenant_id, closed_on, r.source, r.status).where(r.closed_at.is_not(None)).subquery().c
    keys = [*([ended.tenant_id] if tenants else []), ended.day, ended.source, ended.status]
    query = select(*keys, func.count().label("results")).group_by(*keys)
    return query if day is None else query.where(ended.day == day)


OUTCOMES = Rollup(outcome_days, lambda day: _folded(False, day), of_attempts=False)
TENANT_OUTCOMES = Rollup(tenant_outcome_days, lambda day: _folded(True, day), of_attempts=False)


def fold_outcomes(connection: Connection, ended: Iterable[Ended]) -> None:
    """Count source results that were just closed: for each tenant, and for everybody."""
    tenants: dict[Key, list[int]] = {}
    everybody: dict[Key, list[int]] = {}
    for one in ended:
        key = (one.closed_at[:10], one.source, one.status)
        tenants.setdefault((one.tenant_id, *key), [0])[0] += 1
        everybody.setdefault(key, [0])[0] += 1
    TENANT_OUTCOMES.add(connection, tenants)
    OUTCOMES.add(connection, everybody)
