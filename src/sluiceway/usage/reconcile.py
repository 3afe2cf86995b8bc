"""Hold every sum against the ledger's rows, and the rows against the providers' own meters; and mend the sums.

The ledger is the truth: a rollup, a daily total or a counter that differs is rebuilt from it, never the other way
round. A provider's meter cannot be mended, so a difference there is only shown.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, case, func, select, update

from sluiceway import activity, rollups
from sluiceway.outcome import ChargeKind
from sluiceway.rollups import KEY, SUMS, folded, rebuild
from sluiceway.store.bulk import Upsert
from sluiceway.store.facts import fact, ledger_horizon, set_fact
from sluiceway.store.schema import attempts, daily_totals, external_usage, usage_hours
from sluiceway.usage.counter import PLATFORM, DailyTotal, usage_key
from sluiceway.usage.on_redis import first_live_day
from sluiceway.usage.outside import MeteredDay, keep_days, metered_days

ReadCounters = Callable[[Sequence[str]], Mapping[str, int | None]]
"""Given counters' names, returns the values of those that exist; `None` for one that is not a whole number."""

Key = tuple[str, str]
"""A provider and a UTC day."""

_FIGURES: Final = ("billed", "tracked", "imported", "milli_credits", "usd_micros")


class Drift(msgspec.Struct, frozen=True):
    """One figure that is not what it should be. `found` is `None` where there is none at all.

    `where` is `rollup`, `daily total`, `counter` or `meter`. `foreign` marks a counter that we never wrote: it is not
    ours to change, and `sluiceway usage adopt` books it.
    """

    where: str
    figure: str
    should_be: int
    found: int | None
    foreign: bool = False

    @property
    def mendable(self) -> bool:
        """Whether the ledger can put it right."""
        return self.where != "meter" and not self.foreign


class Line(msgspec.Struct):
    """One provider's UTC day, the same count as every store has it: billed (platform) + tracked + imported calls.

    `total`, `rollup` and `counter` are `None` where there is none, or where it is not compared. Of a sealed day the
    ledger's rows are gone, so only its counter is compared. `open` attempts have no charge yet, `unknown` ones may
    have been billed, and those `near_midnight` (60 s) may be on the day before or after in the provider's books.
    """

    provider: str
    day: str
    sealed: bool
    ledger: int = 0
    total: int | None = None
    rollup: int | None = None
    counter: int | None = None
    unknown: int = 0
    open: int = 0
    near_midnight: int = 0
    meters: list[MeteredDay] = []
    drifts: list[Drift] = []


class Reconciliation(msgspec.Struct, frozen=True):
    """All lines, oldest first, and the sums behind other figures that are not what their rows add up to.

    `counters_compared` tells whether there is a Redis at all.
    """

    since: str
    horizon: str | None
    counters_compared: bool
    lines: list[Line]
    figures: list[rollups.Drift] = []

    @property
    def drifting(self) -> list[Line]:
        """The lines on which something differs."""
        return [line for line in self.lines if line.drifts]

    @property
    def drifts(self) -> bool:
        """Whether anything differs."""
        return bool(self.drifting or self.figures)

    @property
    def outside(self) -> bool:
        """Whether a provider counted what we did not send."""
        return any(metered.outside for line in self.lines for metered in line.meters)


def reconcile(
    connection: Connection, now: datetime, since: str = "", counters: ReadCounters | None = None
) -> Reconciliation:
    """Compare everything from a UTC day (`YYYY-MM-DD`) on; `counters` reads Redis, `None` where there is none.

    `now` tells which counters have not expired. The connection must see one consistent state, or calls that finish
    meanwhile look like drift.
    """
    sheet = _Sheet(connection, since)
    sheet.compare_totals()
    sheet.compare_rollups()
    if counters is not None:
        sheet.compare_counters(counters, now)
    for metered in metered_days(connection, _first_unsealed(since, sheet.horizon)):
        sheet.compare_meter(metered)
    lines = sorted(sheet.lines.values(), key=lambda line: (line.day, line.provider))
    figures = [*rollups.drifts(connection, since), *activity.drifts(connection, since)]
    return Reconciliation(since, sheet.horizon, counters is not None, lines, figures)


def _first_unsealed(since: str, horizon: str | None) -> str:
    """Return the first day from `since` on that meters can be compared on: its calls and those before it are there."""
    return max(since, (date.fromisoformat(horizon) + timedelta(days=2)).isoformat()) if horizon else since


class _Sheet:
    """What the ledger's rows say of every provider and day, and the lines that other stores are compared on."""

    def __init__(self, connection: Connection, since: str) -> None:
        self._connection = connection
        self._since = since
        self.horizon = ledger_horizon(connection)
        self.lines: dict[Key, Line] = {}
        self.totals = {(t.provider, t.day): t for t in _totals(connection, since)}
        self.held = _held(connection, attempts.c.day >= since, external_usage.c.day >= since)
        for key, figures in self.held.items():
            line = self.line(key)
            line.ledger, line.unknown, line.open = _calls(figures), figures["unknown"], figures["open"]
            line.near_midnight = figures["near_midnight"]

    def line(self, key: Key) -> Line:
        if key not in self.lines:
            self.lines[key] = Line(*key, sealed=self.horizon is not None and key[1] <= self.horizon)
        return self.lines[key]

    def compare_totals(self) -> None:
        for key in sorted(self.held.keys() | self.totals.keys()):
            line, total = self.line(key), self.totals.get(key)
            line.total = total.calls if total else None
            if not line.sealed:
                line.drifts.extend(_total_drifts(self.held.get(key, _NOTHING), total))

    def compare_rollups(self) -> None:
        """Compare hour by hour, tenant by tenant: two errors that cancel out over a day are two errors."""
        u = usage_hours.c
        kept = select(*(u[name] for name in (*KEY, *SUMS))).where(u.day >= self._since)
        found = _by_hour(self._connection.execute(kept))
        right = _by_hour(self._connection.execute(folded().where(attempts.c.day >= self._since)))
        for line in self.lines.values():
            line.rollup = None if line.sealed else line.ledger
        for hour in sorted(found.keys() | right.keys()):
            self._compare_hour(hour, right.get(hour), found.get(hour))

    def _compare_hour(self, hour: _Hour, right: Sequence[int] | None, found: Sequence[int] | None) -> None:
        line = self.line((hour[2], hour[0]))
        if line.sealed or right == found:
            return
        nothing = (0,) * len(SUMS)
        for name, should_be, value in zip(SUMS, right or nothing, found or nothing, strict=True):
            if should_be != value:
                figure = f"{name} at {hour[1]:02}Z, {hour[3]}, {hour[4] or 'shared'}"
                line.drifts.append(Drift("rollup", figure, should_be, value if found else None))
                if name == "billed":
                    line.rollup = (line.rollup or 0) + value - should_be

    def compare_counters(self, read: ReadCounters, now: datetime) -> None:
        """Compare every counter that Redis has to have still, and those it should not have."""
        days = list(_days(max(self._since, first_live_day(now)), now.date()))
        keys = [(provider, day) for provider in sorted({provider for provider, _ in self.lines}) for day in days]
        values = read([usage_key(*key) for key in keys])
        for key in keys:
            name, total = usage_key(*key), self.totals.get(key)
            should_be = total.calls if total else 0
            if name in values or should_be:
                line = self.line(key)
                line.counter = values.get(name)
                if line.counter != should_be:
                    line.drifts.append(Drift("counter", "calls", should_be, line.counter, foreign=total is None))

    def compare_meter(self, metered: MeteredDay) -> None:
        line = self.line((metered.provider, metered.day))
        line.meters.append(metered)
        if metered.missing:
            line.drifts.append(Drift("meter", f"{metered.unit} of {metered.meter}", metered.ours_least, metered.theirs))


_Hour = tuple[str, int, str, str, str]
_COUNTED: Final = ("billed", "milli_credits", "usd_micros", "unknown", "open", "near_midnight")
_NOTHING: Final = dict.fromkeys((*_FIGURES, *_COUNTED), 0)


def _calls(figures: Mapping[str, int]) -> int:
    return figures["billed"] + figures["tracked"] + figures["imported"]


def _days(first: str, last: date) -> Iterator[str]:
    day = date.fromisoformat(first)
    while day <= last:
        yield day.isoformat()
        day += timedelta(days=1)


def _total_drifts(held: Mapping[str, int], total: DailyTotal | None) -> Iterator[Drift]:
    for figure in _FIGURES:
        found = getattr(total, figure) if total else None
        if (found or 0) != held[figure]:
            yield Drift("daily total", figure, held[figure], found)


def _by_hour(rows: Iterable[Any]) -> dict[_Hour, tuple[int, ...]]:
    found = {tuple(row[: len(KEY)]): tuple(int(value or 0) for value in row[len(KEY) :]) for row in rows}
    return {key: sums for key, sums in found.items() if any(sums)}


def _totals(connection: Connection, since: str) -> list[DailyTotal]:
    columns = [daily_totals.c[name] for name in DailyTotal.__struct_fields__]
    return [DailyTotal(*row) for row in connection.execute(select(*columns).where(daily_totals.c.day >= since))]


def _held(connection: Connection, which_attempts: Any, which_external: Any) -> dict[Key, dict[str, int]]:
    """Return what the ledger's rows amount to by provider and day: what daily totals count, and what is unsure."""
    held: dict[Key, dict[str, int]] = {}
    for provider, day, *sums in connection.execute(_counted().where(which_attempts)):
        held[provider, day] = {**_NOTHING, **dict(zip(_COUNTED, map(int, sums), strict=True))}
    e = external_usage.c
    query = select(e.provider, e.day, e.kind, func.sum(e.calls)).where(which_external)
    for provider, day, kind, calls in connection.execute(query.group_by(e.provider, e.day, e.kind)):
        held.setdefault((provider, day), dict(_NOTHING))[kind] = int(calls)
    return held


def _counted() -> Any:
    """Return the query that counts billed attempts on the platform's credentials, as the ledger's fold does."""
    a = attempts.c
    counted = (a.charge == ChargeKind.BILLED) & (a.credential_id == PLATFORM)
    return select(
        a.provider,
        a.day,
        func.sum(case((counted, 1), else_=0)),
        func.sum(case((counted, func.coalesce(a.milli_credits, 0)), else_=0)),
        func.sum(case((counted, func.coalesce(a.usd_micros, 0)), else_=0)),
        func.sum(case((a.charge == ChargeKind.UNKNOWN, 1), else_=0)),
        func.sum(case((a.finished_at.is_(None), 1), else_=0)),
        func.sum(case((func.substr(a.begun_at, 12, 5).in_(("23:59", "00:00")), 1), else_=0)),
    ).group_by(a.provider, a.day)


def counters_in(client: Any, prefix: str = "") -> ReadCounters:
    """Return a function that reads counters from Redis; `client` answers in text."""

    def read(names: Sequence[str]) -> dict[str, int | None]:
        found: dict[str, int | None] = {}
        for start in range(0, len(names), _AT_ONCE):
            some = names[start : start + _AT_ONCE]
            values = client.mget([prefix + name for name in some])
            found |= {name: _count(value) for name, value in zip(some, values, strict=True) if value is not None}
        return found

    return read


_AT_ONCE: Final = 500


def _count(value: str) -> int | None:
    return int(value) if value.isascii() and value.isdigit() else None


# Mending.

_FOLDED: Final = "figures"
_FIGURES_VERSION: Final = "1"
"""Raised when a sum is added or made otherwise, so that stores of an earlier version fold theirs anew."""


def fold_if_never(connection: Connection) -> bool:
    """Fold every sum anew where an earlier version has not; returns whether that was so. Large stores take a while."""
    if fact(connection, _FOLDED) == _FIGURES_VERSION:
        return False
    rollups.rebuild_all(connection)
    activity.rebuild(connection)
    set_fact(connection, _FOLDED, _FIGURES_VERSION)
    return True


class Change(msgspec.Struct, frozen=True):
    """One figure that was mended."""

    provider: str
    day: str
    where: str
    figure: str
    was: int | None
    now: int


def fix(connection: Connection, found: Reconciliation) -> list[Change]:
    """Mend, in the open transaction, what drifted, and return it.

    Rollups and daily totals of days after the ledger horizon are folded anew. Every daily total that is touched, or
    whose counter is wrong, has a higher version afterwards, so that it is published again.
    """
    mendable = [(line, drift) for line in found.drifting for drift in line.drifts if drift.mendable]
    days = {line.day for line, drift in mendable if drift.where == "rollup"} | {drift.day for drift in found.figures}
    rebuild(connection, sorted(days - {""}))
    keep_days(connection, [metered for line in found.lines for metered in line.meters])
    if found.figures:
        rollups.rebuild_groups(connection)
        activity.rebuild(connection)
    of_totals = {(line.provider, line.day): line.sealed for line, drift in mendable if drift.where != "rollup"}
    _raise_versions(connection, of_totals)
    rebuild_totals(connection, [key for key, sealed in of_totals.items() if not sealed])
    changes = [Change(line.provider, line.day, d.where, d.figure, d.found, d.should_be) for line, d in mendable]
    return changes + [_changed(drift) for drift in found.figures]


def _changed(drift: rollups.Drift) -> Change:
    return Change("", drift.day, drift.table, f"{drift.figure} of {drift.key}", drift.found, drift.should_be)


def _raise_versions(connection: Connection, keys: Iterable[Key]) -> None:
    """Raise versions before anything is summed: whoever is adding to these rows has finished then, or waits for us."""
    for key in sorted(keys):
        row = daily_totals.c.name == usage_key(*key)
        connection.execute(update(daily_totals).where(row).values(version=daily_totals.c.version + 1))


_SET_TOTAL = Upsert(
    daily_totals,
    ("name", "provider", "day", *_FIGURES, "version"),
    ("name",),
    ", ".join(f"{figure} = excluded.{figure}" for figure in _FIGURES),
)


def rebuild_totals(connection: Connection, keys: Iterable[Key]) -> None:
    """Fold the daily totals of some providers and days anew; versions stay, and a new total has version 1.

    What was tracked or imported is summed from its own rows and so stays what it is.
    """
    for provider, day in sorted(keys):
        a, e = attempts.c, external_usage.c
        which = ((of.provider == provider) & (of.day == day) for of in (a, e))
        figures = _held(connection, *which).get((provider, day), _NOTHING)
        row = [usage_key(provider, day), provider, day, *(figures[name] for name in _FIGURES), 1]
        _SET_TOTAL.run(connection, [row])
