"""Calls of unknown charge: they are listed, and a person's finding moves exactly one of them."""

from __future__ import annotations

from typing import Any

import pytest

from builders import A_CREDIT, AT, DAY, LATER, a_finish, an_attempt, everything, row, rows, write
from sluiceway.errors import BadInput
from sluiceway.outcome import FREE, NOT_SENT, UNKNOWN_CHARGE, ChargeKind
from sluiceway.rollups import KEY, SUMS, folded
from sluiceway.store.engine import Store
from sluiceway.store.schema import attempts, corrections, daily_totals, usage_hours
from sluiceway.usage.ledger import Attempt, Begin
from sluiceway.usage.quota import Quota, QuotaClock, Unit, set_quota, uses
from sluiceway.usage.resolve import Resolution, Resolved, resolve, unknown_attempts

NOW = "2026-03-04T09:00:00.000Z"
BILLED = Resolution(ChargeKind.BILLED, "on the invoice", "ines")
FOUND_FREE = Resolution(ChargeKind.FREE, "not on their usage page", "ines")


def lost(store: Store, **changed: Any) -> Attempt:
    """A call whose answer was lost, and which could have cost a credit."""
    attempt = an_attempt(**{"reserved_milli_credits": 1000, "reserved_usd_micros": 26_000, **changed})
    ended = a_finish(attempt, UNKNOWN_CHARGE, http_status=None, result="timed_out", error="no answer within 20 s")
    write(store, Begin(attempt), ended)
    return attempt


def resolved(store: Store, start_of_id: str, resolution: Resolution = BILLED) -> Resolved:
    with store.writing.begin() as connection:
        return resolve(connection, start_of_id, resolution, at=NOW)


def test_a_call_found_billed_is_counted_on_its_own_day_at_the_most_it_could_cost(store: Store) -> None:
    attempt = lost(store)
    assert resolved(store, attempt.id) == Resolved(attempt.id, "apollo", DAY, "billed", 1000, 26_000)
    total = row(store, daily_totals)
    assert (total["day"], total["billed"], total["milli_credits"], total["usd_micros"]) == (DAY, 1, 1000, 26_000)
    hour = row(store, usage_hours)
    assert (hour["attempts"], hour["billed"], hour["unknown"], hour["milli_credits"]) == (1, 1, 0, 1000)
    with store.read() as connection:
        (rebuilt,) = connection.execute(folded()).mappings()
    assert {name: hour[name] for name in (*KEY, *SUMS)} == dict(rebuilt)


def test_a_call_found_free_leaves_the_sums_of_money_alone(store: Store) -> None:
    attempt = lost(store)
    assert resolved(store, attempt.id, FOUND_FREE).milli_credits == 0
    assert rows(store, daily_totals) == []
    hour = row(store, usage_hours)
    assert (hour["free"], hour["unknown"], hour["milli_credits"], hour["unpriced"]) == (1, 0, 0, 0)


def test_who_found_out_what_and_why_is_kept(store: Store) -> None:
    attempt = lost(store)
    resolved(store, attempt.id)
    entry = row(store, corrections)
    assert (entry["attempt_id"], entry["attempt_day"], entry["provider"]) == (attempt.id, DAY, "apollo")
    assert (entry["was"], entry["became"]) == ("unknown", "billed")
    assert (entry["note"], entry["corrected_by"], entry["corrected_at"]) == ("on the invoice", "ines", NOW)


def test_what_was_seen_of_the_call_stays_as_it_was(store: Store) -> None:
    attempt = lost(store)
    before = row(store, attempts)
    resolved(store, attempt.id)
    after = row(store, attempts)
    moved = {name for name in before if before[name] != after[name]}
    assert moved == {"charge", "credits", "milli_credits", "usd_micros"}


def test_an_amount_that_was_found_wins_and_one_that_nobody_knows_stays_unknown(store: Store) -> None:
    dear = lost(store)
    found = Resolution(ChargeKind.BILLED, "their page", "ines", milli_credits=250, usd_micros=1)
    assert resolved(store, dear.id, found).milli_credits == 250
    dark = lost(store, day="2026-03-05", reserved_milli_credits=None, reserved_usd_micros=None)
    assert resolved(store, dark.id) == Resolved(dark.id, "apollo", "2026-03-05", "billed", None, None)
    assert [hour["unpriced"] for hour in rows(store, usage_hours)] == [0, 1]


def test_what_it_kept_of_a_limit_is_settled_with_it(store: Store) -> None:
    with store.writing.begin() as connection:
        set_quota(connection, Quota("apollo", Unit.CREDITS, QuotaClock.DAY, 5000), by="ines", now=AT)
    kept, given_back = lost(store), lost(store)
    resolved(store, given_back.id, FOUND_FREE)
    resolved(store, kept.id, Resolution(ChargeKind.BILLED, "half", "ines", milli_credits=500))
    with store.read() as connection:
        (use,) = uses(connection, LATER)
    assert (use.used, use.left) == (500, 4500)


def test_the_start_of_an_id_is_enough_where_one_unknown_call_begins_so(store: Store) -> None:
    lost(store, id="aa11")
    lost(store, id="aa22")
    known = an_attempt(id="aa23")
    write(store, Begin(known), a_finish(known))
    assert resolved(store, "aa2").id == "aa22"
    lost(store, id="aa12")
    with pytest.raises(BadInput, match="'aa' begins the ids of several attempts"):
        resolved(store, "aa")


@pytest.mark.parametrize(
    ("charge", "said"),
    [(A_CREDIT, "is billed, not unknown"), (FREE, "is free, not unknown"), (NOT_SENT, "is not sent, not unknown")],
)
def test_a_call_whose_charge_is_known_is_not_resolved(store: Store, charge: Any, said: str) -> None:
    attempt = an_attempt()
    write(store, Begin(attempt), a_finish(attempt, charge))
    before = everything(store)
    with pytest.raises(BadInput, match=said):
        resolved(store, attempt.id)
    assert everything(store) == before


def test_a_call_in_flight_or_one_that_is_not_there_is_not_resolved(store: Store) -> None:
    attempt = an_attempt()
    write(store, Begin(attempt))
    with pytest.raises(BadInput, match="is open, not unknown"):
        resolved(store, attempt.id)
    with pytest.raises(BadInput, match="no attempt's id begins with 'zz'"):
        resolved(store, "zz")
    with pytest.raises(BadInput, match="no attempt's id begins with ''"):
        resolved(store, "")


def test_a_call_is_resolved_once(store: Store) -> None:
    attempt = lost(store)
    resolved(store, attempt.id)
    with pytest.raises(BadInput, match="is billed, not unknown"):
        resolved(store, attempt.id, FOUND_FREE)
    assert len(rows(store, corrections)) == 1


def test_unknown_calls_are_listed_oldest_first_and_by_provider(store: Store) -> None:
    second = lost(store, begun_at="2026-03-04T06:00:00.000Z", provider="exa", source="exa")
    first = lost(store, prospect_id="p", batch_id="b")
    known = an_attempt()
    write(store, Begin(known), a_finish(known))
    with store.read() as connection:
        found = unknown_attempts(connection)
        assert [one.id for one in unknown_attempts(connection, "exa")] == [second.id]
    assert [one.id for one in found] == [first.id, second.id]
    assert (found[0].prospect_id, found[0].batch_id, found[0].error) == ("p", "b", "no answer within 20 s")
