"""What was asked and what it cost, folded from the ledger's own rows."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, case, func, literal_column, select

from sluiceway.outcome import ChargeKind
from sluiceway.store.facts import ledger_horizon
from sluiceway.store.schema import attempts, batches, external_usage, runs, source_results, usage_hours


class Spend(msgspec.Struct):
    """Attempts by charge (one provider's, or another row's), and what the billed ones cost.

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


class By(StrEnum):
    """What calls can be told apart by."""

    PROVIDER = "provider"
    SOURCE = "source"
    TENANT = "tenant"
    USER = "user"
    BATCH = "batch"
    TRIGGER = "trigger"
    HOUR = "hour"


NOBODYS: Final = ""
"""The row of calls that have no such thing: shared fetches have no tenant, and calls from outside only a provider."""


def spend_by_provider(
    connection: Connection, *, since_day: str | None = None, batch_id: str | None = None
) -> dict[str, Spend]:
    """Return each provider's spend over the whole ledger, from a UTC day (`YYYY-MM-DD`) on, or for one batch."""
    return spend_by(connection, By.PROVIDER, since_day=since_day, batch_id=batch_id)


def spend_by(
    connection: Connection,
    by: By,
    *,
    since_day: str | None = None,
    until_day: str | None = None,
    batch_id: str | None = None,
) -> dict[str, Spend]:
    """Return the spend of the whole ledger, of the UTC days from `since_day` to `until_day`, or of one batch, in rows.

    Every call is in exactly one row, so the rows sum to the whole. An hour is written `2026-11-24T15Z`. Of sealed days
    only sums are left: their calls are in nobody's row where sums do not tell, and in no batch.
    """
    a, keys, horizon = attempts.c, _keys(by), ledger_horizon(connection)
    query = select(*keys, *_sums()).where(*_within(a.day, since_day, until_day)).group_by(*keys)
    if horizon is not None:
        query = query.where(a.day > horizon)
    if batch_id is not None:
        query = query.where(a.batch_id == batch_id)
    spends: dict[str, Spend] = {}
    for row in connection.execute(query):
        spends[_row_of(by, row[: len(keys)])] = Spend(*map(int, row[len(keys) :]))
    if batch_id is None and horizon is not None:
        _add_sealed(connection, spends, by, since_day, min(until_day or horizon, horizon))
    if batch_id is None:
        _add_external(connection, spends, by, since_day, until_day)
    return dict(sorted(spends.items(), key=lambda item: (item[0] == NOBODYS, item[0])))


def _sums() -> list[Any]:
    """Return the columns of a `Spend` that are summed from attempts."""
    a = attempts.c
    return [
        func.count(),
        *(func.sum(case((a.charge == kind, 1), else_=0)) for kind in ChargeKind),
        func.sum(case((a.finished_at.is_(None), 1), else_=0)),
        func.coalesce(func.sum(a.milli_credits), 0),
        func.coalesce(func.sum(a.usd_micros), 0),
        func.sum(case(((a.charge == ChargeKind.BILLED) & a.usd_micros.is_(None), 1), else_=0)),
    ]


def _within(day: Any, since_day: str | None, until_day: str | None) -> list[Any]:
    edges = [] if since_day is None else [day >= since_day]
    return edges if until_day is None else [*edges, day <= until_day]


def _keys(by: By) -> list[Any]:
    a = attempts.c
    if by is By.HOUR:
        return [a.day, a.hour]
    names = {By.TENANT: "tenant_id", By.USER: "user_id", By.BATCH: "batch_id"}
    return [_or_nobodys(a[names.get(by, by.value)])]


def _or_nobodys(column: Any) -> Any:
    # Written out, because PostgreSQL takes two parameters for two values and would not group by what is selected.
    return func.coalesce(column, literal_column("''"))


def _row_of(by: By, key: Sequence[Any]) -> str:
    return f"{key[0]}T{key[1]:02}Z" if by is By.HOUR else str(key[0])


_SEALED: Final = {
    By.PROVIDER: (usage_hours.c.provider,),
    By.SOURCE: (usage_hours.c.source,),
    By.TENANT: (usage_hours.c.tenant_id,),
    By.HOUR: (usage_hours.c.day, usage_hours.c.hour),
}
"""What sums still tell of calls that were dropped."""


def _add_sealed(
    connection: Connection, spends: dict[str, Spend], by: By, since_day: str | None, until_day: str
) -> None:
    """Add calls of sealed days, of which the sums are left."""
    u, keys = usage_hours.c, _SEALED.get(by, ())
    sums = [func.coalesce(func.sum(u[name]), 0) for name in _SUMMED]
    query = select(*keys, *sums).where(*_within(u.day, since_day, until_day)).group_by(*keys)
    for row in connection.execute(query):
        if not row[len(keys)]:
            continue
        spend = spends.setdefault(_row_of(by, row[: len(keys)]) if keys else NOBODYS, Spend())
        for name, value in zip(_SUMMED.values(), row[len(keys) :], strict=True):
            setattr(spend, name, getattr(spend, name) + int(value))


_SUMMED: Final = {
    "attempts": "attempts", "billed": "billed", "free": "free", "unknown": "unknown", "not_sent": "not_sent",
    "milli_credits": "credits", "usd_micros": "usd_micros", "unpriced": "unpriced",
}  # fmt: skip


def _add_external(
    connection: Connection, spends: dict[str, Spend], by: By, since_day: str | None, until_day: str | None
) -> None:
    """Add calls from outside, of which only provider, day and perhaps tenant are known."""
    e = external_usage.c
    known = {By.PROVIDER: e.provider, By.TENANT: _or_nobodys(e.tenant_id)}
    key = known.get(by, literal_column("''"))
    query = select(key, e.kind, func.sum(e.calls)).where(*_within(e.day, since_day, until_day))
    for name, kind, calls in connection.execute(query.group_by(e.kind, *([key] if by in known else []))):
        setattr(spends.setdefault(name, Spend()), kind, int(calls))


def batch_names(connection: Connection) -> dict[str, str]:
    """Return what every batch is called, by id."""
    return {row.id: row.name for row in connection.execute(select(batches.c.id, batches.c.name))}


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
