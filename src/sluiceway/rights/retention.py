"""Not keeping people for longer than was set: they go when nobody has asked about them for so many days."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, delete, func, select

from sluiceway.outcome import timestamp
from sluiceway.store.schema import documents, prospects, runs

AT_ONCE = 50
"""People erased in one transaction."""


def people_to_erase(connection: Connection, days: int, now: datetime) -> Iterator[list[str]]:
    """Yield, some at a time, the prospects that nobody has asked about for so many days."""
    query, last = _forgotten(days, now), ""
    while page := connection.execute(query.where(prospects.c.id > last).limit(AT_ONCE)).scalars().all():
        yield list(page)
        last = page[-1]


def _forgotten(days: int, now: datetime) -> Any:
    p, before = prospects.c, timestamp(now - timedelta(days=days))
    query = select(p.id).outerjoin(runs, runs.c.id == p.last_run_id).order_by(p.id)
    return query.where(func.coalesce(runs.c.opened_at, p.created_at) < before)


def count_old_documents(connection: Connection, days: int, now: datetime) -> int:
    """Count the shared documents that were fetched so many days ago; public filings name people too."""
    query = select(func.count()).where(documents.c.fetched_at < timestamp(now - timedelta(days=days)))
    return connection.execute(query).scalar_one()


def drop_old_documents(connection: Connection, days: int, now: datetime) -> int:
    """Drop those documents; whoever needs one fetches it again, at no cost."""
    old = documents.c.fetched_at < timestamp(now - timedelta(days=days))
    return connection.execute(delete(documents).where(old)).rowcount
