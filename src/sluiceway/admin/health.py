"""How each source is doing: how its results end, how long its answers take, and whether it is asked at all."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, FromClause, func, or_, select

from sluiceway.admin.answer import About, Figure, Window, about, last_days, rate_figures
from sluiceway.outcome import rates
from sluiceway.rollups.durations import BOUNDS_US, quantile_us
from sluiceway.store.schema import (
    breakers,
    duration_days,
    outcome_days,
    provider_credentials,
    tenant_duration_days,
    tenant_outcome_days,
)
from sluiceway.tenancy.scope import Scope
from sluiceway.usage.counter import PLATFORM

_EVERY_DAY: Final = ""
_NOBODY: Final[Mapping[str, str]] = {}


class SourceHealth(msgspec.Struct, frozen=True):
    """One source on one UTC day, or over all (`day` is `None`): results by status, and how long attempts took.

    `p50_us` and `p95_us` are bounds of buckets, in microseconds: half, and 19 of 20, attempts took at most so long.
    `breaker` is as it stands now for the platform's credential; of days, and of providers that are not known, `None`.
    """

    day: str | None
    source: str
    outcomes: dict[str, int]
    success: Figure
    hit: Figure
    attempts: int
    p50_us: Figure
    p95_us: Figure
    breaker: str | None = None


class Breaker(msgspec.Struct, frozen=True):
    """Whether a provider is asked with a credential, since when, and why not."""

    provider: str
    credential_id: str
    state: str
    cause: str
    reason: str
    changed_at: str
    probe_at: str | None


class Health(msgspec.Struct, frozen=True):
    """The answer: sources over all days, each day of each source, and the breakers there are."""

    about: About
    sources: list[SourceHealth]
    days: list[SourceHealth]
    breakers: list[Breaker]
    how: str = (
        "results by the day they were closed, attempts by the day they were admitted; durations from fixed buckets, "
        "each 19 % longer than the one before; a provider without a breaker has not been in trouble; how breakers "
        "stood on earlier days is not kept, but results that met an open one are circuit_open"
    )


def health(
    connection: Connection, scope: Scope, now: datetime, days: int = 14, providers: Mapping[str, str] = _NOBODY
) -> Health:
    """Return how every source did on the last UTC days, for everybody or for one tenant.

    `providers` says, by source, whose breaker is the source's; a source in it is shown even if it did nothing.
    """
    window = last_days(now, days)
    of_all = scope.tenant_id is None
    results, took = (outcome_days, duration_days) if of_all else _of_tenant(scope)
    outcomes = _sums(connection, results, "status", "results", window)
    durations = _sums(connection, took, "bucket", "attempts", window)
    sources = sorted({key[1] for key in outcomes.keys() | durations.keys()} | providers.keys())
    each = [
        _health(day, source, outcomes.get((day, source), {}), durations.get((day, source), {}))
        for day in window.days()
        for source in sources
        if (day, source) in outcomes or (day, source) in durations
    ]
    found = _breakers(connection, scope)
    stands = _by_source(found, providers)
    whole = [
        msgspec.structs.replace(
            _health(None, source, outcomes.get((_EVERY_DAY, source), {}), durations.get((_EVERY_DAY, source), {})),
            breaker=stands.get(source),
        )
        for source in sources
    ]
    tables = (("" if of_all else "tenant_") + name for name in ("outcome_days", "duration_days"))
    return Health(about(window, now, *tables, "breakers"), whole, each, found)


def _health(day: str | None, source: str, outcomes: Mapping[str, int], durations: Mapping[int, int]) -> SourceHealth:
    return SourceHealth(
        day, source, dict(sorted(outcomes.items())), *rate_figures(rates(outcomes)), sum(durations.values()),
        _quantile(durations, 0.5), _quantile(durations, 0.95),
    )  # fmt: skip


def _quantile(durations: Mapping[int, int], share: float) -> Figure:
    found = quantile_us(durations, share)
    if found is not None:
        return Figure(found)
    return Figure(None, f"longer than {BOUNDS_US[-1] / 1e6:.0f} s" if any(durations.values()) else "no attempt")


_Sums = dict[tuple[str, str], Counter[Any]]


def _of_tenant(scope: Scope) -> tuple[FromClause, FromClause]:
    return scope.of(tenant_outcome_days), scope.of(tenant_duration_days)


def _sums(connection: Connection, table: FromClause, kind: str, count: str, window: Window) -> _Sums:
    """Read sums by day and source, and by source alone."""
    t, what = table.c, table.c[kind]
    query = select(t.day, t.source, what, func.sum(t[count])).where(t.day >= window.since, t.day <= window.until)
    found: _Sums = defaultdict(Counter)
    for day, source, value, number in connection.execute(query.group_by(t.day, t.source, what)):
        if number:
            found[day, source][value] += int(number)
            found[_EVERY_DAY, source][value] += int(number)
    return found


def _breakers(connection: Connection, scope: Scope) -> list[Breaker]:
    """Return the breakers there are; in a tenant's scope, the platform's and those of the tenant's own credentials."""
    b = breakers.c
    query = select(*(b[name] for name in Breaker.__struct_fields__)).order_by(b.provider, b.credential_id)
    if scope.tenant_id is not None:
        own = select(scope.of(provider_credentials).c.id)
        query = query.where(or_(b.credential_id == PLATFORM, b.credential_id.in_(own)))
    return [Breaker(*row) for row in connection.execute(query)]


def _by_source(found: Iterable[Breaker], providers: Mapping[str, str]) -> dict[str, str]:
    states = {one.provider: one.state for one in found if one.credential_id == PLATFORM}
    return {source: states.get(provider, "closed") for source, provider in providers.items()}
