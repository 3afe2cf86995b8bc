"""What was asked and what it cost, told apart by any two things; and the attempts behind any figure.

Which sums are read depends on what is asked for: those without tenants are few however many tenants there are, those
by hour are many.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Any, Final, NamedTuple

import msgspec
from sqlalchemy import Connection, FromClause, and_, func, literal_column, or_, select

from sluiceway.admin.answer import About, Window, about
from sluiceway.errors import BadInput
from sluiceway.outcome import ChargeKind
from sluiceway.store.facts import ledger_horizon
from sluiceway.store.schema import attempts as every_attempt
from sluiceway.store.schema import daily_totals, provider_hours, tenant_days, usage_days, usage_hours
from sluiceway.tenancy.scope import Scope

OPEN: Final = "open"
"""The charge of an attempt that has none yet."""

_MOST_ROWS: Final = 1000


class By(StrEnum):
    """What calls can be told apart by. An hour is written `2026-11-24T15Z`."""

    HOUR = "hour"
    DAY = "day"
    PROVIDER = "provider"
    TENANT = "tenant"
    USER = "user"
    KEY = "key"
    BATCH = "batch"
    TRIGGER = "trigger"
    CHARGE = "charge"


_COLUMN: Final = {
    By.TENANT: "tenant_id",
    By.USER: "user_id",
    By.KEY: "api_key_id",
    By.BATCH: "batch_id",
}
_SUMMED: Final = ("attempts", "billed", "free", "unknown", "not_sent", "milli_credits", "usd_micros", "unpriced")


class Counted(msgspec.Struct, frozen=True, gc=False):
    """Attempts by charge, and what the billed ones cost in milli-credits and micro-dollars.

    `unpriced` are billed ones whose dollars are unknown; they are in no sum.
    """

    attempts: int = 0
    billed: int = 0
    free: int = 0
    unknown: int = 0
    not_sent: int = 0
    milli_credits: int = 0
    usd_micros: int = 0
    unpriced: int = 0
    open: int = 0

    def plus(self, other: Counted) -> Counted:
        """Return both together."""
        names = self.__struct_fields__
        return Counted(*(getattr(self, name) + getattr(other, name) for name in names))

    def only(self, charge: str) -> Counted:
        """Return what of it has one charge; only billed calls cost anything."""
        count = getattr(self, charge)
        part = {charge: count, "attempts": count}
        if charge == ChargeKind.BILLED:
            part |= {name: getattr(self, name) for name in ("milli_credits", "usd_micros", "unpriced")}
        return Counted(**part)


class UsageRow(msgspec.Struct, frozen=True, gc=False):
    """One row: its keys, in the order asked for (empty for nobody's), and what is counted in it."""

    keys: tuple[str, ...]
    counted: Counted


class Usage(msgspec.Struct, frozen=True):
    """The answer. `total` is of all rows, also those behind `next`, the keys of the last row given.

    `from_outside` are calls tracked or imported, of which only provider and day are known; they are in no row.
    """

    about: About
    group_by: tuple[By, ...]
    rows: list[UsageRow]
    total: Counted
    next: tuple[str, ...] | None
    from_outside: int
    how: str = "attempts by the UTC day and hour they were admitted in; every attempt is in exactly one row"


class Which(msgspec.Struct, frozen=True):
    """Which attempts an answer is about; what is `None` is not looked at, empty is nobody's."""

    provider: str | None = None
    tenant: str | None = None
    user: str | None = None
    key: str | None = None
    batch: str | None = None
    trigger: str | None = None
    charge: str | None = None

    def given(self) -> dict[By, str]:
        """Return what was given."""
        return {By(name): value for name, value in msgspec.structs.asdict(self).items() if value is not None}


NO_MATTER: Final = Which()


class _Kept(NamedTuple):
    """Sums that can answer: what they tell apart, and over how many days they are few enough to be read."""

    name: str
    read: Callable[[Scope], FromClause]
    tells: frozenset[By]
    most_days: int


_KEPT: Final = (
    _Kept("provider_hours", lambda scope: provider_hours, frozenset({By.DAY, By.HOUR, By.PROVIDER, By.TRIGGER}), 400),
    _Kept("tenant_days", lambda scope: scope.of(tenant_days), frozenset({By.DAY, By.PROVIDER, By.TENANT}), 400),
    _Kept("usage_days", lambda scope: scope.of(usage_days), frozenset(By) - {By.HOUR}, 400),
    _Kept("usage_hours", lambda scope: scope.of(usage_hours), frozenset({By.DAY, By.HOUR, By.PROVIDER, By.TENANT}), 7),
    _Kept("attempts", lambda scope: scope.of(every_attempt), frozenset(By), 2),
)


def usage(
    connection: Connection,
    scope: Scope,
    now: datetime,
    window: Window,
    group_by: Sequence[By] = (By.PROVIDER,),
    which: Which = NO_MATTER,
    *,
    after: tuple[str, ...] | None = None,
    limit: int = _MOST_ROWS,
) -> Usage:
    """Return what was asked on some UTC days, by one or two things, in the order of their names.

    `after` is the `next` of an answer before. Raises `BadInput` for another number of things, the same one twice, or
    more days than can be told apart by the hour.
    """
    _check(group_by, limit)
    within = {By.TENANT} if scope.tenant_id is not None else set()
    kept = _kept_for({*group_by, *which.given(), *within}, window)
    _check_there(connection, kept, window)
    rows = _rows(connection, scope, kept, window, group_by, which)
    total = Counted()
    for row in rows:
        total = total.plus(row.counted)
    page = [row for row in rows if after is None or row.keys > after]
    more = page[limit - 1].keys if len(page) > limit else None
    return Usage(
        about(window, now, kept.name, "attempts", "daily_totals"),
        tuple(group_by),
        page[:limit],
        total,
        more,
        _from_outside(connection, window, which.provider) if scope.tenant_id is None else 0,
    )


def _check(group_by: Sequence[By], limit: int) -> None:
    if not 1 <= len(group_by) <= 2 or len(set(group_by)) != len(group_by):
        raise BadInput(f"usage is told apart by one or two of {', '.join(By)}")
    if not 1 <= limit <= 10 * _MOST_ROWS:
        raise BadInput(f"an answer has 1 to {10 * _MOST_ROWS} rows")


def _kept_for(asked: set[By], window: Window) -> _Kept:
    asked = asked - {By.CHARGE}
    able = [kept for kept in _KEPT if asked <= kept.tells]
    fitting = [kept for kept in able if len(window.days()) <= kept.most_days]
    if not fitting:
        most = max(kept.most_days for kept in able)
        raise BadInput(f"{' and '.join(sorted(asked))} can be told apart over at most {most} days")
    return fitting[0]


def _check_there(connection: Connection, kept: _Kept, window: Window) -> None:
    horizon = ledger_horizon(connection)
    if kept.name == "attempts" and horizon is not None and window.since <= horizon:
        raise BadInput(f"single calls up to {horizon} were dropped by age: what their sums do not tell is not known")


def _rows(
    connection: Connection, scope: Scope, kept: _Kept, window: Window, group_by: Sequence[By], which: Which
) -> list[UsageRow]:
    told = [by for by in group_by if by is not By.CHARGE]
    counted: dict[tuple[str, ...], Counted] = {}
    if which.charge != OPEN:
        for keys, sums in _finished(connection, scope, kept, window, told, which):
            counted[keys] = Counted(*sums)
    if which.charge in (None, OPEN):
        for keys, count in _open(connection, scope, window, told, which):
            counted[keys] = counted.get(keys, Counted()).plus(Counted(attempts=count, open=count))
    return sorted(_by_charge(counted, group_by, which.charge), key=lambda row: row.keys)


def _by_charge(
    counted: Mapping[tuple[str, ...], Counted], group_by: Sequence[By], charge: str | None
) -> Iterator[UsageRow]:
    """Yield the rows as they were asked for: told apart by charge, of one charge alone, or as they are."""
    if By.CHARGE not in group_by:
        for keys, whole in counted.items():
            of_charge = whole.only(charge) if charge else whole
            if of_charge.attempts:
                yield UsageRow(keys, of_charge)
        return
    place = list(group_by).index(By.CHARGE)
    for keys, whole in counted.items():
        for kind in (charge,) if charge else (*ChargeKind, OPEN):
            of_kind = whole.only(str(kind))
            if of_kind.attempts:
                yield UsageRow((*keys[:place], str(kind), *keys[place:]), of_kind)


def _finished(
    connection: Connection, scope: Scope, kept: _Kept, window: Window, told: Sequence[By], which: Which
) -> Iterator[tuple[tuple[str, ...], list[int]]]:
    table, of_attempts = kept.read(scope), kept.name == "attempts"
    keys = [_key(table, by) for by in told]
    columns = [column for key in keys for column in key]
    sums = [_sum_of_attempts(table, name) if of_attempts else func.sum(table.c[name]) for name in _SUMMED]
    query = select(*columns, *sums).where(*_where(table, window, which))
    if of_attempts:
        query = query.where(table.c.finished_at.is_not(None))
    for row in connection.execute(query.group_by(*columns) if columns else query):
        values = [int(value or 0) for value in row[len(columns) :]]
        if values[0]:
            yield _shown(told, row), values


def _sum_of_attempts(table: FromClause, name: str) -> Any:
    a = table.c
    match name:
        case "attempts":
            return func.count()
        case "unpriced":
            return func.count().filter(a.charge == ChargeKind.BILLED, a.usd_micros.is_(None))
        case "milli_credits" | "usd_micros":
            return func.sum(a[name])
        case _:
            return func.count().filter(a.charge == name)


def _open(
    connection: Connection, scope: Scope, window: Window, told: Sequence[By], which: Which
) -> Iterator[tuple[tuple[str, ...], int]]:
    """Count attempts without a charge. They are few and have an index of their own, so days are told apart here."""
    mine = scope.of(every_attempt)
    columns = [mine.c.day, *(column for by in told for column in _key(mine, by))]
    query = select(*columns).where(mine.c.finished_at.is_(None), *_conditions(mine, which))
    counted = Counter(
        _shown(told, row[1:]) for row in connection.execute(query) if window.since <= row.day <= window.until
    )
    yield from counted.items()


def _key(table: FromClause, by: By) -> list[Any]:
    if by is By.HOUR:
        return [table.c.day, table.c.hour]
    column = table.c[_COLUMN.get(by, by.value)]
    # written out, because PostgreSQL would not group by a parameter
    return [func.coalesce(column, literal_column("''")) if by in _COLUMN else column]


def _shown(told: Sequence[By], row: Sequence[Any]) -> tuple[str, ...]:
    values = iter(row)
    return tuple(f"{next(values)}T{next(values):02}Z" if by is By.HOUR else str(next(values)) for by in told)


def _where(table: FromClause, window: Window, which: Which) -> list[Any]:
    return [table.c.day >= window.since, table.c.day <= window.until, *_conditions(table, which)]


def _conditions(table: FromClause, which: Which) -> Iterator[Any]:
    for by, value in which.given().items():
        if by is not By.CHARGE:
            (column,) = _key(table, by)
            yield column == value


def _from_outside(connection: Connection, window: Window, provider: str | None) -> int:
    t = daily_totals.c
    query = select(func.coalesce(func.sum(t.tracked + t.imported), 0))
    query = query.where(t.day >= window.since, t.day <= window.until)
    if provider is not None:
        query = query.where(t.provider == provider)
    return int(connection.execute(query).scalar_one())


# The attempts behind a figure.

_DAYS_A_PAGE: Final = 4
"""On how many days, of those that have any, one page looks: a day is read as a whole."""


class AttemptRow(msgspec.Struct, frozen=True):
    """One request to a provider, as the ledger has it."""

    day: str
    id: str
    hour: int
    provider: str
    source: str
    endpoint: str
    trigger: str
    tenant_id: str | None
    user_id: str | None
    api_key_id: str | None
    batch_id: str | None
    prospect_id: str | None
    source_result_id: str | None
    begun_at: str
    finished_at: str | None
    result: str | None
    http_status: int | None
    charge: str | None
    milli_credits: int | None
    usd_micros: int | None
    latency_us: int | None
    provider_request_id: str | None
    error: str | None


class Attempts(msgspec.Struct, frozen=True):
    """A page of attempts, newest first. `next` is where the following page begins, `None` where there is no more.

    A page may hold fewer than were asked for and still have a next one. Single calls up to the UTC day `dropped_until`
    were dropped by age: of those, only sums are known.
    """

    about: About
    attempts: list[AttemptRow]
    next: tuple[str, str] | None
    dropped_until: str | None = None


def attempts_behind(
    connection: Connection,
    scope: Scope,
    now: datetime,
    window: Window,
    which: Which = NO_MATTER,
    *,
    hour: int | None = None,
    source: str | None = None,
    before: tuple[str, str] | None = None,
    limit: int = 100,
) -> Attempts:
    """Return the attempts of some UTC days, newest first; `before` is the `next` of an answer before."""
    horizon = ledger_horizon(connection)
    days = _days_with_any(connection, scope, window, which, before)
    found: list[AttemptRow] = []
    for day in days[:_DAYS_A_PAGE]:
        found += _on_day(connection, scope, day, which, hour, source, before, limit + 1 - len(found))
        if len(found) > limit:
            break
    following = _following(found, days, limit)
    dropped = horizon if horizon is not None and horizon >= window.since else None
    return Attempts(about(window, now, "attempts", "usage_days"), found[:limit], following, dropped)


def _following(found: Sequence[AttemptRow], days: Sequence[str], limit: int) -> tuple[str, str] | None:
    if len(found) > limit:
        return found[limit - 1].day, found[limit - 1].id
    return (days[_DAYS_A_PAGE - 1], "") if len(days) > _DAYS_A_PAGE else None


def _days_with_any(
    connection: Connection, scope: Scope, window: Window, which: Which, before: tuple[str, str] | None
) -> list[str]:
    """Return the newest days that have such attempts, one more than a page looks at, going back through sums."""
    upper = min(window.until, before[0]) if before else window.until
    done_with = before[0] if before and before[1] == "" else None
    window = Window(window.since, upper)
    days = set(_days_of_finished(connection, scope, window, which, done_with)) if which.charge != OPEN else set()
    if which.charge in (None, OPEN):
        days |= {keys[0] for keys, _ in _open(connection, scope, window, [By.DAY], which)}
    return sorted(days - {done_with}, reverse=True)


def _days_of_finished(
    connection: Connection, scope: Scope, window: Window, which: Which, done_with: str | None
) -> Iterator[str]:
    sums = scope.of(usage_days)
    u, edge, inclusive = sums.c, window.until, window.until != done_with
    kind = u[which.charge] if which.charge in set(ChargeKind) else u.attempts
    for _ in range(_DAYS_A_PAGE + 1):
        query = select(u.day).where(u.day >= window.since, u.day <= edge if inclusive else u.day < edge)
        query = query.where(kind > 0, *_conditions(sums, which)).order_by(u.day.desc()).limit(1)
        day = connection.execute(query).scalar()
        if day is None:
            return
        yield day
        edge, inclusive = day, False


def _on_day(
    connection: Connection,
    scope: Scope,
    day: str,
    which: Which,
    hour: int | None,
    source: str | None,
    before: tuple[str, str] | None,
    limit: int,
) -> list[AttemptRow]:
    mine = scope.of(every_attempt)
    a = mine.c
    query = select(*(a[name] for name in AttemptRow.__struct_fields__))
    query = query.where(*_where(mine, Window(day, day), which))
    if which.charge == OPEN:
        query = query.where(a.finished_at.is_(None))
    elif which.charge is not None:
        query = query.where(a.charge == which.charge)
    if hour is not None:
        query = query.where(a.hour == hour)
    if source is not None:
        query = query.where(a.source == source)
    if before is not None:
        query = query.where(or_(a.day < before[0], and_(a.day == before[0], a.id < before[1])))
    rows = connection.execute(query.order_by(a.day.desc(), a.id.desc()).limit(limit))
    return [AttemptRow(*row) for row in rows]
