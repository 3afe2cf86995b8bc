"""What users did: recorded once under an id, and folded into daily counts in the same transaction.

The counts say how often each user and each tenant did what, and how many prospects were viewed, enriched or exported
in any stretch of days that ends now: every prospect is counted on the day that was last done to it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, Select, and_, delete, func, insert, literal_column, select, union_all, update

from sluiceway.identifier import new_id, reissued
from sluiceway.rollups.rollup import Drift, Key, Rollup
from sluiceway.rollups.usage import VIEWED, take_from_unviewed
from sluiceway.store.bulk import Insert, Lookup, Update, Upsert
from sluiceway.store.schema import (
    action_days,
    active_users,
    activity,
    activity_days,
    exported,
    prospect_marks,
    source_results,
)


class Action(StrEnum):
    """What a user can do. A closed set; `docs/glossary.md` says what each is about (its target)."""

    LOGIN = "login"
    SEARCH_EXECUTED = "search_executed"
    PROFILE_VIEWED = "profile_viewed"
    PROFILE_ENRICHED = "profile_enriched"
    PROSPECT_IMPORTED = "prospect_imported"
    PROSPECT_DELETED = "prospect_deleted"
    CSV_UPLOADED = "csv_uploaded"
    CSV_EXPORTED = "csv_exported"
    QUOTA_CHANGED = "quota_changed"
    USER_CHANGED = "user_changed"
    KEY_CREATED = "key_created"
    KEY_REVOKED = "key_revoked"


MARKED: Final = (Action.PROFILE_VIEWED, Action.PROFILE_ENRICHED, Action.CSV_EXPORTED)
"""What is also counted in distinct prospects. An export's are in `exported`, the others' is the target."""


class Event(msgspec.Struct, frozen=True, gc=False):
    """One thing a user did. The same id counts once; `tenant_id` is empty for what concerns the whole platform."""

    action: Action
    tenant_id: str
    user_id: str
    at: str
    target: str | None = None
    id: str = msgspec.field(default_factory=new_id)


class Export(msgspec.Struct, frozen=True, gc=False):
    """A prospect that an export (an event's id) took out."""

    activity_id: str
    prospect_id: str
    tenant_id: str
    at: str


_RECORD = Insert(activity, ("tenant_id", "id", "day", "at", "user_id", "action", "target"), returning="tenant_id, id")
_EXPORT = Insert(exported, ("prospect_id", "tenant_id", "activity_id"), returning="prospect_id, activity_id")


def record(connection: Connection, events: Sequence[Event]) -> set[str]:
    """Record what users did, and count what was not recorded before; returns the ids of that."""
    if not events:
        return set()
    once = {(e.tenant_id, e.id): e for e in reversed(events)}
    rows = [(*key, e.at[:10], e.at, e.user_id, e.action.value, e.target) for key, e in sorted(once.items())]
    done = [once[row[0], row[1]] for row in _RECORD.run(connection, rows)]
    _count(connection, done)
    _mark(connection, [(e.target, e.action.value, e.tenant_id, e.at[:10]) for e in done if _is_about_a_prospect(e)])
    return {event.id for event in done}


def _is_about_a_prospect(event: Event) -> bool:
    return event.action in MARKED[:2] and event.target is not None


def record_exported(connection: Connection, exports: Sequence[Export]) -> None:
    """Note which prospects exports took out, and count them; what was noted before is not counted again."""
    rows = [(e.prospect_id, e.tenant_id, e.activity_id) for e in exports]
    noted = {tuple(row) for row in _EXPORT.run(connection, rows)}
    taken = [e for e in exports if (e.prospect_id, e.activity_id) in noted]
    _mark(connection, [(e.prospect_id, Action.CSV_EXPORTED.value, e.tenant_id, e.at[:10]) for e in taken])


# Counting.


def _folded_days(day: str | None) -> Select[Any]:
    a = activity.c
    keys = (a.day, a.tenant_id, a.user_id, a.action)
    query = select(*keys, func.count().label("events")).group_by(*keys)
    return query if day is None else query.where(a.day == day)


def _marks() -> Select[Any]:
    """Return the query for the day on which each prospect was last viewed, enriched or exported."""
    a, e = activity.c, exported.c
    single = select(a.target.label("prospect_id"), a.action, a.tenant_id, a.day)
    single = single.where(a.action.in_(MARKED[:2]), a.target.is_not(None))
    many = select(e.prospect_id, a.action, a.tenant_id, a.day).join(
        activity, (a.tenant_id == e.tenant_id) & (a.id == e.activity_id)
    )
    both = union_all(single, many).subquery().c
    query = select(both.prospect_id, both.action, func.min(both.tenant_id).label("tenant_id"))
    return query.add_columns(func.max(both.day).label("day")).group_by(both.prospect_id, both.action)


def _folded_actions(day: str | None) -> Select[Any]:
    a, marks = activity.c, _marks().subquery().c
    nothing: Any = literal_column("0")
    one: Any = literal_column("1")
    done = select(a.action, a.day, a.tenant_id, one.label("events"), nothing.label("prospects"))
    last = select(marks.action, marks.day, marks.tenant_id, nothing, one)
    both = union_all(done, last).subquery().c
    keys = (both.action, both.day, both.tenant_id)
    sums = (func.sum(both.events).label("events"), func.sum(both.prospects).label("prospects"))
    query = select(*keys, *sums).group_by(*keys)
    return query if day is None else query.where(both.day == day)


USER_DAYS: Final = Rollup(activity_days, _folded_days, of_attempts=False)
ACTION_DAYS: Final = Rollup(action_days, _folded_actions, of_attempts=False)

_USERS = Upsert(
    active_users,
    ("tenant_id", "user_id", "first_at", "last_at"),
    ("tenant_id", "user_id"),
    "first_at = CASE WHEN excluded.first_at < active_users.first_at THEN excluded.first_at "
    "ELSE active_users.first_at END, "
    "last_at = CASE WHEN excluded.last_at > active_users.last_at THEN excluded.last_at ELSE active_users.last_at END",
)


def _count(connection: Connection, done: Iterable[Event]) -> None:
    users: dict[Key, list[int]] = {}
    actions: dict[Key, list[int]] = {}
    seen: dict[tuple[str, str], tuple[str, str]] = {}
    for e in done:
        day, action = e.at[:10], e.action.value
        users.setdefault((day, e.tenant_id, e.user_id, action), [0])[0] += 1
        actions.setdefault((action, day, e.tenant_id), [0, 0])[0] += 1
        first, last = seen.get((e.tenant_id, e.user_id), (e.at, e.at))
        seen[e.tenant_id, e.user_id] = (min(first, e.at), max(last, e.at))
    USER_DAYS.add(connection, users)
    ACTION_DAYS.add(connection, actions)
    _USERS.run(connection, [(*whose, *when) for whose, when in sorted(seen.items())])


# Distinct prospects.

_MARKS: Final = ("prospect_id", "action", "tenant_id", "day")
_MARKED = Lookup(
    prospect_marks,
    ("prospect_id", "action"),
    select="w.prospect_id, w.action, w.tenant_id, w.day",
    where="w.prospect_id = v.prospect_id AND w.action = v.action",
)
_NEW_MARK = Insert(prospect_marks, _MARKS, returning="prospect_id, action")
_MOVE_MARK = Update(
    prospect_marks,
    ("prospect_id", "action", "day"),
    change="day = v.day",
    where="prospect_marks.prospect_id = v.prospect_id AND prospect_marks.action = v.action",
)


def _mark(connection: Connection, done: Iterable[tuple[Any, str, str, str]]) -> None:
    """Move prospects to the day on which something was last done to them: prospect, action, tenant, day."""
    latest: dict[tuple[str, str], tuple[str, str]] = {}
    for prospect_id, action, tenant_id, day in done:
        before = latest.get((prospect_id, action))
        latest[prospect_id, action] = (tenant_id, day) if before is None else (before[0], max(before[1], day))
    if not latest:
        return
    moved: dict[Key, list[int]] = {}
    first = {(row[0], row[1]) for row in _NEW_MARK.run(connection, [(*key, *to) for key, to in sorted(latest.items())])}
    for key in first:
        tenant_id, day = latest[key]
        moved.setdefault((key[1], day, tenant_id), [0, 0])[1] += 1
    if again := {key: latest[key][1] for key in latest if key not in first}:
        _move_marks(connection, again, moved)
    take_from_unviewed(connection, (prospect_id for prospect_id, action in sorted(first) if action == VIEWED))
    ACTION_DAYS.add(connection, moved)


def _move_marks(connection: Connection, again: Mapping[tuple[str, str], str], moved: dict[Key, list[int]]) -> None:
    """Move marks there are already to a later day."""
    later = []
    for prospect_id, action, tenant_id, before in _MARKED.run(connection, sorted(again)):
        day = again[prospect_id, action]
        if before < day:
            moved.setdefault((action, before, tenant_id), [0, 0])[1] -= 1
            moved.setdefault((action, day, tenant_id), [0, 0])[1] += 1
            later.append((prospect_id, action, day))
    _MOVE_MARK.run(connection, later)


class Done(msgspec.Struct, frozen=True):
    """Something that was done to a prospect: viewed, enriched, imported, exported, …"""

    at: str
    user_id: str
    action: str


def done_to(connection: Connection, tenant_id: str, prospect_id: str) -> list[Done]:
    """Return what users did to a prospect, oldest first: who viewed it, enriched it, took it out."""
    a, e = activity.c, exported.c
    mine = (a.tenant_id == tenant_id, a.target == prospect_id)
    of_runs = select(source_results.c.run_id).where(source_results.c.prospect_id == prospect_id)
    exports = select(e.activity_id).where(e.prospect_id == prospect_id, e.tenant_id == tenant_id)
    which = (
        and_(*mine, a.action != literal_column("'profile_enriched'")),
        and_(*mine, a.id.in_(of_runs)),
        and_(a.tenant_id == tenant_id, a.id.in_(exports)),
    )
    parts = [select(a.at, a.user_id, a.action).where(one) for one in which]
    return sorted((Done(*row) for part in parts for row in connection.execute(part)), key=lambda done: done.at)


_STAND_IN = Update(
    activity,
    ("tenant_id", "id", "new_id", "target"),
    change="id = v.new_id, target = v.target",
    where="activity.tenant_id = v.tenant_id AND activity.id = v.id",
)


def stand_in(connection: Connection, tenant_id: str, prospect_id: str, other: str, run_ids: Mapping[str, str]) -> None:
    """Put an id of nobody in an erased prospect's place, so that every count stays and none leads to them.

    What was recorded of it gets new ids; `run_ids` are the new ids of its runs, by which enrichments are found.
    """
    a = activity.c
    of_the_index = a.action != literal_column("'profile_enriched'")
    query = select(a.id).where(a.tenant_id == tenant_id, a.target == prospect_id, of_the_index)
    ids = {found: reissued(found) for found in connection.execute(query).scalars()} | dict(run_ids)
    _STAND_IN.run(connection, [(tenant_id, old, new, other) for old, new in sorted(ids.items())])
    for table in (exported, prospect_marks):
        connection.execute(update(table).where(table.c.prospect_id == prospect_id).values(prospect_id=other))


# Rebuilding.


def rebuild(connection: Connection) -> None:
    """Fold everything users did anew."""
    connection.execute(delete(prospect_marks))
    connection.execute(insert(prospect_marks).from_select(_MARKS, _marks()))
    for rollup in (USER_DAYS, ACTION_DAYS):
        rollup.rebuild_all(connection, "")
    connection.execute(delete(active_users))
    a = activity.c
    seen = select(a.tenant_id, a.user_id, func.min(a.at), func.max(a.at)).group_by(a.tenant_id, a.user_id)
    connection.execute(insert(active_users).from_select(["tenant_id", "user_id", "first_at", "last_at"], seen))


def drifts(connection: Connection, since: str = "") -> list[Drift]:
    """Compare the counts with what was recorded, from a UTC day on."""
    return [drift for rollup in (USER_DAYS, ACTION_DAYS) for drift in rollup.drifts(connection, since, "")]
