"""The ledger's rules, one commit at a time: what an operation moves is folded, and nothing else is."""

from __future__ import annotations

import threading
from typing import Any

import msgspec
import pytest

from builders import (
    A_CREDIT,
    AT,
    DAY,
    LATER,
    UNPRICED,
    a_booking,
    a_close,
    a_closing,
    a_finish,
    a_prospect,
    a_run,
    an_attempt,
    an_opening,
    everything,
    row,
    rows,
    somebody,
    stored,
    the_end,
    write,
)
from sluiceway.identifier import new_id
from sluiceway.outcome import FREE, NOT_SENT, UNKNOWN_CHARGE, Charge, ChargeKind
from sluiceway.store.engine import Store, open_store
from sluiceway.store.schema import (
    answers,
    attempts,
    daily_totals,
    documents,
    external_usage,
    prospects,
    runs,
    source_results,
    usage_hours,
)
from sluiceway.usage.counter import usage_key
from sluiceway.usage.ledger import Answer, Begin, Document, Finish, Hold, Op, OpenRun, ResultRow, TakeOver, Task

HOLDS = {"title:apollo": ["CFO", LATER, "a1", 70]}


def a_whole_run(prospect_id: str, **changed: Any) -> list[Op]:
    """Everything one billed answer writes, from the opening of its run to the end."""
    attempt = an_attempt(prospect_id=prospect_id)
    opening = an_opening(prospect_id, begins=[attempt])
    (result,) = opening.results
    answer = Answer("default", prospect_id, "apollo", attempt.request_key, '{"status":"complete"}')
    close = a_close(result, fields=HOLDS, attempt_id=attempt.id, **changed)
    return [opening, a_finish(attempt, answer=answer, close=close), the_end(opening.run)]


def total(store: Store) -> dict[str, Any]:
    """The one daily total there is, without its name."""
    only = row(store, daily_totals)
    return {name: only[name] for name in ("billed", "tracked", "imported", "milli_credits", "usd_micros", "version")}


def sums(store: Store) -> dict[str, Any]:
    """The one hourly sum there is, without its key and without zeroes."""
    only = row(store, usage_hours)
    return {name: value for name, value in list(only.items())[5:] if value}


# Applying twice.


def test_applying_the_same_operations_twice_changes_nothing(store: Store) -> None:
    booking, late = a_booking(4), an_attempt()
    ops = [*a_whole_run(a_prospect(store)), booking, Begin(late), a_finish(late, UNKNOWN_CHARGE)]
    assert write(store, *ops) == [True, True, True, True, True, True]
    before = everything(store)
    write(store, *ops)
    assert everything(store) == before


def test_every_operation_can_be_repeated_in_a_commit_of_its_own(store: Store) -> None:
    ops = a_whole_run(a_prospect(store))
    for op in ops:
        write(store, op)
        after_once = everything(store)
        write(store, op)
        assert everything(store) == after_once


def test_a_begin_and_its_finish_may_share_a_commit(store: Store) -> None:
    attempt = an_attempt()
    assert write(store, a_finish(attempt), Begin(attempt)) == [True, True]
    assert row(store, attempts)["charge"] == "billed"
    assert total(store)["billed"] == 1


def test_a_commit_may_hold_more_rows_than_one_statement(store: Store) -> None:
    begun = [an_attempt() for _ in range(333)]
    write(store, *map(Begin, begun))
    assert write(store, *map(a_finish, begun)) == [True] * 333
    assert total(store)["billed"] == 333


# Finishing.


def test_a_finish_folds_exactly_the_rows_it_moved(store: Store) -> None:
    known, unheard_of = an_attempt(), an_attempt()
    write(store, Begin(known))
    assert write(store, a_finish(known), a_finish(unheard_of)) == [True, False]
    assert sums(store) == {
        "attempts": 1, "billed": 1, "milli_credits": 1000, "usd_micros": 26_000, "latency_us": 120_000,
    }  # fmt: skip
    assert total(store) == {
        "billed": 1, "tracked": 0, "imported": 0, "milli_credits": 1000, "usd_micros": 26_000, "version": 1,
    }  # fmt: skip


def test_a_finish_writes_down_what_the_answer_cost_and_said(store: Store) -> None:
    attempt = an_attempt()
    charge = Charge(ChargeKind.BILLED, {"email": 1000, "search": 1000}, 170_000, 412, 57)
    write(store, Begin(attempt))
    write(store, a_finish(attempt, charge, http_status=200, request_id="r1", error=None, note="n"))
    written = row(store, attempts)
    assert written["credits"] == '{"email":1000,"search":1000}'
    assert {name: written[name] for name in ("milli_credits", "usd_micros", "tokens_in", "tokens_out")} == {
        "milli_credits": 2000, "usd_micros": 170_000, "tokens_in": 412, "tokens_out": 57,
    }  # fmt: skip
    assert (written["provider_request_id"], written["note"], written["finished_at"]) == ("r1", "n", LATER)


@pytest.mark.parametrize("charge", [FREE, NOT_SENT, UNKNOWN_CHARGE], ids=lambda charge: charge.kind)
def test_only_a_billed_attempt_is_counted(store: Store, charge: Charge) -> None:
    attempt = an_attempt()
    write(store, Begin(attempt))
    write(store, a_finish(attempt, charge))
    assert rows(store, daily_totals) == []
    assert sums(store) == {"attempts": 1, charge.kind.value: 1, "latency_us": 120_000}


def test_an_open_attempt_counts_nowhere(store: Store) -> None:
    write(store, Begin(an_attempt()))
    assert rows(store, daily_totals) == rows(store, usage_hours) == []


def test_a_call_on_a_tenants_own_credential_is_not_the_platforms(store: Store) -> None:
    attempt = an_attempt(credential_id="tenants-own")
    write(store, Begin(attempt), a_finish(attempt))
    assert rows(store, daily_totals) == []
    assert sums(store)["billed"] == 1


def test_unknown_money_stays_unknown_and_is_counted_as_unpriced(store: Store) -> None:
    attempt = an_attempt()
    write(store, Begin(attempt), a_finish(attempt, UNPRICED))
    assert row(store, attempts)["usd_micros"] is None
    assert sums(store) == {
        "attempts": 1, "billed": 1, "milli_credits": 1000, "unpriced": 1, "latency_us": 120_000,
    }  # fmt: skip


def test_the_cost_of_an_unknown_attempt_is_null_and_never_zero(store: Store) -> None:
    attempt = an_attempt()
    write(store, Begin(attempt), a_finish(attempt, UNKNOWN_CHARGE))
    written = row(store, attempts)
    assert [written[name] for name in ("credits", "milli_credits", "usd_micros")] == [None, None, None]


# A late answer.


@pytest.mark.parametrize("charge", [A_CREDIT, FREE], ids=lambda charge: charge.kind)
def test_a_late_answer_wins_over_unknown_and_every_fold_is_corrected(store: Store, charge: Charge) -> None:
    attempt = an_attempt()
    write(store, Begin(attempt))
    write(store, a_finish(attempt, UNKNOWN_CHARGE, latency_us=None))
    assert sums(store) == {"attempts": 1, "unknown": 1}
    assert write(store, a_finish(attempt, charge)) == [True]
    assert row(store, attempts)["charge"] == charge.kind
    corrected = sums(store)
    assert (corrected["attempts"], corrected[charge.kind]) == (1, 1)
    assert "unknown" not in corrected
    billed = 1 if charge == A_CREDIT else 0
    assert sum(each["billed"] for each in rows(store, daily_totals)) == billed


@pytest.mark.parametrize("first", [A_CREDIT, FREE, NOT_SENT], ids=lambda charge: charge.kind)
@pytest.mark.parametrize("then", [A_CREDIT, FREE, NOT_SENT, UNKNOWN_CHARGE], ids=lambda charge: charge.kind)
def test_what_is_known_is_never_changed_again(store: Store, first: Charge, then: Charge) -> None:
    attempt = an_attempt()
    write(store, Begin(attempt), a_finish(attempt, first))
    before = everything(store)
    assert write(store, a_finish(attempt, then, result="other", at="2027-01-01T00:00:00.000Z")) == [False]
    assert everything(store) == before


@pytest.mark.parametrize("then", [NOT_SENT, UNKNOWN_CHARGE], ids=lambda charge: charge.kind)
def test_unknown_gives_way_to_an_answer_only(store: Store, then: Charge) -> None:
    attempt = an_attempt()
    write(store, Begin(attempt), a_finish(attempt, UNKNOWN_CHARGE))
    before = everything(store)
    assert write(store, a_finish(attempt, then)) == [False]
    assert everything(store) == before


def test_a_late_answer_is_corrected_once_however_often_it_comes(store: Store) -> None:
    attempt = an_attempt()
    write(store, Begin(attempt))
    write(store, a_finish(attempt, UNKNOWN_CHARGE, latency_us=None))
    assert [write(store, a_finish(attempt)) for _ in range(3)] == [[True], [False], [False]]
    assert total(store)["billed"] == sums(store)["billed"] == 1


@pytest.mark.parametrize("order", [1, -1])
def test_a_late_answer_wins_over_unknown_in_the_same_commit(store: Store, order: int) -> None:
    attempt = an_attempt()
    write(store, Begin(attempt))
    write(store, *[a_finish(attempt, UNKNOWN_CHARGE, latency_us=None), a_finish(attempt)][::order])
    assert row(store, attempts)["charge"] == "billed"


def test_a_correction_replaces_the_time_the_unknown_call_took(store: Store) -> None:
    attempt = an_attempt()
    write(store, Begin(attempt))
    write(store, a_finish(attempt, UNKNOWN_CHARGE, latency_us=20_000_000))
    write(store, a_finish(attempt, latency_us=20_500_000))
    assert sums(store)["latency_us"] == row(store, attempts)["latency_us"]


# Runs.


def test_a_run_opens_with_its_source_results_and_first_attempts(store: Store) -> None:
    prospect_id = a_prospect(store)
    attempt = an_attempt()
    opening = an_opening(prospect_id, "apollo", "exa", begins=[attempt])
    assert write(store, opening) == [True]
    assert row(store, runs)["closed_at"] is None
    assert {each["source"] for each in rows(store, source_results)} == {"apollo", "exa"}
    assert row(store, attempts)["id"] == attempt.id
    held = row(store, prospects)
    assert (held["last_run_id"], held["enrichment_status"]) == (opening.run.id, "running")


def test_a_plan_made_before_somebody_elses_run_opens_nothing(store: Store) -> None:
    prospect_id = a_prospect(store)
    theirs = an_opening(prospect_id)
    write(store, theirs)
    assert write(store, an_opening(prospect_id, begins=[an_attempt()])) == [False]
    write(store, a_closing(theirs.results[0]), the_end(theirs.run))
    assert write(store, an_opening(prospect_id, begins=[an_attempt()])) == [False]
    assert rows(store, attempts) == []
    assert write(store, an_opening(prospect_id, former=theirs.run.id, begins=[an_attempt()])) == [True]
    assert len(rows(store, attempts)) == 1


def test_of_two_plans_in_one_commit_one_opens_its_run(store: Store) -> None:
    prospect_id = a_prospect(store)
    attempted = [an_attempt(), an_attempt()]
    openings = [an_opening(prospect_id, begins=[attempt]) for attempt in attempted]
    said = write(store, *openings)
    assert sorted(said) == [False, True]
    winner = openings[said.index(True)]
    assert row(store, runs)["id"] == winner.run.id
    assert row(store, attempts)["id"] == winner.begins[0].id


def test_at_most_one_run_is_open_per_prospect_whoever_races(store: Store, store_url: str) -> None:
    prospect_ids = [a_prospect(store, somebody(number)) for number in range(12)]
    said: dict[str, list[bool]] = {prospect_id: [] for prospect_id in prospect_ids}
    start = threading.Barrier(3)

    def race() -> None:
        mine = open_store(store_url)
        start.wait()
        for prospect_id in prospect_ids:
            said[prospect_id] += write(mine, an_opening(prospect_id, begins=[an_attempt(prospect_id=prospect_id)]))
        mine.close()

    racers = [threading.Thread(target=race) for _ in range(3)]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join()
    assert all(sorted(each) == [False, False, True] for each in said.values()), said
    assert sorted(each["prospect_id"] for each in rows(store, runs)) == sorted(prospect_ids)
    assert sorted(each["prospect_id"] for each in rows(store, attempts)) == sorted(prospect_ids)


def test_the_schema_itself_refuses_a_second_open_run(store: Store) -> None:
    prospect_id = a_prospect(store)
    write(store, an_opening(prospect_id))
    insert = runs.insert().values(msgspec.structs.asdict(a_run(prospect_id)))
    with pytest.raises(Exception, match=r"UNIQUE constraint failed: runs\.prospect_id"):
        write(store, Task(lambda connection: connection.execute(insert)))


def test_a_run_is_taken_over_only_from_the_worker_who_still_has_it(store: Store) -> None:
    opening = an_opening(a_prospect(store), worker_id="dead")
    write(store, opening)
    assert write(store, TakeOver(opening.run.id, "first", "dead")) == [True]
    assert write(store, TakeOver(opening.run.id, "second", "dead")) == [False]
    assert row(store, runs)["worker_id"] == "first"
    write(store, the_end(opening.run))
    assert write(store, TakeOver(opening.run.id, "second", "first")) == [False]


def test_a_source_result_is_closed_once(store: Store) -> None:
    prospect_id = a_prospect(store)
    opening = an_opening(prospect_id)
    (result,) = opening.results
    write(store, opening, a_closing(result, "failed", error="HTTP 500"))
    write(store, a_closing(result, "complete"), Hold(result.id, "no"))
    closed = row(store, source_results)
    assert (closed["status"], closed["error"], closed["closed_at"]) == ("failed", "HTTP 500", LATER)
    assert stored(store, prospect_id)["apollo"]["status"] == "failed"


@pytest.mark.parametrize("order", [1, -1])
def test_of_two_closings_in_one_commit_the_row_and_the_prospect_show_the_same(store: Store, order: int) -> None:
    prospect_id = a_prospect(store)
    opening = an_opening(prospect_id)
    (result,) = opening.results
    write(store, opening, *[a_closing(result, "failed", error="HTTP 500"), a_closing(result, "complete")][::order])
    closed = row(store, source_results)
    shown = stored(store, prospect_id)["apollo"]
    assert (closed["status"], closed["error"]) == (shown["status"], shown.get("error"))


def test_a_held_result_waits_and_stays_open(store: Store) -> None:
    opening = an_opening(a_prospect(store))
    (result,) = opening.results
    write(store, opening, Hold(result.id, "its key was refused"))
    waiting = row(store, source_results)
    assert (waiting["status"], waiting["error"], waiting["closed_at"]) == ("waiting", "its key was refused", None)


def test_a_run_ends_once_and_its_status_becomes_the_prospects(store: Store) -> None:
    opening = an_opening(a_prospect(store))
    write(store, opening, the_end(opening.run, "no_data"))
    write(store, the_end(opening.run, "no_data", at="2027-01-01T00:00:00.000Z"))
    assert (row(store, runs)["closed_at"], row(store, runs)["status"]) == (LATER, "no_data")
    assert row(store, prospects)["enrichment_status"] == "no_data"


# What closings bring to the prospect.


def closed(store: Store, prospect_id: str, status: str, former: OpenRun | None = None, **changed: Any) -> OpenRun:
    """Run the prospect once more, and close Apollo's part so."""
    opening = an_opening(prospect_id, former=former.run.id if former else None)
    write(store, opening, a_closing(opening.results[0], status, **changed), the_end(opening.run, status))
    return opening


def test_cached_leaves_the_stored_status_the_purchases(store: Store) -> None:
    prospect_id = a_prospect(store)
    bought = closed(store, prospect_id, "complete", fields=HOLDS)
    before = stored(store, prospect_id)
    closed(store, prospect_id, "cached", bought, at="2027-01-01T00:00:00.000Z", cached_from=bought.results[0].id)
    assert stored(store, prospect_id) == before == {"apollo": {"status": "complete", "at": LATER}}
    assert [each["status"] for each in rows(store, source_results)] == ["complete", "cached"]


def test_a_failed_refresh_never_replaces_what_is_held(store: Store) -> None:
    prospect_id = a_prospect(store)
    bought = closed(store, prospect_id, "complete", fields=HOLDS)
    closed(store, prospect_id, "failed", bought, error="HTTP 500")
    assert stored(store, prospect_id, "fields") == HOLDS


def test_a_status_that_is_mended_loses_its_old_error(store: Store) -> None:
    prospect_id = a_prospect(store)
    failed = closed(store, prospect_id, "failed", error="HTTP 500")
    assert stored(store, prospect_id)["apollo"]["error"] == "HTTP 500"
    closed(store, prospect_id, "complete", failed)
    assert stored(store, prospect_id)["apollo"] == {"status": "complete", "at": LATER}


def test_each_sources_word_is_merged_beside_the_others(store: Store) -> None:
    prospect_id = a_prospect(store)
    opening = an_opening(prospect_id, "apollo", "exa")
    write(store, opening)
    for result in opening.results:
        write(store, a_closing(result, "complete", fields={f"title:{result.source}": [result.source, LATER, None, 50]}))
    assert stored(store, prospect_id).keys() == {"apollo", "exa"}
    assert stored(store, prospect_id, "fields").keys() == {"title:apollo", "title:exa"}


def test_an_old_bare_status_gives_way_to_the_object(store: Store) -> None:
    prospect_id = a_prospect(store)
    change = prospects.update().values(enrichment_source_status='{"apollo": "complete", "exa": "failed"}')
    write(store, Task(lambda connection: connection.execute(change) and None))
    closed(store, prospect_id, "no_data")
    assert stored(store, prospect_id) == {"apollo": {"status": "no_data", "at": LATER}, "exa": "failed"}


def test_what_a_paid_answer_brought_is_kept_though_its_result_is_closed_already(store: Store) -> None:
    prospect_id = a_prospect(store)
    attempt = an_attempt(prospect_id=prospect_id)
    opening = an_opening(prospect_id, begins=[attempt])
    write(store, opening, a_closing(opening.results[0], "unknown", error="lost"))
    write(store, a_finish(attempt, close=a_close(opening.results[0], "complete", fields=HOLDS)))
    assert stored(store, prospect_id, "fields") == HOLDS
    assert stored(store, prospect_id)["apollo"]["status"] == "unknown"


def test_a_finish_and_the_closing_it_leads_to_are_one_commit(store: Store) -> None:
    prospect_id = a_prospect(store)
    opening, finish, end = a_whole_run(prospect_id)
    write(store, opening)
    write(store, finish)
    assert row(store, attempts)["charge"] == "billed"
    assert row(store, source_results)["status"] == "complete"
    assert row(store, source_results)["attempt_id"] == row(store, attempts)["id"]
    assert row(store, answers)["attempt_id"] == row(store, attempts)["id"]
    write(store, end)
    assert row(store, prospects)["enrichment_status"] == "complete"


def test_a_shared_document_is_replaced_when_fetched_and_kept_when_still_current(store: Store) -> None:
    def fetched(document: Document, at: str) -> Finish:
        attempt = an_attempt(tenant_id=None)
        write(store, Begin(attempt))
        return a_finish(attempt, at=at, document=document)

    write(store, fetched(Document("k", "edgar", "e1", '"old"'), AT))
    write(store, fetched(Document("k", "edgar", "e1", None), LATER))
    held = row(store, documents)
    assert (held["reading"], held["fetched_at"]) == ('"old"', LATER)
    write(store, fetched(Document("k", "edgar", "e2", '"new"'), LATER))
    assert (row(store, documents)["reading"], row(store, documents)["etag"]) == ('"new"', "e2")


# Counts from elsewhere, and names.


def test_external_usage_is_booked_once_under_its_id(store: Store) -> None:
    booking = a_booking(5)
    assert write(store, booking) == [True]
    assert write(store, booking, a_booking(2, kind="imported")) == [False, True]
    counted = total(store)
    assert (counted["tracked"], counted["imported"], counted["version"]) == (5, 2, 2)
    assert len(rows(store, external_usage)) == 2


def test_a_booking_that_comes_twice_in_one_commit_counts_once(store: Store) -> None:
    booking = a_booking(5)
    write(store, booking, msgspec.structs.replace(booking, calls=7), booking)
    assert row(store, external_usage)["calls"] == 5
    assert total(store)["tracked"] == 5


def test_the_usage_key_is_exactly_api_usage_provider_day(store: Store) -> None:
    attempt = an_attempt(day="2026-12-31", provider="edgar")
    write(store, a_booking(day="2027-01-01"), Begin(attempt), a_finish(attempt))
    assert [each["name"] for each in rows(store, daily_totals)] == [
        "api_usage:apollo:2027-01-01",
        "api_usage:edgar:2026-12-31",
    ]
    assert usage_key("exa", DAY) == "api_usage:exa:2026-03-04"


def test_every_commit_raises_the_version_of_what_it_counts_by_one(store: Store) -> None:
    for _ in range(3):
        write(store, a_booking(), a_booking(), a_booking(provider="exa"))
    assert [(each["name"].split(":")[1], each["version"]) for each in rows(store, daily_totals)] == [
        ("apollo", 3),
        ("exa", 3),
    ]


def test_a_task_is_part_of_the_commit_and_says_what_it_likes(store: Store) -> None:
    assert write(store, Task(lambda _: "said"), a_booking(), Task(lambda _: None)) == ["said", True, None]


def test_ids_sort_by_time() -> None:
    made = [new_id() for _ in range(100)]
    assert made == sorted(made)
    assert len(set(made)) == 100


def test_a_closing_of_another_run_is_not_this_ones(store: Store) -> None:
    prospect_id = a_prospect(store)
    opening = an_opening(prospect_id)
    write(store, opening)
    stranger: ResultRow = msgspec.structs.replace(opening.results[0], id=new_id())
    write(store, a_closing(stranger))
    assert stored(store, prospect_id) == {}
    assert row(store, source_results)["status"] == "running"
