"""Why a provider ran out: which limit it was, who had spent it, what went elsewhere, and what to do."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import pytest
from sqlalchemy import insert

from builders import A_CREDIT, a_booking, a_closing, a_finish, a_prospect, an_attempt, an_opening, somebody, write
from sluiceway.errors import BadInput
from sluiceway.outcome import FREE, NOT_SENT, UNKNOWN_CHARGE, billed
from sluiceway.store.engine import Store
from sluiceway.store.schema import batches
from sluiceway.usage.admission import Refusal
from sluiceway.usage.explain import Explanation, Outside, Share, explain, paragraph
from sluiceway.usage.ledger import Begin
from sluiceway.usage.provider_meter import MeterRow, keep
from sluiceway.usage.quota import Quota, QuotaClock, Unit, set_quota

DAY = "2026-11-24"
AT = datetime(2026, 11, 24, 20, tzinfo=UTC)
NEW_YORK = ZoneInfo("America/New_York")
A_DAY = Quota("apollo", Unit.REQUESTS, QuotaClock.DAY, 10)


def asked(store: Store, time: str, calls: int = 1, charge: Any = A_CREDIT, day: str = DAY, **changed: Any) -> list[str]:
    """Calls to Apollo at a time of the day; returns their ids."""
    at, ids = f"{day}T{time}:00.000Z", []
    reserved = {"reserved_milli_credits": 1000, "reserved_usd_micros": 26_000}
    for _ in range(calls):
        attempt = an_attempt(day=day, hour=int(time[:2]), begun_at=at, **reserved, **changed)
        result = changed.get("result")
        write(store, Begin(attempt), a_finish(attempt, charge, at=at, **({"result": result} if result else {})))
        ids.append(attempt.id)
    return ids


def limited(store: Store, quota: Quota = A_DAY) -> None:
    with store.writing.begin() as connection:
        set_quota(connection, quota, by="ines", now=f"{DAY}T00:00:00.000Z")


def explained(store: Store, at: datetime = AT, provider: str = "apollo") -> Explanation:
    with store.read() as connection:
        return explain(connection, provider, at)


def a_batch(store: Store, batch_id: str, name: str) -> None:
    values = {
        "id": batch_id, "tenant_id": "acme", "name": name, "digest": batch_id, "options": "", "trigger": "file",
        "refresh": False, "generation": 1, "created_at": f"{DAY}T00:00:00.000Z",
    }  # fmt: skip
    with store.writing.begin() as connection:
        connection.execute(insert(batches).values(values))


def test_a_limit_that_was_used_up_is_told_with_the_moment_and_who_spent_it(store: Store) -> None:
    a_batch(store, "b1", "leads.csv")
    limited(store)
    asked(store, "08:10", 6, tenant_id="acme", batch_id="b1")
    asked(store, "14:12", 3, tenant_id="beta", trigger="retry")
    asked(store, "14:30", 1, tenant_id=None)
    asked(store, "21:00", 1)  # after the moment that was asked about
    asked(store, "09:00", 5, provider="exa", source="exa")
    asked(store, "09:00", 2, NOT_SENT)
    asked(store, "09:00", 4, day="2026-11-23")
    said = explained(store)
    assert (said.ran_out, said.ran_out_at, said.limit) == (True, f"{DAY}T14:30:00.000Z", "10 requests per day")
    assert (said.amount, said.used, said.left) == (10, 10, 0)
    assert (said.opens_at, said.closes_at) == (f"{DAY}T00:00:00.000Z", "2026-11-25T00:00:00.000Z")
    assert said.by_tenant == [Share("acme", 6, 0.6), Share("beta", 3, 0.3), Share("", 1, 0.1)]
    assert said.by_batch == [Share("b1", 6, 0.6, "leads.csv"), Share("", 4, 0.4)]
    assert said.by_trigger == [Share("file", 7, 0.7), Share("retry", 3, 0.3)]
    for shares in (said.by_tenant, said.by_batch, said.by_trigger):
        assert sum(share.used for share in shares) == said.used


def test_before_it_was_used_up_it_tells_what_was_left(store: Store) -> None:
    limited(store)
    asked(store, "08:10", 6)
    asked(store, "14:12", 4)
    said = explained(store, AT.replace(hour=14, minute=0))
    assert (said.ran_out, said.used, said.left) == (False, 6, 4)
    told = paragraph(said)
    assert "apollo had not run out at 2026-11-24 14:00 UTC." in told
    assert "6 requests were used since 2026-11-24 00:00 UTC and 4 requests were left" in told


def test_of_several_limits_it_is_the_one_that_turns_last(store: Store) -> None:
    limited(store)
    limited(store, Quota("apollo", Unit.CREDITS, QuotaClock.CYCLE, 12_000, cycle_day=20))
    limited(store, Quota("apollo", Unit.USD, QuotaClock.CYCLE, 10**9, cycle_day=20))
    asked(store, "08:00", 3, day="2026-11-22")
    asked(store, "08:00", 10)  # of which the last is not admitted
    said = explained(store)
    assert (said.limit, said.unit, said.used) == ("12 credits per cycle from day 20", "credits", 12_000)
    assert (said.opens_at, said.closes_at) == ("2026-11-20T00:00:00.000Z", "2026-12-20T00:00:00.000Z")
    assert said.ran_out_at == f"{DAY}T08:00:00.000Z"


def test_a_tenants_limit_is_about_that_tenants_calls(store: Store) -> None:
    limited(store, Quota("apollo", Unit.REQUESTS, QuotaClock.DAY, 2, tenant_id="acme"))
    asked(store, "08:00", 5, tenant_id="beta")
    asked(store, "09:00", 2, tenant_id="acme")
    said = explained(store)
    assert (said.ran_out, said.used, said.by_tenant) == (True, 2, [Share("acme", 2, 1.0)])


def test_a_soft_limit_stops_nothing(store: Store) -> None:
    limited(store, Quota("apollo", Unit.REQUESTS, QuotaClock.DAY, 2, hard=False))
    asked(store, "08:00", 5)
    said = explained(store)
    assert (said.ran_out, said.hard, said.used, said.left) == (False, False, 5, 0)
    assert "Of its soft limit of 2 requests per day, 5 requests were used" in paragraph(said)


def test_work_that_was_turned_away_shows_a_limit_with_too_little_left(store: Store) -> None:
    quota = Quota("apollo", Unit.CREDITS, QuotaClock.DAY, 2500)
    limited(store, quota)
    asked(store, "08:00", 2)
    for number in range(3):
        opening = an_opening(a_prospect(store, somebody(number)))
        (result,) = opening.results
        error = f"the limit of {quota.shown()} is used up"
        write(store, opening, a_closing(result, "quota_exceeded", at=f"{DAY}T09:0{number}:00.000Z", error=error))
    said = explained(store)
    assert (said.ran_out, said.ran_out_at, said.left, said.turned_away) == (True, f"{DAY}T09:00:00.000Z", 500, 3)
    told = paragraph(said)
    assert "the 0.5 credits left were too little for a call" in told
    assert "3 prospects got `quota_exceeded`" in told


def test_what_was_turned_away_for_one_limit_says_nothing_of_another(store: Store) -> None:
    whole, tenants = (Quota("apollo", Unit.CREDITS, QuotaClock.DAY, most) for most in (10_000, 110_000))
    tenants = msgspec.structs.replace(tenants, tenant_id="acme")
    limited(store, whole)
    limited(store, tenants)
    asked(store, "08:00", 1)
    opening = an_opening(a_prospect(store, somebody(1)))
    (result,) = opening.results
    reason = Refusal(tenants, "").reason
    write(store, opening, a_closing(result, "quota_exceeded", at=f"{DAY}T09:00:00.000Z", error=reason))
    said = explained(store)
    assert (said.ran_out, said.limit) == (False, "10 credits per day"), "it is of another tenant, and of another limit"


def test_amounts_are_told_exactly_and_never_as_zero(store: Store) -> None:
    limited(store, Quota("apollo", Unit.USD, QuotaClock.DAY, 200_000))
    asked(store, "08:00", 1, billed(usd_micros=196_000))
    told = paragraph(explained(store))
    assert "Of its limit of $0.20 per day, $0.196 were used" in told
    assert "$0.004 were left" in told


def test_without_a_quota_the_providers_own_refusal_tells(store: Store) -> None:
    asked(store, "08:00", 2, day="2026-11-02", tenant_id="acme")
    asked(store, "08:00", 1)
    refused = an_attempt(day=DAY, hour=9, begun_at=f"{DAY}T09:00:00.000Z")
    at = f"{DAY}T09:00:01.000Z"
    write(store, Begin(refused), a_finish(refused, FREE, at=at, result="quota_exceeded", error="HTTP 422: no credits"))
    said = explained(store)
    assert (said.ran_out, said.limit, said.refused_at, said.refusal) == (True, None, at, "HTTP 422: no credits")
    assert (said.unit, said.used, said.by_tenant[0].name) == ("credits", 3000, "acme")
    assert "it answered that nothing was left (HTTP 422: no credits)" in paragraph(said)
    asked(store, "10:00", 1)  # somebody bought credits
    assert not explained(store).ran_out


def test_without_a_quota_and_a_refusal_nothing_had_run_out(store: Store) -> None:
    asked(store, "08:00", 2, tenant_id="acme")
    said = explained(store)
    assert (said.ran_out, said.limit, said.used, said.left) == (False, None, 2000, None)
    assert (
        "No quota of an hour, day or cycle is set for it; 2 credits were used from 2026-11-24 00:00 UTC on."
        in paragraph(said)
    )


def test_unknown_calls_are_named_with_how_to_resolve_them(store: Store) -> None:
    limited(store)
    asked(store, "08:00", 9)
    (lost,) = asked(store, "09:00", 1, UNKNOWN_CHARGE)
    said = explained(store)
    assert (said.ran_out, said.unknown) == (True, [lost])
    assert f"The charge of 1 call in it is unknown ({lost})" in paragraph(said)
    assert "`sluiceway usage unknown --provider apollo`" in paragraph(said)


def test_what_went_elsewhere_is_told_from_reports_and_from_the_providers_meter(store: Store) -> None:
    limited(store)
    write(store, a_booking(40, day=DAY), a_booking(5, day=DAY, kind="imported"), a_booking(9, day="2026-11-23"))
    assert "no two readings of apollo's own meter to compare" in paragraph(explained_with_one_call(store))
    for hour, used in (("07", 0), ("12", 121)):
        at = f"{DAY}T{hour}:00:00.000Z"
        meter = ("apollo", "platform", "people/match per day", "requests", "headers", at, at)
        with store.writing.begin() as connection:
            keep(connection, [MeterRow(*meter, used=used, amount=600)])
    said = explained(store)
    assert (said.tracked, said.imported) == (40, 5)
    elsewhere = Outside("people/match per day", "requests", f"{DAY}T07:00:00.000Z", f"{DAY}T12:00:00.000Z", 120)
    assert said.outside == [elsewhere]
    told = paragraph(said)
    assert "40 calls made elsewhere were reported" in told
    assert "at least 120 requests more were used outside Sluiceway, between 2026-11-24 07:00 UTC" in told


def explained_with_one_call(store: Store) -> Explanation:
    asked(store, "08:00", 1)
    return explained(store)


def test_moments_are_told_in_the_readers_zone_too(store: Store) -> None:
    limited(store)
    asked(store, "14:12", 10)
    told = paragraph(explained(store), NEW_YORK)
    assert "had run out at 2026-11-24 20:00 UTC (2026-11-24 15:00 America/New_York)" in told
    assert "used up at 2026-11-24 14:12 UTC (2026-11-24 09:12 America/New_York)" in told
    assert "closes at 2026-11-25 00:00 UTC (2026-11-24 19:00 America/New_York)" in told


def test_a_provider_that_nobody_knows_is_a_mistake(store: Store) -> None:
    with pytest.raises(BadInput, match="there are no calls yet"):
        explained(store)
    asked(store, "08:00")
    with pytest.raises(BadInput, match="nothing is known of a provider 'appollo'; known are apollo"):
        explained(store, provider="appollo")
