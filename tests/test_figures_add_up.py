"""Whatever is written, in whatever order and however often: every sum behind a figure is what its rows add up to."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, Table, delete, insert, select, update

from builders import (
    A_CREDIT,
    AT,
    DAY,
    UNPRICED,
    a_close,
    a_closing,
    a_finish,
    a_prospect,
    a_result,
    a_run,
    an_attempt,
    somebody,
    the_end,
    write,
)
from builders import rows as rows_of
from sluiceway import activity, rollups
from sluiceway.activity import Action, Event, Export, record_exported
from sluiceway.outcome import FREE, NOT_SENT, UNKNOWN_CHARGE
from sluiceway.rollups import prospects_added
from sluiceway.store.engine import Store, open_store
from sluiceway.store.schema import active_users, facts, prospect_marks, prospects, unviewed_days
from sluiceway.usage.ledger import Begin, CloseResult, CloseRun, Op, OpenRun, RunRow, Task, apply
from sluiceway.usage.reconcile import fold_if_never

MOMENTS = ("2026-03-03T23:59:59.999Z", AT, "2026-03-05T00:00:00.000Z")
TENANTS = ("acme", "default")
PEOPLE = [f"person-{number}" for number in range(4)]
TENANT_OF = {person: TENANTS[number % 2] for number, person in enumerate(PEOPLE)}
SOURCES = ("apollo", "exa")

RUNS = [
    a_run(person, id=f"run-{person}-{number}", tenant_id=TENANT_OF[person], opened_at=MOMENTS[number])
    for person in PEOPLE
    for number in range(3)
]
RESULTS = {
    run.id: [
        a_result(run, source, id=f"{run.id}-{source}", status=status, error=error, closed_at=closed)
        for source, (status, error, closed) in zip(
            SOURCES, [("running", None, None), ("skipped", "no e-mail", run.opened_at)], strict=True
        )
    ]
    for run in RUNS
}
ATTEMPTS = [
    an_attempt(
        id=f"{run.id}-attempt-{number}", day=run.opened_at[:10], tenant_id=run.tenant_id, batch_id=(None, "b")[number],
        prospect_id=run.prospect_id, source_result_id=RESULTS[run.id][0].id, trigger=("file", "api")[number],
    )
    for run in RUNS
    for number in range(2)
]  # fmt: skip
ERRORS = ("HTTP 500: upstream 12345 is gone", "HTTP 500: upstream 7 is gone", "HTTP 502: no luck", None)

FORMER = {run.id: RUNS[number - 1].id if number % 3 else None for number, run in enumerate(RUNS)}


def an_open(run: RunRow) -> OpenRun:
    return OpenRun(run, FORMER[run.id], tuple(RESULTS[run.id]))


OPENS = st.sampled_from(RUNS).map(an_open)
BEGINS = st.sampled_from(ATTEMPTS).map(Begin)
CLOSES = st.builds(
    lambda run, status, at, error, fields: a_close(
        RESULTS[run.id][0], status, at=at, error=error if status in ("failed", "timed_out") else None,
        fields={"title:apollo": ["CFO", at, "a", 60]} if fields else {},
    ),
    st.sampled_from(RUNS), st.sampled_from(["complete", "no_data", "failed", "timed_out"]),
    st.sampled_from(MOMENTS), st.sampled_from(ERRORS), st.booleans(),
)  # fmt: skip
ENDS = st.builds(
    lambda attempt, charge, latency, close: a_finish(attempt, charge, latency_us=latency, close=close),
    st.sampled_from(ATTEMPTS),
    st.sampled_from([A_CREDIT, UNPRICED, FREE, NOT_SENT, UNKNOWN_CHARGE]),
    st.none() | st.integers(0, 10**9),
    st.none() | CLOSES,
)
CLOSINGS = CLOSES.map(CloseResult)
EVENTS = st.builds(
    lambda action, person, user, at, number: Event(
        action, TENANT_OF[person], user, at, person if action in activity.MARKED[:2] else None, f"{action}-{number}"
    ),
    st.sampled_from([Action.LOGIN, Action.PROFILE_VIEWED, Action.PROFILE_ENRICHED, Action.SEARCH_EXECUTED]),
    st.sampled_from(PEOPLE), st.sampled_from(["ann", "bob"]), st.sampled_from(MOMENTS), st.integers(0, 5),
)  # fmt: skip
ENRICHED = st.builds(
    lambda run, at: CloseRun(
        run.id, run.prospect_id, at, "complete",
        Event(Action.PROFILE_ENRICHED, run.tenant_id, "ann", at, run.prospect_id, run.id),
    ),
    st.sampled_from(RUNS), st.sampled_from(MOMENTS),
)  # fmt: skip


def an_export(person: str, number: int, at: str) -> Task:
    def take_out(connection: Connection) -> None:
        event = Event(Action.CSV_EXPORTED, TENANT_OF[person], "ann", at, None, f"export-{number}-{TENANT_OF[person]}")
        activity.record(connection, [event])
        (when,) = connection.execute(
            select(activity.activity.c.at).where(
                activity.activity.c.tenant_id == event.tenant_id, activity.activity.c.id == event.id
            )
        ).one()
        record_exported(connection, [Export(event.id, person, event.tenant_id, when)])

    return Task(take_out)


EXPORTS = st.builds(an_export, st.sampled_from(PEOPLE), st.integers(0, 2), st.sampled_from(MOMENTS))
OPS = OPENS | BEGINS | ENDS | ENDS | CLOSINGS | EVENTS | ENRICHED | EXPORTS
COMMITS = st.lists(st.lists(OPS, max_size=8), max_size=8)
REPLAYS = st.lists(st.integers(0, 20), max_size=4)


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    store = open_store(f"sqlite:///{tmp_path_factory.mktemp('ledger') / 'ledger.db'}")
    yield store
    store.close()


def written(connection: Connection, commits: list[list[Op]], replays: list[int]) -> None:
    """Put people in, open most runs, begin most requests, write commits, and then some of them again."""
    for person in PEOPLE:
        values = {"id": person, "tenant_id": TENANT_OF[person], "identity_key": person, "person": "{}"}
        connection.execute(insert(prospects).values(**values, created_at=AT))
        prospects_added(connection, [(TENANT_OF[person], AT)])
    for number, run in enumerate(RUNS):
        apply(connection, [an_open(run), *([the_end(run)] if number % 3 < 2 else [])])
    apply(connection, list(map(Begin, ATTEMPTS[:18])))
    for ops in commits:
        apply(connection, ops)
    for number in replays:
        if commits:
            apply(connection, commits[number % len(commits)])


def in_order(connection: Connection, table: Table) -> list[Any]:
    return list(connection.execute(select(table).order_by(*table.primary_key.columns)))


def drifts(connection: Connection) -> list[Any]:
    return [*rollups.drifts(connection), *activity.drifts(connection)]


@settings(max_examples=150, deadline=None)
@given(commits=COMMITS, replays=REPLAYS)
def test_every_sum_is_what_its_rows_add_up_to(ledger: Store, commits: list[list[Op]], replays: list[int]) -> None:
    with ledger.writing.connect() as connection:
        written(connection, commits, replays)
        assert drifts(connection) == []
        kept = {
            t: connection.execute(select(t).order_by(*t.primary_key.columns)).all()
            for t in (active_users, prospect_marks)
        }
        activity.rebuild(connection)
        rollups.rebuild_all(connection)
        assert drifts(connection) == []
        for table, before in kept.items():
            assert in_order(connection, table) == before
        connection.rollback()


@settings(max_examples=40, deadline=None)
@given(commits=COMMITS)
def test_a_store_of_an_earlier_version_folds_its_sums_once(ledger: Store, commits: list[list[Op]]) -> None:
    with ledger.writing.connect() as connection:
        written(connection, commits, [])
        sums = [rollup.table for rollup in (*rollups.ALL, activity.USER_DAYS, activity.ACTION_DAYS)]
        covered = connection.execute(select(prospects.c.id).where(prospects.c.covered_at.is_not(None))).all()
        for table in (*sums, active_users, prospect_marks):
            connection.execute(delete(table))
        connection.execute(update(prospects).values(covered_at=None, covered_by=None))
        connection.execute(delete(facts).where(facts.c.name == "figures"))
        assert fold_if_never(connection)
        assert not fold_if_never(connection)
        assert drifts(connection) == []
        assert connection.execute(select(prospects.c.id).where(prospects.c.covered_at.is_not(None))).all() == covered
        connection.rollback()


# what people did, one by one


def test_the_same_event_counts_once(store: Store) -> None:
    event = Event(Action.LOGIN, "acme", "ann", AT, id="e")
    assert write(store, event, event) == [True, True]
    assert write(store, event) == [False]
    assert [row["events"] for row in rows_of(store, activity.activity_days)] == [1]


def test_the_same_id_of_another_tenant_is_another_event(store: Store) -> None:
    for tenant in TENANTS:
        write(store, Event(Action.LOGIN, tenant, "ann", AT, id="e"))
    assert len(rows_of(store, activity.activity)) == 2


def test_a_prospect_viewed_on_two_days_is_counted_on_the_later_one(store: Store) -> None:
    for at in MOMENTS[::-1]:
        write(store, Event(Action.PROFILE_VIEWED, "acme", "ann", at, "p"))
    days = {row["day"]: (row["events"], row["prospects"]) for row in rows_of(store, activity.action_days)}
    assert days == {"2026-03-03": (1, 0), DAY: (1, 0), "2026-03-05": (1, 1)}


def test_the_first_view_takes_a_prospect_out_of_what_was_spent_for_nothing(store: Store) -> None:
    prospect = a_prospect(store)
    run = a_run(prospect)
    result = a_result(run)
    first = an_attempt(prospect_id=prospect, source_result_id=result.id)
    second = an_attempt(prospect_id=prospect, source_result_id=result.id, day="2026-03-05")
    write(store, OpenRun(run, None, (result,), (first,)), Begin(second), a_finish(first))
    assert [row["usd_micros"] for row in rows_of(store, unviewed_days)] == [26_000]
    write(store, Event(Action.PROFILE_VIEWED, "default", "ann", AT, prospect), a_finish(second))
    assert [row["usd_micros"] for row in rows_of(store, unviewed_days)] == [0, 0]
    write(store, Event(Action.PROFILE_VIEWED, "default", "ann", AT, prospect))
    with store.read() as connection:
        assert drifts(connection) == []


def test_nobody_takes_an_erased_prospects_place_and_every_count_stays(store: Store) -> None:
    prospect = a_prospect(store)
    run = a_run(prospect)
    result = a_result(run)
    write(store, OpenRun(run, None, (result,)))
    view = Event(Action.PROFILE_VIEWED, "default", "ann", AT, prospect)
    enriched = Event(Action.PROFILE_ENRICHED, "default", "ann", AT, prospect, run.id)
    export = Event(Action.CSV_EXPORTED, "default", "ann", AT)
    write(store, view, enriched, export)
    write(store, Task(lambda c: record_exported(c, [Export(export.id, prospect, "default", AT)])))
    before = rows_of(store, activity.action_days)
    write(store, Task(lambda c: activity.stand_in(c, "default", prospect, "nobody", {run.id: "another"})))
    for table in (activity.activity, activity.exported, prospect_marks):
        assert prospect not in {value for row in rows_of(store, table) for value in row.values()}
    assert rows_of(store, activity.action_days) == before
    with store.read() as connection:
        assert activity.drifts(connection) == []


def test_somebody_is_covered_by_the_first_answer_and_only_once(store: Store) -> None:
    prospect = a_prospect(store, somebody(1))
    run = a_run(prospect)
    results = [a_result(run, source) for source in SOURCES]
    write(store, OpenRun(run, None, tuple(results)))
    fields = {"title:apollo": ["CFO", AT, "a", 60]}
    closings = [a_closing(result, fields=fields) for result in results]
    write(store, *closings)
    write(store, *closings)
    (row,) = (row for row in rows_of(store, rollups.coverage.coverage_days) if row["covered"])
    assert (row["prospects"], row["covered"]) == (1, 1)
