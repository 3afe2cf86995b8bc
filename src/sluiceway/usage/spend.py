"""What was asked and what it cost, folded from the ledger's own rows."""

from __future__ import annotations

import msgspec
from sqlalchemy import Connection, case, func, select

from sluiceway.outcome import ChargeKind
from sluiceway.store.schema import attempts, external_usage, runs, source_results


class Spend(msgspec.Struct):
    """One provider's attempts by charge, and what the billed ones cost.

    `open` attempts were begun and have no charge yet. `credits` are milli-credits. `unpriced` counts billed attempts
    whose dollars are unknown; they are in no sum.
    """

    attempts: int = 0
    billed: int = 0
    free: int = 0
    unknown: int = 0
    not_sent: int = 0
    open: int = 0
    credits: int = 0
    usd_micros: int = 0
    unpriced: int = 0
    tracked: int = 0
    imported: int = 0


def spend_by_provider(
    connection: Connection, *, since_day: str | None = None, batch_id: str | None = None
) -> dict[str, Spend]:
    """Return each provider's spend over the whole ledger, from a UTC day (`YYYY-MM-DD`) on, or for one batch."""
    a = attempts.c
    kinds = [func.sum(case((a.charge == kind, 1), else_=0)) for kind in ChargeKind]
    query = select(
        a.provider,
        func.count(),
        *kinds,
        func.sum(case((a.finished_at.is_(None), 1), else_=0)),
        func.coalesce(func.sum(a.milli_credits), 0),
        func.coalesce(func.sum(a.usd_micros), 0),
        func.sum(case(((a.charge == ChargeKind.BILLED) & a.usd_micros.is_(None), 1), else_=0)),
    ).group_by(a.provider)
    if since_day is not None:
        query = query.where(a.day >= since_day)
    if batch_id is not None:
        query = query.where(a.batch_id == batch_id)
    spends = {provider: Spend(*sums) for provider, *sums in connection.execute(query.order_by(a.provider))}
    if batch_id is None:
        _add_external(connection, spends, since_day)
    return spends


def _add_external(connection: Connection, spends: dict[str, Spend], since_day: str | None) -> None:
    e = external_usage.c
    query = select(e.provider, e.kind, func.sum(e.calls)).group_by(e.provider, e.kind)
    if since_day is not None:
        query = query.where(e.day >= since_day)
    for provider, kind, calls in connection.execute(query):
        spend = spends.setdefault(provider, Spend())
        setattr(spend, kind, calls)


class Speed(msgspec.Struct, frozen=True):
    """How long a source's answers took, in microseconds: the middle one, and one in twenty took longer than `p95`."""

    median_us: int
    p95_us: int


def speed_by_source(connection: Connection, batch_id: str | None = None) -> dict[str, Speed]:
    """Return how fast each source answered; sources without an answered attempt are left out."""
    a = attempts.c
    query = select(a.source, a.latency_us).where(a.latency_us.is_not(None), a.http_status.is_not(None))
    if batch_id is not None:
        query = query.where(a.batch_id == batch_id)
    took: dict[str, list[int]] = {}
    for source, latency_us in connection.execute(query):
        took.setdefault(source, []).append(latency_us)
    return {source: _speed(sorted(values)) for source, values in sorted(took.items())}


def _speed(values: list[int]) -> Speed:
    return Speed(values[len(values) // 2], values[min(len(values) - 1, len(values) * 95 // 100)])


def outcomes_by_source(connection: Connection, batch_id: str | None = None) -> dict[str, dict[str, int]]:
    """Count source results by source and status: all of them, or the last of each prospect of one batch."""
    r = source_results.c
    query = select(r.source, r.status, func.count()).group_by(r.source, r.status)
    if batch_id is not None:
        last = select(func.max(r.id)).join(runs, runs.c.id == r.run_id).where(runs.c.batch_id == batch_id)
        query = query.where(r.id.in_(last.group_by(r.prospect_id, r.source)))
    counts: dict[str, dict[str, int]] = {}
    for source, status, count in connection.execute(query):
        counts.setdefault(source, {})[status] = count
    return counts
