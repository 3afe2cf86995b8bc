"""Quotas: how much may be spent, on whose behalf, within which window; and the windows themselves.

A quota limits requests, credits or dollars of one provider, for everybody or for one tenant. Its clock cuts time into
windows: calendar ones (UTC), ones that open at their first request, or billing cycles with a start day. A batch's cap
is one as well, with a single window: what is spent on the batch, whenever that is.
"""

from __future__ import annotations

import calendar
import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from enum import StrEnum
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, case, delete, func, insert, select

from sluiceway.errors import BadInput, BadSetting
from sluiceway.outcome import ChargeKind, timestamp
from sluiceway.store.facts import raise_version, version
from sluiceway.store.schema import attempts, batch_caps, batches, limit_windows, quotas
from sluiceway.usage.counter import PLATFORM

VERSION_OF: Final = "quotas"
"""The name under which the store counts changes to quotas."""

RESERVED_FOR: Final = timedelta(seconds=10)
"""How old an attempt's stamp may be when its request leaves; so long may commits be behind the stamps they bring."""

EPOCH_OF: Final = "admission"
"""The name under which the store counts how often what is used was read for a copy, or changed behind its back."""

ALWAYS: Final = ("", "9999-12-31T23:59:59.999Z")
"""The one window of a limit on calls in flight, and of a batch's cap."""

ANY_PROVIDER: Final = "*"
"""In a batch's cap: what is spent at all providers together."""


class Unit(StrEnum):
    """What a quota counts."""

    REQUESTS = "requests"
    CREDITS = "credits"
    USD = "usd"


class QuotaClock(StrEnum):
    """How a quota cuts time into windows.

    `in_flight` has a single one, in which calls count while they are open; so has `batch`, in which one batch's count.
    """

    IN_FLIGHT = "in_flight"
    SECOND = "second"
    MINUTE = "minute"
    HOUR = "hour"
    DAY = "day"
    CYCLE = "cycle"
    BATCH = "batch"


class Opens(StrEnum):
    """When a window opens: at a round moment of UTC, or with the first request after the last one closed."""

    CALENDAR = "calendar"
    FIRST_REQUEST = "first_request"


LENGTH: Final = {
    QuotaClock.SECOND: timedelta(seconds=1),
    QuotaClock.MINUTE: timedelta(minutes=1),
    QuotaClock.HOUR: timedelta(hours=1),
    QuotaClock.DAY: timedelta(days=1),
}
LONG: Final = frozenset({QuotaClock.DAY, QuotaClock.CYCLE, QuotaClock.BATCH})
"""Clocks whose exhausted window ends a source's work instead of making it wait."""

_SCALE: Final = {Unit.REQUESTS: 1, Unit.CREDITS: 1000, Unit.USD: 1_000_000}


class Quota(msgspec.Struct, frozen=True):
    """One limit. `amount` is in requests, milli-credits or micro-dollars; a soft one warns and refuses nothing."""

    provider: str
    unit: Unit
    clock: QuotaClock
    amount: int
    tenant_id: str | None = None
    cycle_day: int | None = None
    opens: Opens = Opens.CALENDAR
    warn_at_percent: int | None = 80
    hard: bool = True
    origin: str = "operator"
    batch_id: str | None = None

    @property
    def id(self) -> str:
        """The limit's name: setting another amount for the same provider, unit, clock and tenant replaces it."""
        whole = f"{self.provider}/{self.unit}/{self.clock}"
        whose = self.batch_id or self.tenant_id
        return f"{whole}/{whose}" if whose is not None else whole

    @property
    def whose(self) -> str:
        """What it is about, in a word or two: the provider, or the batch."""
        return self.provider if self.batch_id is None else f"batch {self.batch_id}"

    @property
    def is_long(self) -> bool:
        """Whether its windows are so long that work ends instead of waiting for the next one."""
        return self.clock in LONG

    def covers(self, provider: str, tenant_id: str | None, batch_id: str | None = None) -> bool:
        """Tell whether calls to a provider on a tenant's behalf, or for a batch, count against this quota."""
        if self.batch_id is not None:
            # What is shared by all, and costs nothing, is in no batch's cap: others may be waiting for it.
            return self.batch_id == batch_id and self.provider in (ANY_PROVIDER, provider) and tenant_id is not None
        return self.provider == provider and self.tenant_id in (None, tenant_id)

    def shown(self) -> str:
        """Say the limit in words: `200 requests per minute`."""
        if self.batch_id is not None:
            return f"{amount_in_words(self.unit, self.amount)} for this batch"
        when = {QuotaClock.IN_FLIGHT: "in flight", QuotaClock.CYCLE: f"per cycle from day {self.cycle_day}"}
        whose = f" for tenant {self.tenant_id}" if self.tenant_id is not None else ""
        return f"{amount_in_words(self.unit, self.amount)} {when.get(self.clock, f'per {self.clock}')}{whose}"


def amount_in_words(unit: Unit, amount: int) -> str:
    """Say requests, milli-credits or micro-dollars in words, exactly: `1 request`, `12.5 credits`, `$0.004`."""
    scaled = amount / _SCALE[unit]
    if unit is not Unit.USD:
        return f"{scaled:,.15g} {unit.removesuffix('s') if scaled == 1 else unit}"
    return f"${scaled:,.2f}" if amount % 10_000 == 0 else f"${scaled:,.6f}".rstrip("0")


class Window(msgspec.Struct, frozen=True, order=True):
    """A half-open stretch of time, as the stamps that tables hold."""

    opens_at: str
    closes_at: str


def window_at(quota: Quota, stamp: str) -> Window:
    """Return the window a stamped moment falls into; for one that opens at its first request, one that opens then."""
    if quota.opens is Opens.FIRST_REQUEST:
        return Window(stamp, later(stamp, LENGTH[quota.clock]))
    return _calendar_window(quota.clock, quota.cycle_day or 1, stamp[:19])


@lru_cache(maxsize=1024)
def _calendar_window(clock: QuotaClock, cycle_day: int, second: str) -> Window:
    """Return the window around a second; many attempts fall into each, and working with dates is slow."""
    if clock in (QuotaClock.IN_FLIGHT, QuotaClock.BATCH):
        return Window(*ALWAYS)
    if clock is QuotaClock.CYCLE:
        return _cycle_at(cycle_day, second)
    kept = {QuotaClock.SECOND: 19, QuotaClock.MINUTE: 16, QuotaClock.HOUR: 13, QuotaClock.DAY: 10}[clock]
    opens_at = second[:kept] + "0000-00-00T00:00:00.000Z"[kept:]
    return Window(opens_at, later(opens_at, LENGTH[clock]))


def earliest_window_at(quota: Quota, stamp: str) -> str:
    """Return when the earliest window may have opened that a stamped moment can fall into."""
    if quota.opens is Opens.FIRST_REQUEST:
        return later(stamp, -LENGTH[quota.clock])
    return window_at(quota, stamp).opens_at


def counted_from(quota: Quota, opens_at: str) -> str:
    """Return from which stamp on attempts may count in a window.

    One that opens at its first request was opened by the first that was committed, and others may be on their way
    whose stamps are a little older.
    """
    return opens_at if quota.opens is Opens.CALENDAR else later(opens_at, -RESERVED_FOR)


def later(stamp: str, by: timedelta) -> str:
    """Return the stamp of a moment some time after another."""
    return timestamp(datetime.fromisoformat(stamp) + by)


def _cycle_at(start_day: int, stamp: str) -> Window:
    """Return the billing cycle around a moment; in a month too short for the start day it starts on the last one."""
    year, month = int(stamp[:4]), int(stamp[5:7])
    if stamp[:10] < _start_of_cycle(year, month, start_day)[:10]:
        year, month = (year, month - 1) if month > 1 else (year - 1, 12)
    following = (year, month + 1) if month < 12 else (year + 1, 1)
    return Window(_start_of_cycle(year, month, start_day), _start_of_cycle(*following, start_day))


def _start_of_cycle(year: int, month: int, start_day: int) -> str:
    day = min(start_day, calendar.monthrange(year, month)[1])
    return timestamp(datetime(year, month, day, tzinfo=UTC))


class Use(msgspec.Struct, frozen=True):
    """What is used of a quota in its present window; `pending` of it is reserved for calls that are still open."""

    quota: Quota
    window: Window
    used: int
    pending: int

    @property
    def left(self) -> int:
        """What may still be reserved."""
        return max(0, self.quota.amount - self.used)


# Keeping quotas.


def set_quota(connection: Connection, quota: Quota, *, by: str, now: str) -> None:
    """Make a quota hold from the next commit on; what was used in its window before counts. Raises `BadInput`."""
    _check(quota)
    if _opened_otherwise(connection, quota):
        connection.execute(delete(limit_windows).where(limit_windows.c.limit_id == quota.id))
    connection.execute(delete(quotas).where(quotas.c.id == quota.id))
    columns = {name: getattr(quota, name) for name in _COLUMNS}
    connection.execute(insert(quotas).values(id=quota.id, **columns, set_by=by, set_at=now))
    refold(connection, quota, now)
    raise_version(connection, VERSION_OF)


def refold(connection: Connection, quota: Quota, now: str) -> None:
    """Fold what is used of a quota in its present window anew from the ledger."""
    use, w = ledger_use(connection, quota, now), limit_windows.c
    connection.execute(delete(limit_windows).where(w.limit_id == quota.id, w.opens_at <= now, w.closes_at > now))
    if quota.opens is Opens.CALENDAR or use.used:  # no request, no window
        connection.execute(insert(limit_windows).values(**_as_window(use)))
    raise_version(connection, EPOCH_OF)


def _opened_otherwise(connection: Connection, quota: Quota) -> bool:
    opens = connection.execute(select(quotas.c.opens).where(quotas.c.id == quota.id)).scalar()
    return opens is not None and opens != quota.opens


def unset_quota(connection: Connection, quota_id: str) -> bool:
    """Take a quota away; returns whether there was one."""
    found = connection.execute(delete(quotas).where(quotas.c.id == quota_id)).rowcount > 0
    connection.execute(delete(limit_windows).where(limit_windows.c.limit_id == quota_id))
    raise_version(connection, VERSION_OF)
    raise_version(connection, EPOCH_OF)
    return found


def all_quotas(connection: Connection) -> list[Quota]:
    """Return every quota that is set, by provider."""
    query = select(*(quotas.c[name] for name in _COLUMNS)).order_by(quotas.c.id)
    return [msgspec.convert(dict(zip(_COLUMNS, row, strict=True)), Quota) for row in connection.execute(query)]


_COLUMNS: Final = tuple(name for name in Quota.__struct_fields__ if name != "batch_id")


def set_caps(connection: Connection, batch_id: str, caps: Iterable[tuple[str, Unit, int]]) -> None:
    """Let a batch that has not begun spend no more than this: provider (`*` is all together), unit and amount."""
    caps = list(caps)
    if any(amount < 0 for _, _, amount in caps):
        raise BadInput("a cap cannot be negative; 0 lets nothing through")
    if caps:
        rows = [{"batch_id": batch_id, "provider": p, "unit": unit, "amount": amount} for p, unit, amount in caps]
        connection.execute(insert(batch_caps), rows)
        raise_version(connection, VERSION_OF)


def caps_of(connection: Connection, batch_id: str) -> list[Quota]:
    """Return what a batch may spend at most."""
    return _caps(connection, batch_caps.c.batch_id == batch_id)


def caps_that_hold(connection: Connection) -> list[Quota]:
    """Return the caps of every batch that has not ended."""
    unended = select(batches.c.id).where(batches.c.finished_at.is_(None), batches.c.requested_at.is_not(None))
    return _caps(connection, batch_caps.c.batch_id.in_(unended))


def _caps(connection: Connection, which: Any) -> list[Quota]:
    c = batch_caps.c
    query = select(c.provider, c.unit, c.amount, c.batch_id).where(which).order_by(c.batch_id, c.provider, c.unit)
    return [
        Quota(provider, Unit(unit), QuotaClock.BATCH, amount, warn_at_percent=None, origin="batch", batch_id=batch_id)
        for provider, unit, amount, batch_id in connection.execute(query)
    ]


def quotas_version(connection: Connection) -> int:
    """Return a number that rises with every change to the quotas."""
    return version(connection, VERSION_OF)


def apply_file(connection: Connection, wanted: Iterable[Quota], *, now: str) -> None:
    """Make the quotas of a settings file hold, and those that have gone from it no longer."""
    in_file = {quota.id: quota for quota in wanted}
    held = {quota.id: quota for quota in all_quotas(connection) if quota.origin == "file"}
    for quota_id in sorted(held.keys() - in_file.keys()):
        unset_quota(connection, quota_id)
    for quota_id, quota in sorted(in_file.items()):
        if held.get(quota_id) != quota:
            set_quota(connection, quota, by="file", now=now)


class FileQuota(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One `[[quota]]` of a settings file; `limit` is in requests, credits or dollars, and `warn_at` 0 never warns."""

    provider: str
    limit: int | float | str
    unit: Unit = Unit.REQUESTS
    per: QuotaClock = QuotaClock.DAY
    tenant: str | None = None
    cycle_day: int | None = None
    opens: Opens = Opens.CALENDAR
    warn_at: int | None = 80
    soft: bool = False


class _QuotasFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    quota: list[FileQuota] = []


def read_quotas_file(path: str) -> list[Quota]:
    """Read a settings file of quotas. Raises `BadSetting` with what is wrong and where."""
    try:
        found = msgspec.toml.decode(Path(path).read_bytes(), type=_QuotasFile).quota
        return _none_twice([_from_file(each) for each in found])
    except OSError as error:
        raise BadSetting(f"SLUICEWAY_QUOTAS_FILE {path} cannot be read: {error.strerror}") from None
    except (msgspec.MsgspecError, ValueError, BadInput) as error:
        raise BadSetting(f"SLUICEWAY_QUOTAS_FILE {path}: {error}") from None


def _none_twice(found: list[Quota]) -> list[Quota]:
    ids = [quota.id for quota in found]
    if twice := [quota_id for quota_id in ids if ids.count(quota_id) > 1]:
        raise BadInput(f"{twice[0]} is set twice; a provider, unit, window and tenant have one limit")
    return found


def _from_file(said: FileQuota) -> Quota:
    quota = Quota(
        provider=said.provider,
        unit=said.unit,
        clock=said.per,
        amount=amount_of(said.unit, str(said.limit)),
        tenant_id=said.tenant,
        cycle_day=said.cycle_day,
        opens=said.opens,
        warn_at_percent=said.warn_at or None,
        hard=not said.soft,
        origin="file",
    )
    _check(quota)
    return quota


def amount_of(unit: Unit, text: str) -> int:
    """Return an amount as a person writes it (`600`, `12.50`) in requests, milli-credits or micro-dollars."""
    try:
        scaled = Decimal(_THOUSANDS.sub("", text.strip().removeprefix("$"))) * _SCALE[unit]
    except InvalidOperation:
        raise BadInput(f"{text!r} is not an amount of {unit}") from None
    if scaled.is_nan():
        raise BadInput(f"{text!r} is not an amount of {unit}")
    if not scaled.is_finite() or scaled > _MOST:
        raise BadInput(f"{text!r} is more than can be counted; leave the limit out instead")
    if scaled != int(scaled):
        raise BadInput(f"{text!r} is finer than {unit} are counted")
    return int(scaled)


_THOUSANDS: Final = re.compile(r"(?<=\d),(?=(?:\d{3},)*\d{3}(?:\.|$))")
"""Commas between thousands; one anywhere else would be a decimal comma, and the amount a hundred times another."""
_MOST: Final = 10**18


def _check(quota: Quota) -> None:
    if quota.amount < 0:
        raise BadInput("a quota cannot be negative; 0 stops every call")
    if quota.clock is QuotaClock.CYCLE and not 1 <= (quota.cycle_day or 0) <= 31:
        raise BadInput("a cycle needs the day of the month it starts on, from 1 to 31 (--cycle-day)")
    if quota.clock is not QuotaClock.CYCLE and quota.cycle_day is not None:
        raise BadInput("only a cycle has a start day")
    if quota.clock is QuotaClock.IN_FLIGHT and quota.unit is not Unit.REQUESTS:
        raise BadInput("only requests can be limited in flight")
    if quota.opens is Opens.FIRST_REQUEST and quota.clock not in LENGTH:
        raise BadInput(f"a window that opens at its first request cannot be a {quota.clock}")
    if quota.warn_at_percent is not None and not 1 <= quota.warn_at_percent <= 100:
        raise BadInput("a warning comes at 1 to 100 percent")
    if quota.clock is QuotaClock.BATCH:
        raise BadInput("a batch's cap is part of what is asked for, and no quota")


# Using quotas.


def uses(connection: Connection, now: str) -> list[Use]:
    """Return what is used of every quota in its present window."""
    w = limit_windows.c
    query = select(w.limit_id, w.opens_at, w.closes_at, w.used, w.pending).where(w.closes_at > now)
    open_windows = {row.limit_id: row for row in connection.execute(query.order_by(w.opens_at))}
    return [_use(quota, open_windows.get(quota.id), now) for quota in all_quotas(connection)]


def platform_uses(connection: Connection, now: str) -> list[Use]:
    """Return what is used of the quotas that hold for everybody; quick, however many windows there are."""
    return [_use(q, _last_window(connection, q, now), now) for q in all_quotas(connection) if q.tenant_id is None]


def _last_window(connection: Connection, quota: Quota, now: str) -> Any:
    """Return the window that is open, found by its key; `None` when there is none."""
    w = limit_windows.c
    query = select(w.opens_at, w.closes_at, w.used, w.pending).where(w.limit_id == quota.id, w.opens_at <= now)
    row = connection.execute(query.order_by(w.opens_at.desc()).limit(1)).first()
    return row if row is not None and row.closes_at > now else None


def _use(quota: Quota, row: Any, now: str) -> Use:
    if row is None or row.opens_at > now:
        return Use(quota, window_at(quota, now), 0, 0)
    return Use(quota, Window(row.opens_at, row.closes_at), row.used, row.pending)


def _as_window(use: Use) -> dict[str, Any]:
    return {
        "limit_id": use.quota.id,
        "opens_at": use.window.opens_at,
        "closes_at": use.window.closes_at,
        "used": use.used,
        "pending": use.pending,
    }


def ledger_use(connection: Connection, quota: Quota, now: str) -> Use:
    """Fold a quota's present window from the ledger's own rows, the way admission keeps it call by call."""
    window = window_at(quota, now)
    if quota.opens is Opens.FIRST_REQUEST:
        window = _window_that_is_open(connection, quota, now) or _window_in_ledger(connection, quota, now) or window
    a, since = attempts.c, _counted_since(connection, quota, window)
    within = [a.begun_at >= since, a.begun_at < window.closes_at, a.day >= since[:10]]
    if quota.clock is QuotaClock.IN_FLIGHT:
        within = [a.finished_at.is_(None)]
    used, pending = connection.execute(select(*used_and_pending(quota.unit)).where(*_counted_by(quota), *within)).one()
    return Use(quota, window, int(used or 0), int(pending or 0))


def _counted_by(quota: Quota) -> list[Any]:
    """Return the conditions under which an attempt counts against a quota, whenever it was."""
    a = attempts.c
    whose = [a.tenant_id == quota.tenant_id] if quota.tenant_id is not None else []
    return [a.provider == quota.provider, a.credential_id == PLATFORM, *whose]


def _window_that_is_open(connection: Connection, quota: Quota, now: str) -> Window | None:
    w = limit_windows.c
    query = select(w.opens_at, w.closes_at).where(w.limit_id == quota.id, w.opens_at <= now, w.closes_at > now)
    row = connection.execute(query.order_by(w.opens_at)).first()
    return Window(*row) if row else None


def _window_in_ledger(connection: Connection, quota: Quota, now: str) -> Window | None:
    """Return the window that the first request of the last stretch opened, where nobody has kept it."""
    a, since = attempts.c, later(now, -LENGTH[quota.clock])
    sent = func.coalesce(a.charge, "") != ChargeKind.NOT_SENT
    within = (a.begun_at > since, a.begun_at <= now, a.day >= since[:10])
    query = select(func.min(a.begun_at)).where(*_counted_by(quota), sent, *within)
    opened_at = connection.execute(query).scalar()
    return Window(opened_at, later(opened_at, LENGTH[quota.clock])) if opened_at else None


def _counted_since(connection: Connection, quota: Quota, window: Window) -> str:
    """Return from which stamp on attempts count in a window: an earlier one that is kept has those before its end."""
    since, w = counted_from(quota, window.opens_at), limit_windows.c
    if quota.opens is Opens.CALENDAR:
        return since
    query = select(func.max(w.closes_at)).where(w.limit_id == quota.id, w.opens_at < window.opens_at)
    return max(since, connection.execute(query).scalar() or "")


def used_and_pending(unit: Unit) -> tuple[Any, Any]:
    """Return the columns that sum what attempts use, and what of it is reserved for calls still open.

    An open call counts as reserved; one of unknown charge keeps its reservation.
    """
    a = attempts.c
    is_open = a.finished_at.is_(None)
    if unit is Unit.REQUESTS:
        used = case((a.charge == ChargeKind.NOT_SENT, 0), else_=1)
        return func.sum(used), func.sum(case((is_open, 1), else_=0))
    reserved, real = {
        Unit.CREDITS: (a.reserved_milli_credits, a.milli_credits),
        Unit.USD: (a.reserved_usd_micros, a.usd_micros),
    }[unit]
    kept = func.coalesce(reserved, 0)
    used = case(
        (is_open | (a.charge == ChargeKind.UNKNOWN), kept),
        (a.charge == ChargeKind.BILLED, func.coalesce(real, kept)),
        else_=0,
    )
    return func.sum(used), func.sum(case((is_open, kept), else_=0))
