"""How many prospects are held, and how many of them with something bought: by the UTC day that became so."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec
from sqlalchemy import Connection, Select, func, literal_column, select, union_all

from sluiceway.rollups.rollup import Key, Rollup
from sluiceway.store.bulk import Update
from sluiceway.store.schema import coverage_days, prospects


def _folded(day: str | None) -> Select[Any]:
    p = prospects.c
    nothing: Any = literal_column("0")
    one: Any = literal_column("1")
    added = select(
        func.substr(p.created_at, 1, 10).label("day"), p.tenant_id, one.label("prospects"), nothing.label("covered")
    )
    covered = select(func.substr(p.covered_at, 1, 10), p.tenant_id, nothing, one).where(p.covered_at.is_not(None))
    both = union_all(added, covered).subquery().c
    query = select(
        both.day,
        both.tenant_id,
        func.sum(both.prospects).label("prospects"),
        func.sum(both.covered).label("covered"),
    ).group_by(both.day, both.tenant_id)
    return query if day is None else query.where(both.day == day)


COVERAGE = Rollup(coverage_days, _folded, of_attempts=False)


def prospects_covered(connection: Connection, covered: Iterable[tuple[str, str]]) -> None:
    """Count prospects that something was just bought about for the first time: tenant, `covered_at`."""
    _count(connection, [], covered, 1)


def mark_covered(connection: Connection) -> None:
    """Note when something was first bought about prospects of whom an earlier version did not."""
    p = prospects.c
    query = select(p.id, p.fields, p.created_at).where(p.covered_at.is_(None), p.fields != "{}")
    for rows in connection.execute(query.execution_options(yield_per=2000)).partitions():
        _COVERED_BEFORE.run(connection, [(row.id, _first_bought(row.fields) or row.created_at) for row in rows])


_COVERED_BEFORE = Update(
    prospects, ("id", "covered_at"), change="covered_at = v.covered_at", where="prospects.id = v.id"
)


def _first_bought(fields: str) -> str | None:
    held = msgspec.json.decode(fields).values()
    return min((stored[1] for stored in held if isinstance(stored, list) and stored[1:]), default=None)


def prospects_added(connection: Connection, added: Iterable[tuple[str, str]]) -> None:
    """Count prospects that were just put into the store: whose (tenant), and when (`created_at`)."""
    _count(connection, added, [], 1)


def prospects_removed(connection: Connection, removed: Iterable[tuple[str, str, str | None]]) -> None:
    """Count prospects no more that were just taken out of the store: tenant, `created_at`, `covered_at`."""
    rows = list(removed)
    _count(connection, [row[:2] for row in rows], [(tenant, at) for tenant, _, at in rows if at], -1)


def _count(
    connection: Connection, added: Iterable[tuple[str, str]], covered: Iterable[tuple[str, str]], by: int
) -> None:
    sums: dict[Key, list[int]] = {}
    for place, rows in enumerate((added, covered)):
        for tenant, at in rows:
            sums.setdefault((at[:10], tenant), [0, 0])[place] += by
    COVERAGE.add(connection, sums)
