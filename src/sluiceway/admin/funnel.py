"""From searches to exports: how far it goes, as events and as distinct prospects, and what was spent on the way."""

from __future__ import annotations

from datetime import datetime
from typing import Final

import msgspec
from sqlalchemy import Connection, FromClause, func, select

from sluiceway.activity import MARKED, Action
from sluiceway.admin.answer import About, Figure, Window, about, divided, last_days
from sluiceway.store.schema import action_days, provider_hours, tenant_days, unviewed_days
from sluiceway.tenancy.scope import Scope

_STAGES: Final = (Action.SEARCH_EXECUTED, Action.PROFILE_VIEWED, Action.PROFILE_ENRICHED, Action.CSV_EXPORTED)


class Stage(msgspec.Struct, frozen=True):
    """One step: how often it was done, and to how many distinct prospects (a search is about none)."""

    action: str
    events: int
    prospects: Figure


class Funnel(msgspec.Struct, frozen=True):
    """The answer. Money is in micro-dollars, as far as prices are known; `unpriced` calls are in no sum."""

    about: About
    stages: list[Stage]
    usd_micros: int
    unpriced: int
    usd_micros_unviewed: int
    unpriced_unviewed: int
    usd_micros_per_exported: Figure
    how: str = (
        "prospects are distinct over all days of the answer; unviewed is what was spent on these days on prospects "
        "whose profile nobody has viewed to this day; per exported prospect: all that was spent on these days ÷ "
        "distinct prospects exported on them"
    )


def funnel(connection: Connection, scope: Scope, now: datetime, days: int = 30) -> Funnel:
    """Return how far it went on the last UTC days, for everybody or for one tenant."""
    window = last_days(now, days)
    stages = [_stage(connection, scope, action, window) for action in _STAGES]
    of_all = scope.tenant_id is None
    usd, unpriced = _money(connection, provider_hours if of_all else scope.of(tenant_days), window)
    unviewed, unviewed_unpriced = _money(connection, scope.of(unviewed_days), window)
    exported = stages[-1].prospects.value or 0
    return Funnel(
        about(window, now, "action_days", "provider_hours" if of_all else "tenant_days", "unviewed_days"),
        stages,
        usd,
        unpriced,
        unviewed,
        unviewed_unpriced,
        divided(usd, exported, "no prospect was exported"),
    )


def _stage(connection: Connection, scope: Scope, action: Action, window: Window) -> Stage:
    d = scope.of(action_days).c
    query = select(func.coalesce(func.sum(d.events), 0), func.coalesce(func.sum(d.prospects), 0))
    # later than the window nothing can be, and a prospect is counted on the day it was last done to
    query = query.where(d.action == action.value, d.day >= window.since)
    events, prospects = connection.execute(query).one()
    marked = Figure(int(prospects)) if action in MARKED else Figure(None, "a search is about no prospect")
    return Stage(action.value, int(events), marked)


def _money(connection: Connection, table: FromClause, window: Window) -> tuple[int, int]:
    """Return the known dollars (micros) of the window, and how many billed calls have no known price."""
    t = table.c
    query = select(func.coalesce(func.sum(t.usd_micros), 0), func.coalesce(func.sum(t.unpriced), 0))
    query = query.where(t.day >= window.since, t.day <= window.until)
    usd, unpriced = connection.execute(query).one()
    return int(usd), int(unpriced)
