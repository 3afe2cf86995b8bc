"""Keeping people and single calls for as long as was set, and no longer."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import msgspec
from sqlalchemy import Connection

from sluiceway.errors import StoreUnavailable
from sluiceway.rights.erasure import BY_RETENTION, Erased, Why, erase
from sluiceway.rights.retention import count_old_documents, drop_old_documents, people_to_erase
from sluiceway.rights.suppression import Suppressions
from sluiceway.settings import Settings
from sluiceway.store.engine import Store
from sluiceway.store.facts import fact, set_fact
from sluiceway.usage.sealing import count_calls, days_to_seal, seal

_RAN_ON = "retention_ran_on"

Write = Callable[[Callable[[Connection], Any]], Any]
"""Runs a function in a transaction of its own and returns what it returned."""


def in_transactions(store: Store) -> Write:
    """Return what runs a function in a transaction of its own, for a process that has no writer open."""

    def write(change: Callable[[Connection], Any]) -> Any:
        with store.change() as connection:
            return change(connection)

    return write


class Keep(msgspec.Struct, frozen=True):
    """For how many days people and single calls are kept; 0 is for ever."""

    people_days: int
    attempts_days: int


def keep_of(settings: Settings) -> Keep:
    """Return what the settings say: calls are never kept shorter than what they bought is fresh."""
    days = settings.keep_attempts_days
    return Keep(settings.keep_people_days, max(days, settings.fresh_days + 1) if days else 0)


class Retained(msgspec.Struct, frozen=True):
    """What went, or would go, because it was kept for long enough."""

    people: int = 0
    calls: int = 0
    days: list[str] = []
    documents: int = 0


def what_is_due(store: Store, keep: Keep) -> Retained:
    """Count what `retain` would take away."""
    now = store.clock.now()
    with store.read() as connection:
        days = list(days_to_seal(connection, keep.attempts_days, now.date())) if keep.attempts_days else []
        people = documents = 0
        if keep.people_days:
            people = sum(map(len, people_to_erase(connection, keep.people_days, now)))
            documents = count_old_documents(connection, keep.people_days, now)
        return Retained(people, count_calls(connection, days), days, documents)


def retain(store: Store, keep: Keep, suppressions: Suppressions, write: Write, *, by: str) -> Retained:
    """Take away what was kept for long enough: people some at a time, calls day by day, each in its transaction."""
    now = store.clock.now()
    why = Why(BY_RETENTION, by, store.clock.stamp(), suppress=False)
    people = documents = calls = 0
    days: list[str] = []
    if keep.people_days:
        with store.read() as connection:
            pages = list(people_to_erase(connection, keep.people_days, now))
        for page in pages:
            erased: Erased = write(partial(erase, ids=page, why=why, suppressions=suppressions))
            people += erased.prospects
        documents = write(partial(drop_old_documents, days=keep.people_days, now=now))
    if keep.attempts_days:
        with store.read() as connection:
            days = list(days_to_seal(connection, keep.attempts_days, now.date()))
        calls = sum([write(partial(seal, day=day)) for day in days])
    write(partial(set_fact, name=_RAN_ON, value=now.date().isoformat()))
    return Retained(people, calls, days, documents)


def retain_daily(
    store: Store, keep: Keep, suppressions: Suppressions, write: Write, tell: Callable[[str], None]
) -> None:
    """Take away what was kept for long enough, once on a UTC day."""
    if ran_today(store):
        return
    try:
        gone = retain(store, keep, suppressions, write, by="sluiceway")
    except StoreUnavailable as error:  # the work itself waits for the store, and this is tried again
        tell(f"{error}; what was kept for long enough goes the next time")
        return
    if gone.people or gone.calls:
        tell(f"kept for long enough, and gone now: {gone.people:,} people, {gone.calls:,} calls (their sums stay)")


def ran_today(store: Store) -> bool:
    """Tell whether `retain` has run on this UTC day."""
    with store.read() as connection:
        return fact(connection, _RAN_ON) == store.clock.today().isoformat()
