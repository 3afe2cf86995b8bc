"""Why a provider ran out at some moment: which limit it was, who had spent it, and how much went elsewhere."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, Select, func, literal_column, select

from sluiceway.errors import BadInput
from sluiceway.outcome import ChargeKind, Status, timestamp
from sluiceway.store.facts import ledger_horizon
from sluiceway.store.schema import attempts, batches, external_usage, limit_windows, provider_meters, source_results
from sluiceway.usage.admission import Refusal
from sluiceway.usage.counter import PLATFORM
from sluiceway.usage.provider_meter import compare
from sluiceway.usage.quota import (
    Quota,
    QuotaClock,
    Unit,
    Window,
    all_quotas,
    amount_in_words,
    ledger_use,
    used_and_pending,
)

WITHOUT_QUOTA: Final = timedelta(days=30)
"""How far back spending is looked at where the provider said that nothing was left and no quota says since when."""

_RUN_OUT: Final = frozenset({QuotaClock.HOUR, QuotaClock.DAY, QuotaClock.CYCLE})
"""Clocks that can be said to have run out; shorter ones make work wait a moment."""


class Share(msgspec.Struct, frozen=True):
    """What one tenant, batch or trigger spent; the empty name is for calls made for nobody in particular.

    A batch is named by its id, and `title` is what it is called.
    """

    name: str
    used: int
    part: float
    title: str | None = None

    @property
    def shown(self) -> str:
        return f"{self.title} ({self.name[:12]})" if self.title else self.name


class Outside(msgspec.Struct, frozen=True):
    """What a provider's meter lost, between two readings, that was surely not ours."""

    meter: str
    unit: str
    since: str
    until: str
    used: int


class Explanation(msgspec.Struct, frozen=True):
    """What is known of a provider's limits at a moment. Amounts are in `unit`: requests, milli-credits, micro-dollars.

    `limit` says which quota it is about: the one that had run out, else the one most used; `None` where none is set.
    One that is not `hard` stops nothing.
    `refused_at` is when the provider itself said that nothing was left. Shares are of `used`, from `opens_at` to `at`.
    `meters_read` tells whether two readings of the provider's own meter compare: without, `outside` cannot be known.
    """

    provider: str
    at: str
    ran_out: bool
    ran_out_at: str | None
    limit: str | None
    hard: bool
    unit: Unit
    amount: int | None
    used: int
    left: int | None
    opens_at: str
    closes_at: str | None
    refused_at: str | None
    refusal: str | None
    by_tenant: list[Share]
    by_batch: list[Share]
    by_trigger: list[Share]
    unknown: list[str]
    tracked: int
    imported: int
    outside: list[Outside]
    meters_read: bool
    turned_away: int


class _Limit(msgspec.Struct, frozen=True):
    """A limit as it stood: `since` is when it ran out, `None` if it had not."""

    quota: Quota | None
    unit: Unit
    window: Window
    used: int
    since: str | None
    refusal: Any = None

    @property
    def share(self) -> float:
        return self.used / max(1, self.quota.amount) if self.quota else 0.0


def explain(connection: Connection, provider: str, at: datetime) -> Explanation:
    """Say how a provider stood at a moment (aware, not in the future). Raises `BadInput` for one nobody knows."""
    stamp = timestamp(at)
    if (horizon := ledger_horizon(connection)) and stamp[:10] <= horizon:
        raise BadInput(f"single calls are kept from the day after {horizon} on; of days before that only sums are left")
    quotas = [quota for quota in all_quotas(connection) if quota.provider == provider]
    _check_known(connection, provider, quotas)
    limit = _limiting(connection, provider, quotas, stamp)
    spent = _Spent(connection, provider, limit, stamp)
    quota, amount = limit.quota, limit.quota.amount if limit.quota else None
    tracked, imported = _external(connection, provider, limit.window.opens_at, stamp)
    outside, meters_read = _outside(connection, provider, limit.window.opens_at, stamp)
    return Explanation(
        provider, stamp, limit.since is not None, limit.since, quota.shown() if quota else None,
        quota is not None and quota.hard, limit.unit, amount,
        limit.used, None if amount is None else max(0, amount - limit.used),
        limit.window.opens_at, limit.window.closes_at if quota else None,
        limit.refusal.finished_at if limit.refusal else None, limit.refusal.error if limit.refusal else None,
        spent.by(attempts.c.tenant_id), _named(connection, spent.by(attempts.c.batch_id)),
        spent.by(attempts.c.trigger), spent.unknown(), tracked, imported, outside, meters_read,
        _prospects_turned_away(connection, provider, limit, stamp),
    )  # fmt: skip


def _check_known(connection: Connection, provider: str, quotas: Sequence[Quota]) -> None:
    known = set(connection.execute(select(attempts.c.provider).distinct()).scalars())
    known |= set(connection.execute(select(external_usage.c.provider).distinct()).scalars())
    if provider not in known and not quotas:
        listed = f"known are {', '.join(sorted(known))}" if known else "there are no calls yet"
        raise BadInput(f"nothing is known of a provider {provider!r}; {listed}")


# Which limit it was.


def _limiting(connection: Connection, provider: str, quotas: Sequence[Quota], stamp: str) -> _Limit:
    """Return the limit that had run out (of several, the one that turns last), else the one most used."""
    stood = [_stood(connection, quota, stamp) for quota in quotas if quota.clock in _RUN_OUT]
    run_out = [limit for limit in stood if limit.since]
    if run_out:
        return max(run_out, key=lambda limit: limit.window.closes_at)
    refusal = _provider_refused(connection, provider, stamp)
    if refusal is not None or not stood:
        return _without_quota(connection, provider, refusal, stamp)
    return max(stood, key=lambda limit: limit.share)


def _stood(connection: Connection, quota: Quota, stamp: str) -> _Limit:
    window = _window(connection, quota, stamp)
    mine = _within(quota.provider, window.opens_at, stamp, quota.tenant_id)
    used = _sum(connection, mine, quota.unit)
    if not quota.hard:
        return _Limit(quota, quota.unit, window, used, None)
    since = (_crossed(connection, mine, quota) or window.opens_at) if used >= quota.amount else None
    return _Limit(quota, quota.unit, window, used, since or _refused_for(connection, quota, window, stamp))


def _window(connection: Connection, quota: Quota, stamp: str) -> Window:
    w = limit_windows.c
    query = select(w.opens_at, w.closes_at).where(w.limit_id == quota.id, w.opens_at <= stamp, w.closes_at > stamp)
    kept = connection.execute(query).first()
    return Window(*kept) if kept else ledger_use(connection, quota, stamp).window


def _within(provider: str, opens_at: str, stamp: str, tenant_id: str | None = None) -> list[Any]:
    """Return the conditions on attempts that count towards a window up to a moment."""
    a = attempts.c
    days = (a.day >= opens_at[:10], a.day <= stamp[:10])
    mine = [a.provider == provider, a.credential_id == PLATFORM, *days, a.begun_at >= opens_at, a.begun_at <= stamp]
    return mine if tenant_id is None else [*mine, a.tenant_id == tenant_id]


def _sum(connection: Connection, mine: Sequence[Any], unit: Unit) -> int:
    used, _ = used_and_pending(unit)
    return int(connection.execute(select(used).where(*mine)).scalar() or 0)


def _crossed(connection: Connection, mine: Sequence[Any], quota: Quota) -> str | None:
    """Return when the attempt began that used the last of a quota: by the hour first, then call by call."""
    a = attempts.c
    used, _ = used_and_pending(quota.unit)
    so_far = 0
    by_hour = select(a.day, a.hour, used).where(*mine).group_by(a.day, a.hour).order_by(a.day, a.hour)
    for day, hour, amount in connection.execute(by_hour).all():
        if so_far + int(amount) >= quota.amount:
            of_hour = select(a.begun_at, used).where(*mine, a.day == day, a.hour == hour)
            return _crossed_within(connection, of_hour.group_by(a.id, a.begun_at), quota.amount - so_far)
        so_far += int(amount)
    return None


def _crossed_within(connection: Connection, of_hour: Select[Any], left: int) -> str | None:
    for begun_at, amount in connection.execute(of_hour.order_by(attempts.c.begun_at, attempts.c.id)):
        left -= int(amount)
        if left <= 0:
            return str(begun_at)
    return None


def _refused_for(connection: Connection, quota: Quota, window: Window, stamp: str) -> str | None:
    """Return when work was first turned away for a limit that had something left, though too little for a call."""
    reasons = [Refusal(quota, "", never=never, unpriced=unpriced).reason for never, unpriced in _TOO_LITTLE]
    query = select(func.min(source_results.c.closed_at)).where(
        *_turned_away(quota.provider, window.opens_at, stamp, quota.tenant_id), source_results.c.error.in_(reasons)
    )
    return connection.execute(query).scalar()


_TOO_LITTLE: Final = ((False, False), (True, False), (True, True))
"""Refusals of what is left, of one request in any window, and of a request without a price (`never`, `unpriced`)."""


def _turned_away(provider: str, opens_at: str, stamp: str, tenant_id: str | None) -> list[Any]:
    """Return the conditions on source results that were `quota_exceeded` in a window up to a moment."""
    r = source_results.c
    whose = [r.tenant_id == tenant_id] if tenant_id is not None else []
    when = (r.closed_at >= opens_at, r.closed_at <= stamp)
    return [r.status == Status.QUOTA_EXCEEDED, r.source.in_(_sources_of(provider)), *when, *whose]


def _sources_of(provider: str) -> Select[Any]:
    return select(attempts.c.source).where(attempts.c.provider == provider).distinct()


def _provider_refused(connection: Connection, provider: str, stamp: str) -> Any:
    """Return the first of the provider's own refusals since it last billed anything: it says that nothing is left."""
    a = attempts.c
    mine = (a.provider == provider, a.day <= stamp[:10], a.finished_at <= stamp)
    last_billed = connection.execute(select(func.max(a.begun_at)).where(*mine, a.charge == ChargeKind.BILLED)).scalar()
    query = select(a.finished_at, a.error).where(*mine, a.result == Status.QUOTA_EXCEEDED)
    return connection.execute(query.where(a.begun_at > (last_billed or "")).order_by(a.begun_at).limit(1)).first()


def _without_quota(connection: Connection, provider: str, refusal: Any, stamp: str) -> _Limit:
    opens_at = f"{stamp[:10]}T00:00:00.000Z"
    if refusal is not None:
        opens_at = timestamp(datetime.fromisoformat(refusal.finished_at) - WITHOUT_QUOTA)
    mine = _within(provider, opens_at, stamp)
    unit = next((unit for unit in (Unit.CREDITS, Unit.USD) if _sum(connection, mine, unit)), Unit.REQUESTS)
    since = refusal.finished_at if refusal else None
    return _Limit(None, unit, Window(opens_at, stamp), _sum(connection, mine, unit), since, refusal)


# Who had spent it.


class _Spent:
    """What counts towards a limit, up to a moment."""

    def __init__(self, connection: Connection, provider: str, limit: _Limit, stamp: str) -> None:
        self._connection = connection
        self._limit = limit
        self._mine = _within(provider, limit.window.opens_at, stamp, limit.quota.tenant_id if limit.quota else None)

    def by(self, column: Any) -> list[Share]:
        """Return the shares of each value of a column, the largest first."""
        used, _ = used_and_pending(self._limit.unit)
        key = func.coalesce(column, literal_column("''"))
        found = self._connection.execute(select(key, used).where(*self._mine).group_by(key)).all()
        whole = max(1, self._limit.used)
        shares = [Share(name, int(amount), int(amount) / whole) for name, amount in found if amount]
        return sorted(shares, key=lambda share: (-share.used, share.name))

    def unknown(self) -> list[str]:
        """Return the ids of the attempts whose charge is unknown."""
        a = attempts.c
        query = select(a.id).where(*self._mine, a.charge == ChargeKind.UNKNOWN).order_by(a.id)
        return list(self._connection.execute(query).scalars())


def _named(connection: Connection, shares: list[Share]) -> list[Share]:
    """Add to batches what they are called."""
    query = select(batches.c.id, batches.c.name).where(batches.c.id.in_([share.name for share in shares]))
    titles = {row.id: row.name for row in connection.execute(query)}
    return [msgspec.structs.replace(share, title=titles.get(share.name)) for share in shares]


def _external(connection: Connection, provider: str, opens_at: str, stamp: str) -> tuple[int, int]:
    """Return the calls that were tracked and imported on the UTC days of the window; they have no hour."""
    e = external_usage.c
    query = select(e.kind, func.sum(e.calls)).where(e.provider == provider, e.day >= opens_at[:10], e.day <= stamp[:10])
    found = {kind: int(calls) for kind, calls in connection.execute(query.group_by(e.kind))}
    return found.get("tracked", 0), found.get("imported", 0)


def _outside(connection: Connection, provider: str, opens_at: str, stamp: str) -> tuple[list[Outside], bool]:
    """Return what the provider's meters lost that was surely not ours, and whether they were read at all."""
    m = provider_meters.c
    query = select(m.meter, m.unit).where(m.provider == provider, m.error.is_(None)).distinct().order_by(m.meter)
    found, meters_read = [], False
    for meter, unit in connection.execute(query).all():
        compared = compare(connection, provider, meter, opens_at, stamp)
        meters_read = meters_read or bool(compared.wholes)
        found += [Outside(meter, unit, s.since, s.until, s.outside_least) for s in compared.outside]
    return found, meters_read


def _prospects_turned_away(connection: Connection, provider: str, limit: _Limit, stamp: str) -> int:
    """Count the prospects, of the tenant that is limited, whose result was `quota_exceeded` in the window."""
    mine = _turned_away(provider, limit.window.opens_at, stamp, limit.quota.tenant_id if limit.quota else None)
    return connection.execute(select(func.count(source_results.c.prospect_id.distinct())).where(*mine)).scalar_one()


# In words.


def paragraph(said: Explanation, zone: tzinfo = UTC) -> str:
    """Tell an explanation as a paragraph; moments are in UTC and, where it is another, in `zone`."""
    return " ".join(_sentences(said, _Clock(zone)))


class _Clock:
    """Writes moments for a reader in some time zone."""

    def __init__(self, zone: tzinfo) -> None:
        self._zone = zone

    def __call__(self, stamp: str) -> str:
        moment = datetime.fromisoformat(stamp)
        there = moment.astimezone(self._zone)
        if there.utcoffset() == timedelta(0):
            return f"{moment:%Y-%m-%d %H:%M} UTC"
        return f"{moment:%Y-%m-%d %H:%M} UTC ({there:%Y-%m-%d %H:%M} {getattr(self._zone, 'key', there.tzname())})"


def _sentences(said: Explanation, clock: _Clock) -> Iterator[str]:
    yield from _what_happened(said, clock)
    yield from _who(said, clock)
    yield from _elsewhere(said, clock)
    if said.unknown:
        shown = ", ".join(said.unknown[:3]) + (", …" if len(said.unknown) > 3 else "")
        yield (
            f"The charge of {_counted(len(said.unknown), 'call')} in it is unknown ({shown}): each counts as used, at "
            "the most it can have cost, until it is resolved."
        )
    yield from _what_to_do(said, clock)


def _what_happened(said: Explanation, clock: _Clock) -> Iterator[str]:
    if not said.ran_out:
        yield from _how_it_stood(said, clock)
        return
    if said.limit is None:
        used = amount_in_words(said.unit, said.used)
        yield (
            f"{said.provider} had run out at {clock(said.at)}: at {clock(said.ran_out_at or said.at)} it answered that "
            f"nothing was left ({said.refusal or 'it gave no reason'}), and it billed nothing after that. No quota had "
            f"run out, so what follows is the {WITHOUT_QUOTA.days} days before: {used} used."
        )
    else:
        left = f", and the {amount_in_words(said.unit, said.left)} left were too little for a call" if said.left else ""
        yield (
            f"{said.provider} had run out at {clock(said.at)}: its limit of {said.limit} was used up at "
            f"{clock(said.ran_out_at or said.at)}, in the window that opened at {clock(said.opens_at)} and closes at "
            f"{clock(said.closes_at or said.at)} ({amount_in_words(said.unit, said.used)} used{left})."
        )
    if said.turned_away:
        yield f"{_counted(said.turned_away, 'prospect')} got `quota_exceeded` because of it."


def _how_it_stood(said: Explanation, clock: _Clock) -> Iterator[str]:
    yield f"{said.provider} had not run out at {clock(said.at)}."
    used = amount_in_words(said.unit, said.used)
    if said.limit is None:
        yield f"No quota of an hour, day or cycle is set for it; {used} were used from {clock(said.opens_at)} on."
        return
    yield (
        f"Of its {'' if said.hard else 'soft '}limit of {said.limit}, {used} were used since {clock(said.opens_at)} "
        f"and {amount_in_words(said.unit, said.left or 0)} were left until {clock(said.closes_at or said.at)}."
    )


def _who(said: Explanation, clock: _Clock) -> Iterator[str]:
    if not said.used:
        return
    yield f"By tenant it went to {_shares(said.by_tenant, said.unit, 'nobody in particular (shared documents)')};"
    yield f"by batch to {_shares(said.by_batch, said.unit, 'no batch')};"
    yield f"by trigger to {_shares(said.by_trigger, said.unit, 'none')}."


def _shares(shares: Sequence[Share], unit: Unit, nobody: str) -> str:
    shown = [f"{share.shown or nobody} {amount_in_words(unit, share.used)} ({share.part:.0%})" for share in shares[:4]]
    if len(shares) > 4:
        shown.append(f"{len(shares) - 4} more {amount_in_words(unit, sum(share.used for share in shares[4:]))}")
    return ", ".join(shown)


def _elsewhere(said: Explanation, clock: _Clock) -> Iterator[str]:
    if said.tracked or said.imported:
        yield (
            f"Besides, {_counted(said.tracked, 'call')} made elsewhere were reported to Sluiceway on these UTC days, "
            f"and {said.imported:,} imported."
        )
    for meter, unit in sorted({(one.meter, one.unit) for one in said.outside}):
        times = [one for one in said.outside if one.meter == meter]
        used = amount_in_words(Unit(unit), sum(one.used for one in times))
        yield (
            f"{said.provider}'s own meter ({meter}) shows that at least {used} more were used outside Sluiceway, "
            f"between {clock(times[0].since)} and {clock(times[-1].until)}."
        )
    if not said.meters_read:
        yield (
            f"There are no two readings of {said.provider}'s own meter to compare for that time, so use outside "
            "Sluiceway cannot be told."
        )
    elif not said.outside:
        yield f"{said.provider}'s own meter shows no use outside Sluiceway."


def _what_to_do(said: Explanation, clock: _Clock) -> Iterator[str]:
    advice = []
    if said.ran_out and said.limit is None:
        advice.append(f"buy credits or wait for {said.provider}'s cycle to turn, and set a quota to be warned in time")
    elif said.ran_out:
        advice.append(f"wait until {clock(said.closes_at or said.at)}, or raise the limit with `sluiceway quota set`")
    if said.ran_out and len(said.by_tenant) > 1 and said.by_tenant[0].part > 0.5 and said.by_tenant[0].name:
        advice.append(f"give tenant {said.by_tenant[0].name} a quota of its own")
    if said.outside:
        advice.append("find out who else uses the key")
    if said.unknown:
        advice.append(f"resolve what is unknown (`sluiceway usage unknown --provider {said.provider}`)")
    if advice:
        yield f"What to do: {'; '.join(advice)}."


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"
