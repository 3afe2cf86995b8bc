"""What operators watch, read from the store in one go: sums that were made as calls ended, and nothing row by row.

Sums reach back to the first call; they outlast a restart, and dropping old calls does not lower them.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import Any, Final, NamedTuple

import msgspec
from sqlalchemy import ColumnElement, Connection, Table, case, func, select

from sluiceway.outcome import timestamp
from sluiceway.pipeline.gate import Cause
from sluiceway.store.schema import (
    alarms,
    attempts,
    batches,
    breakers,
    daily_totals,
    deliveries,
    duration_days,
    meter_days,
    outcome_days,
    provider_hours,
)
from sluiceway.usage.counter import PLATFORM, DailyTotal, daily_totals_since
from sluiceway.usage.on_redis import first_live_day
from sluiceway.usage.quota import Use, platform_uses


class Spent(msgspec.Struct, frozen=True):
    """Everybody's finished attempts at one source, by charge, and what the billed ones cost."""

    provider: str
    source: str
    billed: int
    free: int
    unknown: int
    not_sent: int
    milli_credits: int
    usd_micros: int
    unpriced: int


class Compared(msgspec.Struct, frozen=True):
    """One of a provider's own meters beside our attempts of today: what theirs lacks, and what only theirs has."""

    provider: str
    meter: str
    unit: str
    missing: int
    outside: int


class Measured(msgspec.Struct, frozen=True):
    """Everything that `/metrics` tells of the store. `totals` are the counters that Redis should show."""

    spent: list[Spent]
    durations: Mapping[str, Mapping[int, int]]
    results: list[tuple[str, str, int]]
    external: Mapping[tuple[str, str], int]
    batches: Mapping[str, int]
    open_attempts: Mapping[str, int]
    breakers: Mapping[tuple[str, str, str], int]
    quotas: list[Use]
    compared: list[Compared]
    alarms: Mapping[str, int]
    due: Mapping[str, int]
    given_up: Mapping[str, int]
    totals: list[DailyTotal]


CREDENTIALS: Final = ("platform", "tenants")
"""Whose credential a breaker is of."""


class Measures:
    """Reads what there is to watch, of one store, as often as it is asked for."""

    def __init__(self) -> None:
        self._spent = _Sums(provider_hours, ("provider", "source"), Spent.__struct_fields__[2:])
        self._durations = _Sums(duration_days, ("source", "bucket"), ("attempts",))
        self._results = _Sums(outcome_days, ("source", "status"), ("results",))

    def read(self, connection: Connection, now: datetime) -> Measured:
        """Read everything."""
        today, d = now.date(), deliveries.c
        durations: dict[str, dict[int, int]] = defaultdict(dict)
        for (source, bucket), (count,) in self._durations.read(connection, today).items():
            durations[source][bucket] = count
        spent = [Spent(*key, *sums) for key, sums in self._spent.read(connection, today).items()]
        results = [(*key, count) for key, (count,) in self._results.read(connection, today).items()]
        return Measured(
            spent=spent,
            durations=durations,
            results=results,
            external=_external(connection),
            batches=_batches(connection),
            open_attempts=_counts(connection, attempts.c.provider, attempts.c.finished_at.is_(None)),
            breakers=_breakers(connection, {each.provider for each in spent}),
            quotas=platform_uses(connection, timestamp(now)),
            compared=_compared(connection, today.isoformat()),
            alarms=_counts(connection, alarms.c.kind, alarms.c.resolved_at.is_(None)),
            due=_counts(connection, d.receiver, d.next_at.is_not(None)),
            given_up=_counts(connection, d.receiver, d.next_at.is_(None), d.delivered_at.is_(None)),
            totals=daily_totals_since(connection, first_live_day(now)),
        )


class _Settled(NamedTuple):
    """The sums of all UTC days before one, and when they were read, by the monotonic clock."""

    before: str
    read_at: float
    sums: Mapping[tuple[Any, ...], Sequence[int]]


class _Sums:
    """A table of sums, over all days. Those of days long over hardly change, so they are read now and then."""

    def __init__(self, table: Table, keys: Sequence[str], sums: Sequence[str]) -> None:
        self._day = table.c.day
        self._keys = [table.c[name] for name in keys]
        self._columns = [func.sum(table.c[name]) for name in sums]
        self._settled: _Settled | None = None

    def read(self, connection: Connection, today: date) -> dict[tuple[Any, ...], list[int]]:
        """Return the sums of all days by key, in the keys' order."""
        settled = self._settled
        if settled is None or time.monotonic() - settled.read_at > _READ_AGAIN_S:
            before = (today - _STILL_MOVES).isoformat()
            settled = self._settled = _Settled(before, time.monotonic(), self._read(connection, self._day < before))
        found = self._read(connection, self._day >= settled.before)
        for key, sums in settled.sums.items():
            found[key] = [one + other for one, other in zip(sums, found.get(key, [0] * len(sums)), strict=True)]
        return dict(sorted(found.items()))

    def _read(self, connection: Connection, which: ColumnElement[bool]) -> dict[tuple[Any, ...], list[int]]:
        width = len(self._keys)
        query = select(*self._keys, *self._columns).where(which).group_by(*self._keys)
        return {tuple(row[:width]): [int(value) for value in row[width:]] for row in connection.execute(query)}


_STILL_MOVES: Final = timedelta(days=1)
"""How far back calls may still be ending."""

_READ_AGAIN_S: Final = 600.0
"""Seconds after which the sums of earlier days are read again: what was of unknown charge may be known by then."""


def _counts(connection: Connection, what: Any, *which: Any) -> dict[str, int]:
    query = select(what, func.count()).where(*which).group_by(what)
    return {name: int(count) for name, count in connection.execute(query)}


def _external(connection: Connection) -> dict[tuple[str, str], int]:
    d = daily_totals.c
    query = select(d.provider, func.sum(d.tracked), func.sum(d.imported)).group_by(d.provider).order_by(d.provider)
    found: dict[tuple[str, str], int] = {}
    for provider, tracked, imported in connection.execute(query):
        found |= {(provider, "tracked"): int(tracked), (provider, "imported"): int(imported)}
    return found


def _batches(connection: Connection) -> dict[str, int]:
    b = batches.c
    state = case((b.cancelled_at.is_not(None), "cancelling"), (b.began_at.is_(None), "queued"), else_="running")
    found = _counts(connection, state, b.requested_at.is_not(None), b.finished_at.is_(None))
    return {"queued": 0, "running": 0, "cancelling": 0} | found


def _breakers(connection: Connection, called: Iterable[str]) -> dict[tuple[str, str, str], int]:
    """Count open breakers by provider, whose credential it is, and cause; every provider that was called is there."""
    b = breakers.c
    found: dict[tuple[str, str, str], int] = defaultdict(int)
    found |= {(provider, whose, cause): 0 for provider in called for whose in CREDENTIALS for cause in Cause}
    for provider, credential_id, cause, state in connection.execute(
        select(b.provider, b.credential_id, b.cause, b.state)
    ):
        found[provider, CREDENTIALS[credential_id != PLATFORM], cause] += state == "open"
    return found


def _compared(connection: Connection, today: str) -> list[Compared]:
    m = meter_days.c
    query = select(*(m[name] for name in Compared.__struct_fields__)).where(m.day == today)
    return [Compared(*row) for row in connection.execute(query.where(m.credential_id == PLATFORM))]
