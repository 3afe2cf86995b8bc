"""Which failures are the same: a fingerprint of source, status and what the message says once its particulars are out.

The fingerprint is stored with the source result, so a group opens to exactly its rows.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from hashlib import sha256
from typing import Any, Final

from sqlalchemy import Connection, Select, case, delete, func, insert, select, update

from sluiceway.outcome import ERASED, FAILURES
from sluiceway.rollups.outcomes import Ended
from sluiceway.rollups.rollup import Rollup
from sluiceway.store.bulk import Update, Upsert
from sluiceway.store.schema import error_days, error_groups, error_tenants, source_results

_LONGEST: Final = 300
_LOOKED_AT: Final = 2000

# The order matters: an address holds numbers and paths, a time is made of numbers, and a number is the last thing
# that can be taken for a particular. The status of an answer is what the message says, so it stays.
_PARTICULARS: Final = (
    (re.compile(r"\b[a-z][a-z0-9+.-]*://[^\s\"'<>)\]}]+", re.IGNORECASE), "<url>"),
    (re.compile(r"[^\s@<>\"'(),;:]+@[^\s@<>\"'(),;:]+\.[a-z]{2,}|\[e-mail\]", re.IGNORECASE), "<e-mail>"),
    (re.compile(r"\b\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:[.,]\d+)?)?(?:Z|[+-]\d\d:?\d\d)?)?"), "<time>"),
    (re.compile(r"\b\d\d?:\d\d(?::\d\d(?:[.,]\d+)?)?\b"), "<time>"),
    (re.compile(r"\b[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}\b", re.IGNORECASE), "<id>"),
    (re.compile(r"\b(?=[a-z_-]*\d)[a-z0-9_-]{12,}\b", re.IGNORECASE), "<id>"),
    (re.compile(r"(?<![\w<])(?:/[\w.~%-]+){2,}/?"), "<path>"),
    (re.compile(r"(?<!HTTP )(?<![\w<])[-+]?\d++(?:[.,]\d++)*+(?![\w>])"), "<n>"),
    (re.compile(r"(?<!HTTP )(?<![\w<])\d++(?:[.,]\d++)*+(?=(?:ms|s|m|h|kb|mb|gib|mib|kib)\b)", re.IGNORECASE), "<n>"),
)


def normal_message(error: str | None) -> str:
    """Return what an error says without addresses, times, ids, paths and numbers; empty where it says nothing."""
    text = " ".join((error or "")[:_LOOKED_AT].split())
    for particular, word in _PARTICULARS:
        text = particular.sub(word, text)
    return text[:_LONGEST]


def fingerprint(source: str, status: str, error: str | None) -> str | None:
    """Return the 16 characters that failures of one kind have in common; `None` for what is no failure."""
    return _fingerprint(source, status, error) if status in FAILURES else None


@lru_cache(maxsize=1024)
def _fingerprint(source: str, status: str, error: str | None) -> str:
    return sha256(f"{source}\0{status}\0{normal_message(error)}".encode()).hexdigest()[:16]


# Folding.

_SEEN: Final = ("first_seen", "last_seen", "results")


def _upsert(table: Any, columns: tuple[str, ...], key: tuple[str, ...]) -> Upsert:
    name = table.name
    earlier = f"CASE WHEN excluded.first_seen < {name}.first_seen THEN excluded.first_seen ELSE {name}.first_seen END"
    later = f"CASE WHEN excluded.last_seen > {name}.last_seen THEN excluded.last_seen ELSE {name}.last_seen END"
    change = f"first_seen = {earlier}, last_seen = {later}, results = {name}.results + excluded.results"
    return Upsert(table, columns, key, change)


_GROUPS = _upsert(error_groups, ("fingerprint", "source", "status", "message", *_SEEN), ("fingerprint",))
_TENANTS = _upsert(error_tenants, ("fingerprint", "tenant_id", *_SEEN), ("fingerprint", "tenant_id"))


def _folded(day: str | None) -> Select[Any]:
    r = source_results.c
    failed = select(r.fingerprint, func.substr(r.closed_at, 1, 10).label("day"))
    f = failed.where(r.fingerprint.is_not(None)).subquery().c
    query = select(f.fingerprint, f.day, func.count().label("results")).group_by(f.fingerprint, f.day)
    return query if day is None else query.where(f.day == day)


ERROR_DAYS = Rollup(error_days, _folded, of_attempts=False)


def fold_errors(connection: Connection, ended: Iterable[Ended]) -> None:
    """Add failures that were just closed to their groups."""
    groups: dict[tuple[str, ...], list[Any]] = {}
    tenants: dict[tuple[str, ...], list[Any]] = {}
    days: dict[tuple[str, ...], list[int]] = {}
    for one in ended:
        if one.fingerprint is not None:
            _see(groups, (one.fingerprint, one.source, one.status, normal_message(one.error)), one.closed_at)
            _see(tenants, (one.fingerprint, one.tenant_id), one.closed_at)
            days.setdefault((one.fingerprint, one.closed_at[:10]), [0])[0] += 1
    _GROUPS.run(connection, [(*key, *seen) for key, seen in sorted(groups.items())])
    _TENANTS.run(connection, [(*key, *seen) for key, seen in sorted(tenants.items())])
    ERROR_DAYS.add(connection, days)


def _see(seen: dict[tuple[str, ...], list[Any]], key: tuple[str, ...], at: str) -> None:
    first, last, count = seen.get(key, (at, at, 0))
    seen[key] = [min(first, at), max(last, at), count + 1]


# Rebuilding.

_MARK = Update(
    source_results,
    ("id", "fingerprint"),
    change="fingerprint = v.fingerprint",
    where="source_results.id = v.id",
)


def mark_failures(connection: Connection) -> None:
    """Give failures that were closed by an earlier version, or were left without one, their fingerprint."""
    r = source_results.c
    query = select(r.id, r.source, r.status, r.error)
    query = query.where(r.closed_at.is_not(None), r.fingerprint.is_(None), r.status.in_(sorted(FAILURES)))
    for rows in connection.execute(query.execution_options(yield_per=5000)).partitions():
        _MARK.run(connection, [(row.id, fingerprint(row.source, row.status, row.error)) for row in rows])


def rebuild_groups(connection: Connection) -> None:
    """Throw away the groups, and who they are about, and fold the failures anew."""
    for table in (error_tenants, error_groups):
        connection.execute(delete(table))
    connection.execute(insert(error_tenants).from_select(["fingerprint", "tenant_id", *_SEEN], _by_tenant()))
    _GROUPS.run(connection, [_group(row) for row in connection.execute(_by_group())])


def groups_are_right(connection: Connection) -> bool:
    """Tell whether groups, and who they are about, are what the failures add up to."""
    t, g = error_tenants.c, error_groups.c
    tenants = select(t.fingerprint, t.tenant_id, *(t[name] for name in _SEEN))
    groups = select(g.fingerprint, g.source, g.status, g.message, *(g[name] for name in _SEEN))
    held = {tuple(row) for row in connection.execute(groups)}
    return held == {_group(row) for row in connection.execute(_by_group())} and _rows(connection, tenants) == _rows(
        connection, _by_tenant()
    )


def _rows(connection: Connection, query: Select[Any]) -> set[tuple[Any, ...]]:
    return {tuple(row) for row in connection.execute(query)}


def _by_tenant() -> Select[Any]:
    r = source_results.c
    seen = (func.min(r.closed_at), func.max(r.closed_at), func.count())
    query = select(r.fingerprint, r.tenant_id, *seen).where(r.fingerprint.is_not(None))
    return query.group_by(r.fingerprint, r.tenant_id)


def _by_group() -> Select[Any]:
    r = source_results.c
    seen = (func.min(r.closed_at), func.max(r.closed_at), func.count())
    telling = (func.max(case((_tells(), r.error))).label("error"), func.sum(case((_tells(), 1), else_=0)).label("told"))
    query = select(r.fingerprint, r.source, r.status, *telling, *seen)
    return query.where(r.fingerprint.is_not(None)).group_by(r.fingerprint, r.source, r.status)


def _tells() -> Any:
    """Return the condition that an error still says what it said: erasing a person takes the words out of theirs."""
    error = func.coalesce(source_results.c.error, "")
    return (error != ERASED) & error.not_like(f"HTTP ___: {ERASED}")


def _group(row: Any) -> tuple[Any, ...]:
    """Return a group as it is stored; all its failures say the same, so any of their errors tells what."""
    message = normal_message(row.error) if row.told else ERASED
    return (row.fingerprint, row.source, row.status, message, *row[5:])


def forget_messages(connection: Connection, fingerprints: Iterable[str]) -> None:
    """Take the words out of groups that nobody but erased people is left in."""
    r, g = source_results.c, error_groups.c
    for one in sorted(fingerprints):
        told = connection.execute(select(r.id).where(r.fingerprint == one, _tells()).limit(1)).first()
        if told is None:
            connection.execute(update(error_groups).where(g.fingerprint == one).values(message=ERASED))
