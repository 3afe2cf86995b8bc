"""Nothing is kept longer than was set, and what single calls summed to is kept for ever."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import insert, update

from builders import (
    A_CREDIT,
    INES,
    UNPRICED,
    a_booking,
    a_finish,
    a_prospect,
    an_attempt,
    an_opening,
    rows,
    somebody,
    write,
)
from sluiceway.app import Target, opened
from sluiceway.errors import BadInput, BadSetting
from sluiceway.outcome import FREE, UNKNOWN_CHARGE, timestamp
from sluiceway.pipeline.retention import Keep, Retained, in_transactions, keep_of, ran_today, retain, what_is_due
from sluiceway.rights.suppression import opened_list
from sluiceway.settings import load_settings
from sluiceway.store.engine import Store
from sluiceway.store.facts import ledger_horizon
from sluiceway.store.schema import (
    answers,
    attempts,
    daily_totals,
    documents,
    erasures,
    prospects,
    runs,
    suppressions,
    usage_hours,
)
from sluiceway.usage.explain import explain
from sluiceway.usage.ledger import Answer, Begin
from sluiceway.usage.reconcile import reconcile
from sluiceway.usage.spend import By, spend_by

KEEP = Keep(people_days=100, attempts_days=400)


def ago(store: Store, days: int) -> str:
    return timestamp(store.clock.now() - timedelta(days=days))


def a_call(store: Store, days: int, charge: Any = A_CREDIT, **changed: Any) -> None:
    """A call that was made and answered so many days ago."""
    at = ago(store, days)
    attempt = an_attempt(day=at[:10], hour=int(at[11:13]), begun_at=at, **changed)
    answer = Answer("default", attempt.prospect_id, "apollo", "k", "{}") if attempt.prospect_id else None
    write(store, Begin(attempt), a_finish(attempt, charge, at=at, answer=answer))


def asked_about(store: Store, person: Any, *, taken_in: int, last_run: int | None = None) -> str:
    """Somebody who was taken in so many days ago, and last asked about so many days ago."""
    prospect_id = a_prospect(store, person)
    if last_run is not None:
        write(store, an_opening(prospect_id, opened_at=ago(store, last_run), closed_at=ago(store, last_run)))
    with store.writing.begin() as connection:
        mine = update(prospects).where(prospects.c.id == prospect_id)
        connection.execute(mine.values(created_at=ago(store, taken_in)))
    return prospect_id


def retained(store: Store, keep: Keep = KEEP) -> Retained:
    return retain(store, keep, opened_list(store), in_transactions(store), by="Anna")


def figures(store: Store, *ways: By) -> dict[By, Any]:
    with store.read() as connection:
        return {by: spend_by(connection, by) for by in ways or (By.PROVIDER, By.SOURCE, By.TENANT, By.HOUR)}


def test_people_go_whom_nobody_asked_about_for_so_long_and_they_may_be_asked_about_again(store: Store) -> None:
    asked_about(store, INES, taken_in=300)
    asked_about(store, somebody(1), taken_in=300, last_run=101)
    stays = {
        asked_about(store, somebody(2), taken_in=300, last_run=99),
        asked_about(store, somebody(3), taken_in=99),
    }
    due = what_is_due(store, KEEP)
    assert (due.people, len(rows(store, prospects))) == (2, 4)
    assert retained(store).people == 2
    assert {each["id"] for each in rows(store, prospects)} == stays
    assert rows(store, suppressions) == []
    assert {(each["cause"], each["prospects"]) for each in rows(store, erasures)} == {("retention", 2)}
    assert len(rows(store, runs)) == 2
    assert what_is_due(store, KEEP).people == 0


def test_public_filings_are_kept_no_longer_than_people(store: Store) -> None:
    with store.writing.begin() as connection:
        for days in (99, 101):
            values = {"request_key": str(days), "provider": "edgar", "attempt_id": "a", "reading": "{}"}
            connection.execute(insert(documents).values({**values, "fetched_at": ago(store, days)}))
    assert retained(store).documents == 1
    assert [each["request_key"] for each in rows(store, documents)] == ["99"]


def test_calls_go_by_whole_days_and_every_sum_stays(store: Store) -> None:
    for days, charge in (
        (500, A_CREDIT),
        (500, FREE),
        (450, UNPRICED),
        (401, UNKNOWN_CHARGE),
        (400, A_CREDIT),
        (3, FREE),
    ):
        a_call(store, days, charge, prospect_id="p")
        a_call(store, days, A_CREDIT, provider="exa", source="exa", tenant_id=None)
    write(store, a_booking(7, day=ago(store, 500)[:10]))
    before, sums = figures(store), (rows(store, usage_hours), rows(store, daily_totals))
    due = what_is_due(store, KEEP)
    assert (due.calls, len(due.days)) == (8, 3)

    gone = retained(store)
    assert (gone.calls, gone.days) == (8, [ago(store, days)[:10] for days in (500, 450, 401)])
    assert figures(store) == before
    assert (rows(store, usage_hours), rows(store, daily_totals)) == sums
    assert {each["day"] for each in rows(store, attempts)} == {ago(store, 400)[:10], ago(store, 3)[:10]}
    assert {each["day"] for each in rows(store, answers)} <= {ago(store, 400)[:10], ago(store, 3)[:10]}
    with store.read() as connection:
        assert ledger_horizon(connection) == ago(store, 401)[:10]
        assert reconcile(connection, store.clock.now()).drifting == []
    assert retained(store).calls == 0


def test_calls_of_sealed_days_are_in_nobodys_row_where_sums_do_not_tell(store: Store) -> None:
    a_call(store, 500, batch_id="b")
    a_call(store, 3, batch_id="b")
    retained(store)
    by_batch = figures(store, By.BATCH)[By.BATCH]
    assert {name: spend.billed for name, spend in by_batch.items()} == {"b": 1, "": 1}
    with store.read() as connection:
        assert spend_by(connection, By.PROVIDER, since_day=ago(store, 4)[:10])["apollo"].billed == 1
        assert spend_by(connection, By.PROVIDER, until_day=ago(store, 4)[:10])["apollo"].billed == 1
        assert spend_by(connection, By.PROVIDER, batch_id="b")["apollo"].billed == 1


def test_a_day_with_an_open_call_is_not_sealed_nor_any_after_it(store: Store) -> None:
    for days in (500, 480, 460):
        a_call(store, days)
    at = ago(store, 480)
    write(store, Begin(an_attempt(day=at[:10], begun_at=at)))
    assert retained(store).days == [ago(store, 500)[:10]]


def test_why_a_limit_ran_out_on_a_sealed_day_cannot_be_told(store: Store) -> None:
    a_call(store, 500)
    retained(store)
    with store.read() as connection, pytest.raises(BadInput, match="only sums are left"):
        explain(connection, "apollo", store.clock.now() - timedelta(days=500))


def test_zero_keeps_for_ever(store: Store) -> None:
    asked_about(store, INES, taken_in=3000)
    a_call(store, 3000)
    assert retained(store, Keep(0, 0)) == what_is_due(store, Keep(0, 0)) == Retained()
    assert len(rows(store, attempts)) == len(rows(store, prospects)) == 1


def test_calls_are_kept_as_long_as_what_they_bought_is_fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    assert keep_of(load_settings()) == Keep(0, 400)
    assert keep_of(load_settings(fresh_days=500)) == Keep(0, 501)
    assert keep_of(load_settings(fresh_days=500, keep_attempts_days=0, keep_people_days=7)) == Keep(7, 0)
    with pytest.raises(BadSetting, match="at least 93"):
        load_settings(keep_attempts_days=30)


async def test_work_begins_with_it_once_a_day(store: Store) -> None:
    asked_about(store, INES, taken_in=300)
    settings = load_settings(database_url=store.url, keep_people_days=100)
    assert not ran_today(store)
    told: list[str] = []
    store.writing.dispose()
    async with opened(settings, names=["apollo"], target=Target(), tell=told.append):
        assert len(rows(store, prospects)) == 1, "only work begins with it"
    async with opened(settings, names=["apollo"], target=Target(), tell=told.append, tidy=True):
        assert rows(store, prospects) == []
    assert [said for said in told if "1 people" in said]
    assert ran_today(store)
    asked_about(store, somebody(), taken_in=300)
    async with opened(settings, names=["apollo"], target=Target(), tell=told.append, tidy=True):
        assert len(rows(store, prospects)) == 1, "it has run today"
