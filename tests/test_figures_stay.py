"""Erasing people and sealing days leave every figure right, and nothing in them that leads to anybody."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import select

from builders import AT, DAY, LATER, a_close, a_finish, a_prospect, a_result, a_run, an_attempt, rows, somebody, write
from sluiceway import activity, rollups
from sluiceway.activity import Action, Event, Export, record_exported
from sluiceway.admin.answer import Window, last_days
from sluiceway.admin.errors import error_feed
from sluiceway.admin.funnel import funnel
from sluiceway.admin.usage import By, usage
from sluiceway.errors import BadInput
from sluiceway.outcome import FREE
from sluiceway.rights.erasure import BY_REQUEST, Why, erase
from sluiceway.rights.suppression import Suppressions
from sluiceway.store.engine import Store
from sluiceway.store.schema import error_groups, metadata, prospects
from sluiceway.tenancy.scope import Scope
from sluiceway.usage.ledger import Begin, CloseRun, OpenRun, Task
from sluiceway.usage.sealing import seal

NOW = datetime(2026, 3, 4, 12, tzinfo=UTC)
EVERYBODY = Scope(None)
WORD = "Zanzibar"


def history_of(store: Store, number: int, error: str) -> str:
    """Somebody with a bought answer, a failure, an open result, a view, an export; returns the prospect's id."""
    prospect = a_prospect(store, somebody(number))
    run = a_run(prospect)
    bought, failed, waiting = (a_result(run, source) for source in ("apollo", "exa", "claude"))
    paid = an_attempt(prospect_id=prospect, source_result_id=bought.id)
    lost = an_attempt(prospect_id=prospect, source_result_id=failed.id, source="exa", provider="exa")
    fields = {"title:apollo": ["CFO", AT, paid.id, 60]}
    write(store, OpenRun(run, None, (bought, failed, waiting), (paid, lost)))
    write(store, a_finish(paid, close=a_close(bought, fields=fields, attempt_id=paid.id)))
    write(store, a_finish(lost, FREE, error=error, close=a_close(failed, "failed", error=error)))
    export = Event(Action.CSV_EXPORTED, "default", "ann", LATER)
    write(store, Event(Action.PROFILE_VIEWED, "default", "ann", AT, prospect), export)
    write(store, Task(lambda connection: record_exported(connection, [Export(export.id, prospect, "default", LATER)])))
    return prospect


def enriched(store: Store, prospect: str) -> None:
    """End somebody's run, which bought data."""
    with store.read() as connection:
        run_id = connection.execute(select(prospects.c.last_run_id).where(prospects.c.id == prospect)).scalar_one()
    event = Event(Action.PROFILE_ENRICHED, "default", "ann", LATER, prospect, run_id)
    write(store, CloseRun(run_id, prospect, LATER, "complete", event))


def erased(store: Store, *ids: str) -> None:
    why = Why(BY_REQUEST, "ann", LATER, suppress=False)
    suppressions = Suppressions(b"k" * 32)
    write(store, Task(lambda connection: erase(connection, ids, why, suppressions) and None))


def sums(store: Store) -> dict[str, list[dict[str, Any]]]:
    """Every sum there is; a row in which nothing is left of what was counted is as good as none."""
    kept = (*rollups.ALL, activity.USER_DAYS, activity.ACTION_DAYS)
    return {of.table.name: [row for row in rows(store, of.table) if any(row[name] for name in of.sums)] for of in kept}


def drifts(store: Store) -> list[Any]:
    with store.read() as connection:
        return [*rollups.drifts(connection), *activity.drifts(connection)]


@pytest.mark.parametrize("over", [True, False])
def test_erasing_somebody_leaves_every_sum_right_and_every_count_as_it_was(store: Store, over: bool) -> None:
    first, second = (history_of(store, number, f"HTTP 400: no {WORD} {number}") for number in (1, 2))
    if over:
        enriched(store, first)
    with store.read() as connection:
        before = funnel(connection, EVERYBODY, NOW, 3)
    erased(store, first)
    assert drifts(store) == []
    with store.read() as connection:
        after = funnel(connection, EVERYBODY, NOW, 3)
        groups = error_feed(connection, EVERYBODY, NOW, last_days(NOW, 3)).groups
    assert after == before
    assert [(group.results, group.message) for group in groups] == [(2, f"HTTP 400: no {WORD} <n>")]
    assert first not in str({name: rows(store, table) for name, table in metadata.tables.items()})
    erased(store, second)
    assert drifts(store) == []
    assert [row["message"] for row in rows(store, error_groups)] == ["erased"]
    assert WORD not in str({name: rows(store, table) for name, table in metadata.tables.items()})


def test_what_is_rebuilt_after_an_erasure_is_what_was_folded(store: Store) -> None:
    first = history_of(store, 1, f"HTTP 400: no {WORD}")
    enriched(store, first)
    erased(store, first)
    before = sums(store)
    groups = rows(store, error_groups)
    write(store, Task(lambda connection: rollups.rebuild_all(connection) or activity.rebuild(connection)))
    assert sums(store) == before
    assert rows(store, error_groups) == groups


def test_a_run_that_ends_after_its_person_was_erased_is_no_enrichment(store: Store) -> None:
    first = history_of(store, 1, "HTTP 400: no")
    with store.read() as connection:
        run_id = connection.execute(select(prospects.c.last_run_id)).scalar_one()
    erased(store, first)
    event = Event(Action.PROFILE_ENRICHED, "default", "ann", LATER, first, run_id)
    write(store, CloseRun(run_id, first, LATER, "complete", event))
    assert {row["action"] for row in rows(store, activity.activity)} == {"profile_viewed", "csv_exported"}
    assert drifts(store) == []


def test_sealing_a_day_keeps_its_sums_and_they_are_never_compared_again(store: Store) -> None:
    history_of(store, 1, "HTTP 400: no")
    write(store, Begin(attempt := an_attempt(day="2026-03-05")), a_finish(attempt))
    before = sums(store)
    write(store, Task(lambda connection: seal(connection, DAY)))
    assert sums(store) == before
    assert drifts(store) == []
    write(store, Task(lambda connection: rollups.rebuild_all(connection)))
    assert sums(store) == before


def test_what_sums_of_a_sealed_day_do_not_tell_is_refused_and_not_shown_as_nothing(store: Store) -> None:
    history_of(store, 1, "HTTP 400: no")
    write(store, Task(lambda connection: seal(connection, DAY)))
    window = Window(DAY, DAY)
    with store.read() as connection:
        assert usage(connection, EVERYBODY, NOW, window, [By.USER]).total.attempts == 2
        with pytest.raises(BadInput, match="single calls up to 2026-03-04 were dropped"):
            usage(connection, EVERYBODY, NOW, window, [By.HOUR, By.USER])
