"""What failed: alike failures in groups, the source results behind a group, and the attempts behind a result."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, FromClause, Select, and_, func, literal_column, or_, select

from sluiceway.admin.answer import About, Window, about
from sluiceway.admin.usage import AttemptRow
from sluiceway.errors import NotThere
from sluiceway.outcome import FAILURES, Status, read_statuses, timestamp
from sluiceway.store.facts import ledger_horizon
from sluiceway.store.schema import attempts as every_attempt
from sluiceway.store.schema import error_days, error_groups, error_tenants, prospects, source_results
from sluiceway.tenancy.scope import Scope

_NOT_A_FAILURE: Final = frozenset(Status) - FAILURES
"""A word we do not know is shown: whoever wrote it down can tell what it means."""

_OLD_LOOKED_AT: Final = 1000
_SPARSE: Final = 20


class Wanted(msgspec.Struct, frozen=True):
    """Which failures: of a tenant, a source, a class (a status such as `timed_out`), with a text in their message."""

    tenant: str | None = None
    source: str | None = None
    status: str | None = None
    text: str | None = None


EVERYTHING: Final = Wanted()


class ErrorGroup(msgspec.Struct, frozen=True):
    """Failures that say the same. `results` is how many were closed on the days of the answer.

    `first_seen` and `last_seen` are of all time (of a tenant, or of days that are over: on these days). `tenants` is
    how many tenants it was seen for on these days.
    """

    fingerprint: str
    source: str
    status: str
    message: str
    results: int
    tenants: int
    first_seen: str
    last_seen: str


class OldStatus(msgspec.Struct, frozen=True):
    """A failure an earlier system wrote down as a bare word: when it was and why is not known."""

    prospect_id: str
    tenant_id: str
    source: str
    status: str
    at: str | None
    error: str | None


class ErrorGroups(msgspec.Struct, frozen=True):
    """The answer: groups, the one seen last first; and failures of which only words are known.

    `old_prospects` is how many prospects hold statuses of an earlier system; `old` are failures among the first of
    them.
    """

    about: About
    groups: list[ErrorGroup]
    results: int
    old: list[OldStatus]
    old_prospects: int
    how: str = (
        "source results that ended as failed, unauthorized, rate_limited, quota_exceeded, circuit_open, timed_out or "
        "unknown, by the day they were closed; alike are those of one source and class whose messages are the same "
        "without addresses, times, ids, paths and numbers"
    )


def error_feed(
    connection: Connection,
    scope: Scope,
    now: datetime,
    window: Window,
    wanted: Wanted = EVERYTHING,
    *,
    limit: int = 200,
) -> ErrorGroups:
    """Return what failed on some UTC days, in groups."""
    of_all = scope.tenant_id is None and wanted.tenant is None
    # the sums know when a tenant was last seen, which tells nothing of days that ended before
    up_to_now = window.until >= timestamp(now)[:10]
    rows = _groups(scope, window, wanted) if of_all and up_to_now else _groups_of_results(scope, window, wanted)
    groups = [ErrorGroup(*row) for row in connection.execute(rows)]
    old = list(_old(connection, scope, wanted, limit))
    return ErrorGroups(
        about(window, now, "error_groups", "error_tenants", "error_days", "source_results", "prospects"),
        groups[:limit],
        sum(group.results for group in groups),
        old,
        _count_old(connection, scope, wanted.tenant),
    )


def _groups(scope: Scope, window: Window, wanted: Wanted) -> Select[Any]:
    g, d, t = error_groups.c, error_days.c, scope.of(error_tenants).c
    counted = select(d.fingerprint, func.sum(d.results).label("results"))
    c = counted.where(d.day >= window.since, d.day <= window.until).group_by(d.fingerprint).subquery().c
    seen = select(t.fingerprint, func.count().label("tenants")).where(t.last_seen >= window.since)
    s = seen.group_by(t.fingerprint).subquery().c
    query = select(
        g.fingerprint, g.source, g.status, g.message, c.results, func.coalesce(s.tenants, 0), g.first_seen, g.last_seen
    )
    query = query.join(c.fingerprint.table, c.fingerprint == g.fingerprint)
    query = query.outerjoin(s.fingerprint.table, s.fingerprint == g.fingerprint)
    return query.where(*_alike(wanted)).order_by(g.last_seen.desc(), g.fingerprint)


def _groups_of_results(scope: Scope, window: Window, wanted: Wanted) -> Select[Any]:
    results = scope.of(source_results)
    g, r = error_groups.c, results.c
    last = func.max(r.closed_at)
    query = select(
        g.fingerprint, g.source, g.status, g.message, func.count(), func.count(r.tenant_id.distinct()),
        func.min(r.closed_at), last,
    ).join(results, r.fingerprint == g.fingerprint)  # fmt: skip
    query = query.where(r.fingerprint.is_not(None), *([] if wanted.tenant is None else [r.tenant_id == wanted.tenant]))
    query = query.where(r.closed_at >= window.since, r.closed_at < _after(window), *_alike(wanted))
    query = query.group_by(g.fingerprint, g.source, g.status, g.message)
    return query.order_by(last.desc(), g.fingerprint)


def _after(window: Window) -> str:
    return f"{window.until}~"  # after every stamp of the day


def _alike(wanted: Wanted) -> Iterator[Any]:
    """Yield what groups must be like."""
    g = error_groups.c
    if wanted.source is not None:
        yield g.source == wanted.source
    if wanted.status is not None:
        yield g.status == wanted.status
    if wanted.text:
        yield func.lower(g.message).contains(wanted.text.lower(), autoescape=True)


# Failures an earlier system wrote down.


def _old(connection: Connection, scope: Scope, wanted: Wanted, limit: int) -> Iterator[OldStatus]:
    p = scope.of(prospects).c
    query = select(p.id, p.tenant_id, p.enrichment_source_status).where(*_old_ones(p, wanted.tenant))
    left = limit
    for row in connection.execute(query.order_by(p.id).limit(_OLD_LOOKED_AT)):
        for source, said in sorted(read_statuses(msgspec.json.decode(row.enrichment_source_status)).items()):
            at = said.at.isoformat() if said.at else None
            old = OldStatus(row.id, row.tenant_id, source, said.status, at, said.error)
            if said.status not in _NOT_A_FAILURE and _is_wanted(old, wanted) and left:
                left -= 1
                yield old


def _is_wanted(old: OldStatus, wanted: Wanted) -> bool:
    said = wanted.text is None or wanted.text.lower() in (old.error or "").lower()
    return wanted.source in (None, old.source) and wanted.status in (None, old.status) and said


def _count_old(connection: Connection, scope: Scope, tenant_id: str | None) -> int:
    p = scope.of(prospects).c
    return int(connection.execute(select(func.count(p.id)).where(*_old_ones(p, tenant_id))).scalar_one())


def _old_ones(p: Any, tenant_id: str | None) -> list[Any]:
    """Return the conditions of the index that holds exactly these, and of the tenant, if one is given."""
    whose = [] if tenant_id is None else [p.tenant_id == tenant_id]
    return [p.last_run_id.is_(None), p.enrichment_source_status != literal_column("'{}'"), *whose]


# The results behind groups, newest first.


class ErrorRow(msgspec.Struct, frozen=True):
    """One failed source result; `attempt_id` is the call that decided it, where there was one."""

    id: str
    closed_at: str
    tenant_id: str
    prospect_id: str
    source: str
    status: str
    error: str | None
    fingerprint: str
    attempt_id: str | None
    run_id: str


class Errors(msgspec.Struct, frozen=True):
    """A page of failed source results, newest first; `next` is where the following page begins.

    `old` are failures of which only words are known, and not when they were: they are on the last page.
    """

    about: About
    errors: list[ErrorRow]
    next: tuple[str, str] | None
    old: list[OldStatus] = []


def errors(
    connection: Connection,
    scope: Scope,
    now: datetime,
    window: Window,
    wanted: Wanted = EVERYTHING,
    *,
    fingerprint: str | None = None,
    before: tuple[str, str] | None = None,
    limit: int = 100,
) -> Errors:
    """Return failed source results of some UTC days, all or of one group; `before` is the `next` of a page."""
    results = scope.of(source_results)
    r = results.c
    query = select(*(r[name] for name in ErrorRow.__struct_fields__)).where(r.fingerprint.is_not(None))
    query = query.where(r.closed_at >= window.since, r.closed_at < _after(window))
    if wanted.tenant is not None:
        query = query.where(r.tenant_id == wanted.tenant)
    if before is not None:
        query = query.where(or_(r.closed_at < before[0], and_(r.closed_at == before[0], r.id < before[1])))
    groups = [fingerprint] if fingerprint is not None else _groups_alike(connection, wanted)
    found = _newest(connection, query, results, groups, window, limit + 1)
    more = (found[limit - 1].closed_at, found[limit - 1].id) if len(found) > limit else None
    old = list(_old(connection, scope, wanted, limit)) if more is None and fingerprint is None else []
    return Errors(about(window, now, "source_results", "error_groups", "prospects"), found[:limit], more, old)


def _groups_alike(connection: Connection, wanted: Wanted) -> list[str] | None:
    """Return the groups a source, a class and a text mean; `None` where none of these was given."""
    conditions = list(_alike(wanted))
    if not conditions:
        return None
    return list(connection.execute(select(error_groups.c.fingerprint).where(*conditions)).scalars())


def _newest(
    connection: Connection,
    query: Select[Any],
    results: FromClause,
    groups: Sequence[str] | None,
    window: Window,
    limit: int,
) -> list[ErrorRow]:
    """Return the newest rows: group by group where few failures are of these groups, else by going back in time."""
    r = results.c
    query = query.order_by(r.closed_at.desc(), r.id.desc()).limit(limit)
    if groups is None:
        return [ErrorRow(*row) for row in connection.execute(query)]
    if not _are_few(connection, groups, window):
        return [ErrorRow(*row) for row in connection.execute(query.where(r.fingerprint.in_(groups)))]
    found = [ErrorRow(*row) for one in groups for row in connection.execute(query.where(r.fingerprint == one))]
    return sorted(found, key=lambda row: (row.closed_at, row.id), reverse=True)[:limit]


def _are_few(connection: Connection, groups: Sequence[str], window: Window) -> bool:
    d = error_days.c
    within = func.sum(d.results)
    query = select(d.fingerprint, within).where(d.day >= window.since).group_by(d.fingerprint)
    counts = {fingerprint: int(count) for fingerprint, count in connection.execute(query)}
    return sum(counts.get(one, 0) for one in groups) * _SPARSE < sum(counts.values())


class OneError(msgspec.Struct, frozen=True):
    """A failed source result with the attempts it led to, oldest first.

    `attempts_dropped` says that single calls of its days were dropped by age, so that which they were is not known.
    """

    error: ErrorRow
    attempts: list[AttemptRow]
    attempts_dropped: bool


def one_error(connection: Connection, scope: Scope, source_result_id: str) -> OneError:
    """Return a failed source result with its attempts; raises `NotThere` where there is none of that id."""
    r = scope.of(source_results).c
    query = select(*(r[name] for name in ErrorRow.__struct_fields__), r.opened_at)
    row = connection.execute(query.where(r.id == source_result_id, r.fingerprint.is_not(None))).first()
    if row is None:
        raise NotThere(f"there is no failed source result {source_result_id!r}")
    dropped = row.opened_at[:10] <= (ledger_horizon(connection) or "")
    return OneError(ErrorRow(*row[:-1]), attempts_of(connection, scope, source_result_id), dropped)


def attempts_of(connection: Connection, scope: Scope, source_result_id: str) -> list[AttemptRow]:
    """Return the attempts a source result led to, oldest first."""
    a = scope.of(every_attempt).c
    query = select(*(a[name] for name in AttemptRow.__struct_fields__)).where(a.source_result_id == source_result_id)
    return [AttemptRow(*row) for row in connection.execute(query.order_by(a.begun_at, a.id))]
