"""What each tenant did lately, beside its peers, and what its users did."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, func, select

from sluiceway.activity import Action
from sluiceway.admin.answer import About, Figure, Window, about, last_days
from sluiceway.store.schema import action_days, active_users, activity_days, tenant_days
from sluiceway.tenancy.scope import Scope

_FEWEST: Final = 4
"""Under so many tenants with data nobody is ranked."""


class Class(StrEnum):
    """How a tenant is doing beside its peers; `new` has no data at all, `unranked` too few peers."""

    HEALTHY = "healthy"
    MODERATE = "moderate"
    NEEDS_ATTENTION = "needs_attention"
    NEW = "new"
    UNRANKED = "unranked"


class UserActivity(msgspec.Struct, frozen=True):
    """What one user did on the days of the answer."""

    user_id: str
    actions: int
    searches: int
    views: int
    enrichments: int
    exports: int
    last_active: str


class TenantActivity(msgspec.Struct, frozen=True):
    """What one tenant did on the days of the answer. Dollars are known ones; `unpriced` calls are in no sum.

    `actions` is everything its users did, which its class is about. `by_user` is what each did, where that was asked.
    """

    tenant_id: str
    users: int
    actions: int
    searches: int
    views: int
    enrichments: int
    exports: int
    usd_micros: int
    unpriced: int
    last_active: str | None
    standing: Class
    share_below: Figure
    by_user: list[UserActivity] | None = None


class TenantsActivity(msgspec.Struct, frozen=True):
    """The answer: all tenants, most active first."""

    about: About
    tenants: list[TenantActivity]
    how: str = (
        "by recorded actions: top quarter healthy, bottom quarter needs attention, the rest moderate; tenants that "
        "tie stand together, and on a border between two classes they are moderate; a tenant nothing was ever recorded "
        f"for is new; under {_FEWEST} tenants with data nobody is ranked"
    )


class UsersActivity(msgspec.Struct, frozen=True):
    """The answer about one tenant's users, most active first."""

    about: About
    tenant_id: str
    users: list[UserActivity]


def tenants_activity(
    connection: Connection, scope: Scope, now: datetime, days: int = 7, known: Iterable[str] = ()
) -> TenantsActivity:
    """Return what every tenant did on the last UTC days. `known` are tenants that may have done nothing yet."""
    window = last_days(now, days)
    actions, users = _actions(connection, scope, window), _users(connection, scope, window)
    spent, last = _spent(connection, scope, window), _last_active(connection, scope)
    with_data = sorted((actions.keys() | spent.keys() | last.keys()) - {""})
    classes = standing({tenant: sum(actions[tenant].values()) for tenant in with_data})
    tenants = []
    for tenant in sorted({*with_data, *known}):
        usd, unpriced = spent.get(tenant, (0, 0))
        ranked, below = classes.get(tenant, (Class.NEW, Figure(None, "nothing was ever recorded")))
        counts, active = _counts(actions[tenant]), users.get(tenant, 0)
        tenants.append(TenantActivity(tenant, active, *counts, usd, unpriced, last.get(tenant), ranked, below))
    tenants.sort(key=lambda tenant: -tenant.actions)
    return TenantsActivity(about(window, now, "action_days", "activity_days", "tenant_days", "active_users"), tenants)


def standing(scores: Mapping[str, int]) -> dict[str, tuple[Class, Figure]]:
    """Rank tenants by what they did; returns each one's class and which share of the others did less."""
    count = len(scores)
    if count < _FEWEST:
        reason = f"only {count} of the {_FEWEST} tenants it takes have data"
        return {tenant: (Class.UNRANKED, Figure(None, reason)) for tenant in scores}
    values = Counter(scores.values())
    below: dict[int, int] = {}
    seen = 0
    for score, tied in sorted(values.items()):
        below[score] = seen
        seen += tied
    found = {}
    for tenant, score in scores.items():
        at_most, at_least = below[score] + values[score], count - below[score]
        found[tenant] = (_class(at_most, at_least, count), Figure(below[score] / (count - 1)))
    return found


def _class(at_most: int, at_least: int, count: int) -> Class:
    """Place a tenant by how many (it and those tied included) did at most, and at least, what it did."""
    if at_least * 4 <= count:
        return Class.HEALTHY
    return Class.NEEDS_ATTENTION if at_most * 4 <= count else Class.MODERATE


def only(found: TenantsActivity, tenant_id: str) -> TenantsActivity:
    """Return what the answer says of one tenant, as it stands among all."""
    return msgspec.structs.replace(found, tenants=[one for one in found.tenants if one.tenant_id == tenant_id])


def with_users(connection: Connection, scope: Scope, found: TenantsActivity) -> TenantsActivity:
    """Return the same answer with what each user of these tenants did."""
    users = _by_user(connection, scope, found.about.window, [tenant.tenant_id for tenant in found.tenants])
    tenants = [msgspec.structs.replace(one, by_user=users.get(one.tenant_id, [])) for one in found.tenants]
    return msgspec.structs.replace(found, tenants=tenants)


def users_activity(connection: Connection, scope: Scope, now: datetime, tenant_id: str, days: int = 7) -> UsersActivity:
    """Return what every user of one tenant did on the last UTC days."""
    window = last_days(now, days)
    users = _by_user(connection, scope, window, [tenant_id]).get(tenant_id, [])
    return UsersActivity(about(window, now, "activity_days", "active_users"), tenant_id, users)


def _by_user(
    connection: Connection, scope: Scope, window: Window, tenants: Collection[str]
) -> dict[str, list[UserActivity]]:
    """Return, by tenant, what each of its users did who ever did anything, most active first."""
    d, u = scope.of(activity_days).c, scope.of(active_users).c
    query = select(d.tenant_id, d.user_id, d.action, func.sum(d.events)).where(d.tenant_id.in_(tenants))
    query = query.where(d.day >= window.since, d.day <= window.until).group_by(d.tenant_id, d.user_id, d.action)
    counts: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for tenant, user, action, events in connection.execute(query):
        counts[tenant, user][action] += int(events)
    seen = select(u.tenant_id, u.user_id, u.last_at).where(u.tenant_id.in_(tenants)).order_by(u.user_id)
    found: dict[str, list[UserActivity]] = defaultdict(list)
    for tenant, user, last in connection.execute(seen):
        found[tenant].append(UserActivity(user, *_counts(counts[tenant, user]), last))
    return {tenant: sorted(users, key=lambda user: -user.actions) for tenant, users in found.items()}


_SHOWN: Final = (
    Action.SEARCH_EXECUTED,
    Action.PROFILE_VIEWED,
    Action.PROFILE_ENRICHED,
    Action.CSV_EXPORTED,
)


def _counts(actions: Mapping[str, int]) -> tuple[int, int, int, int, int]:
    searches, views, enrichments, exports = (actions.get(action, 0) for action in _SHOWN)
    return sum(actions.values()), searches, views, enrichments, exports


def _actions(connection: Connection, scope: Scope, window: Window) -> dict[str, Counter[str]]:
    found: dict[str, Counter[str]] = defaultdict(Counter)
    d = scope.of(action_days).c
    for action in Action:  # one by one, because the days of an action are together in the table
        query = select(d.tenant_id, func.sum(d.events)).where(d.action == action.value)
        query = query.where(d.day >= window.since, d.day <= window.until).group_by(d.tenant_id)
        for tenant, events in connection.execute(query):
            if events:
                found[tenant][action.value] += int(events)
    return found


def _users(connection: Connection, scope: Scope, window: Window) -> dict[str, int]:
    d = scope.of(activity_days).c
    distinct = select(d.tenant_id, d.user_id).distinct().where(d.day >= window.since, d.day <= window.until)
    users = distinct.subquery().c
    query = select(users.tenant_id, func.count()).group_by(users.tenant_id)
    return {tenant: int(count) for tenant, count in connection.execute(query)}


def _spent(connection: Connection, scope: Scope, window: Window) -> dict[str, Any]:
    d = scope.of(tenant_days).c
    query = select(d.tenant_id, func.sum(d.usd_micros), func.sum(d.unpriced))
    query = query.where(d.day >= window.since, d.day <= window.until).group_by(d.tenant_id)
    return {tenant: (int(usd), int(unpriced)) for tenant, usd, unpriced in connection.execute(query)}


def _last_active(connection: Connection, scope: Scope) -> dict[str, str]:
    u = scope.of(active_users).c
    query = select(u.tenant_id, func.max(u.last_at)).group_by(u.tenant_id)
    return {tenant: last for tenant, last in connection.execute(query)}  # noqa: C416 - a row is no pair to mypy
