"""What one tenant used, by provider and day: its own credentials' part apart, and what other code reported."""

from __future__ import annotations

from datetime import datetime

import msgspec
from sqlalchemy import Connection, func, literal_column, select

from sluiceway.admin.answer import About, Window, about, last_days
from sluiceway.admin.usage import By, Counted, usage
from sluiceway.outcome import ChargeKind, timestamp
from sluiceway.store.facts import ledger_horizon
from sluiceway.store.schema import attempts, external_usage, provider_credentials
from sluiceway.tenancy.scope import Scope
from sluiceway.usage.counter import PLATFORM
from sluiceway.usage.quota import Quota, QuotaClock, Unit, uses


class OwnCalls(msgspec.Struct, frozen=True):
    """Billed calls with the tenant's own credentials, and what they cost; `unpriced` ones are in no sum."""

    billed: int
    milli_credits: int
    usd_micros: int
    unpriced: int


class UsedOfProvider(msgspec.Struct, frozen=True):
    """One provider on one UTC day. `reported` are calls that other code reported, which are not in `counted`.

    `own` is the part of `counted` with the tenant's own credentials, `None` where single calls were dropped by age.
    """

    provider: str
    day: str
    counted: Counted
    own: OwnCalls | None
    reported: int


class TenantUsage(msgspec.Struct, frozen=True):
    """The answer: every provider and day with calls, and the sum of all of them."""

    about: About
    rows: list[UsedOfProvider]
    total: Counted
    reported: int
    how: str = (
        "attempts by the UTC day they were admitted in; own: the billed ones among them that were asked with the "
        "tenant's own credentials, which no limit here counts; reported: what POST /api/v1/usage booked"
    )


def tenant_usage(connection: Connection, scope: Scope, now: datetime, days: int = 30) -> TenantUsage:
    """Return what the scope's tenant used on the last UTC days, today included."""
    window = last_days(now, days)
    used = usage(connection, scope, now, window, (By.DAY, By.PROVIDER), limit=10_000)
    counted = {row.keys: row.counted for row in used.rows}
    own, reported = _own(connection, scope, window), _reported(connection, scope, window)
    horizon = ledger_horizon(connection) or ""
    rows = [
        UsedOfProvider(
            provider,
            day,
            counted.get((day, provider), Counted()),
            own.get((day, provider), OwnCalls(0, 0, 0, 0)) if day > horizon else None,
            reported.get((day, provider), 0),
        )
        for day, provider in sorted(counted.keys() | reported.keys(), reverse=True)
    ]
    source = about(window, now, "tenant_days", "attempts", "external_usage")
    return TenantUsage(source, rows, used.total, sum(reported.values()))


def _own(connection: Connection, scope: Scope, window: Window) -> dict[tuple[str, ...], OwnCalls]:
    a, c = scope.of(attempts).c, scope.of(provider_credentials).c
    providers = list(connection.execute(select(c.provider).distinct()).scalars())  # by which the index is found
    if not providers:
        return {}
    billed = a.charge == ChargeKind.BILLED
    own = a.credential_id != literal_column(f"'{PLATFORM}'")  # no parameter, or SQLite does not see its index
    sums = (
        func.count(),
        func.coalesce(func.sum(a.milli_credits), 0),
        func.coalesce(func.sum(a.usd_micros), 0),
        func.count().filter(a.usd_micros.is_(None)),
    )
    query = select(a.day, a.provider, *sums).where(a.provider.in_(providers), own, billed)
    query = query.where(a.day >= window.since, a.day <= window.until)
    found = connection.execute(query.group_by(a.day, a.provider))
    return {(day, provider): OwnCalls(*map(int, sums)) for day, provider, *sums in found}


def _reported(connection: Connection, scope: Scope, window: Window) -> dict[tuple[str, ...], int]:
    e = scope.of(external_usage).c
    query = select(e.day, e.provider, func.sum(e.calls)).where(e.day >= window.since, e.day <= window.until)
    return {
        (day, provider): int(calls) for day, provider, calls in connection.execute(query.group_by(e.day, e.provider))
    }


# The limits that hold.


class LimitThatHolds(msgspec.Struct, frozen=True):
    """One limit in its present window, in requests, milli-credits or micro-dollars.

    One that is `shared` holds for everybody together: whether it is used up is said, but not by how much, which is
    others' business; `used` and `left` are then `None`.
    """

    provider: str
    unit: Unit
    clock: QuotaClock
    shown: str
    hard: bool
    shared: bool
    amount: int
    used: int | None
    left: int | None
    used_up: bool
    opens_at: str
    closes_at: str


class LimitsThatHold(msgspec.Struct, frozen=True):
    """The answer. `own` are providers asked with the tenant's own credentials: no limit here holds for those."""

    about: About
    limits: list[LimitThatHolds]
    own: list[str]
    how: str = "what admission keeps, call by call; reserved for calls whose price is not known yet counts as used"


def limits_that_hold(connection: Connection, scope: Scope, tenant_id: str, now: datetime) -> LimitsThatHold:
    """Return the limits that hold for a tenant's calls, and what is left of its own."""
    c = scope.of(provider_credentials).c
    query = select(c.provider).where(c.tenant_id == tenant_id, c.revoked_at.is_(None)).order_by(c.provider)
    own = list(connection.execute(query).scalars())
    limits = [
        _holding(use.quota, use.used, use.left, use.window.opens_at, use.window.closes_at)
        for use in uses(connection, timestamp(now))
        if use.quota.tenant_id in (None, tenant_id) and use.quota.provider not in own
    ]
    return LimitsThatHold(about(last_days(now, 1), now, "limit_windows", "quotas"), limits, own)


def _holding(quota: Quota, used: int, left: int, opens_at: str, closes_at: str) -> LimitThatHolds:
    shared = quota.tenant_id is None
    return LimitThatHolds(
        quota.provider, quota.unit, quota.clock, quota.shown(), quota.hard, shared, quota.amount,
        None if shared else used, None if shared else left, left == 0, opens_at, closes_at,
    )  # fmt: skip
