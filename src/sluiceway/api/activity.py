"""Activity: what the users of a tenant did, one by one, and counted by user and day."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Query
from sqlalchemy import Connection, and_, func, or_, select

from sluiceway.activity import Action
from sluiceway.admin.answer import About, Window, about, days_between
from sluiceway.api.answers import Json, answers
from sluiceway.api.caller import Asker, who_may
from sluiceway.api.paging import CursorText, Limit, after, cursor
from sluiceway.api.windows import Since, Until
from sluiceway.store.schema import activity, activity_days
from sluiceway.tenancy.roles import Permission
from sluiceway.tenancy.scope import Scope

router = APIRouter(prefix="/activity", tags=["activity"])

Reader = Annotated[Asker, who_may(Permission.READ_ACTIVITY)]
User = Annotated[str | None, Query(max_length=200, description="Only what this user did (an id).")]
Did = Annotated[Action | None, Query(description="Only this action.")]


class Act(msgspec.Struct, frozen=True):
    """Something that a user did; `target` is what to, by its id. `docs/glossary.md` says what each action is about."""

    id: str
    at: str
    user_id: str
    action: str
    target: str | None


class Acts(msgspec.Struct, frozen=True):
    """What users did, newest first; `next_cursor` is `null` on the last page."""

    about: About
    items: list[Act]
    next_cursor: str | None


class UserDay(msgspec.Struct, frozen=True):
    """How often a user did anything on a UTC day, and how often what."""

    day: str
    user_id: str
    events: int
    actions: dict[str, int]


class UserDays(msgspec.Struct, frozen=True):
    """Counts of what users did, by UTC day and user, the newest day first; nothing done is no row."""

    about: About
    days: list[UserDay]
    events: int


@router.get("", name="list_activity", **answers(Acts))
async def read(
    asker: Reader,
    user: User = None,
    action: Did = None,
    since: Since = None,
    until: Until = None,
    limit: Limit = 50,
    cursor_text: CursorText = None,
) -> Json:
    """List what users of the tenant did, newest first: on the last 30 UTC days, or from one day to another."""
    window = days_between(asker.world.now, since, until, 30)
    start = after(cursor_text, tuple[str, str])
    scope, now = Scope(asker.tenant_id), asker.world.now
    return Json(await asker.world.read(acts, scope, now, window, user, action, start, limit))


def acts(
    connection: Connection,
    scope: Scope,
    now: datetime,
    window: Window,
    user: str | None,
    action: Action | None,
    before: tuple[str, str] | None,
    limit: int,
) -> Acts:
    """Return a page of what users did."""
    a = scope.of(activity).c
    query = select(*(a[name] for name in Act.__struct_fields__))
    after_the_last = f"{window.until}~"  # after every stamp of the day
    query = query.where(a.at >= window.since, a.at < after_the_last, *_alike(a, user, action))
    if before is not None:
        query = query.where(a.at <= before[0], or_(a.at < before[0], and_(a.at == before[0], a.id < before[1])))
    found = [Act(*row) for row in connection.execute(query.order_by(a.at.desc(), a.id.desc()).limit(limit + 1))]
    more = cursor(found[limit - 1].at, found[limit - 1].id) if len(found) > limit else None
    return Acts(about(window, now, "activity"), found[:limit], more)


@router.get("/days", name="count_activity", **answers(UserDays))
async def days(asker: Reader, user: User = None, action: Did = None, since: Since = None, until: Until = None) -> Json:
    """Count what users of the tenant did, by user and UTC day: of the last 14 days, or from one day to another."""
    window = days_between(asker.world.now, since, until, 14)
    scope, now = Scope(asker.tenant_id), asker.world.now
    return Json(await asker.world.read(user_days, scope, now, window, user, action))


def user_days(
    connection: Connection, scope: Scope, now: datetime, window: Window, user: str | None, action: Action | None
) -> UserDays:
    """Return how often users did what, day by day."""
    d = scope.of(activity_days).c
    query = select(d.day, d.user_id, d.action, func.sum(d.events)).where(d.day >= window.since, d.day <= window.until)
    query = query.where(*_alike(d, user, action)).group_by(d.day, d.user_id, d.action)
    counts: dict[tuple[str, str], dict[str, int]] = {}
    for day, who, did, events in connection.execute(query.order_by(d.day.desc(), d.user_id, d.action)):
        counts.setdefault((day, who), {})[did] = int(events)
    rows = [UserDay(day, who, sum(actions.values()), actions) for (day, who), actions in counts.items()]
    return UserDays(about(window, now, "activity_days"), rows, sum(row.events for row in rows))


def _alike(columns: Any, user: str | None, action: Action | None) -> list[Any]:
    alike = [] if user is None else [columns.user_id == user]
    return alike if action is None else [*alike, columns.action == action.value]
