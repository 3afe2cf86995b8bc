"""Apollo's counterpart answers as Apollo does."""

from __future__ import annotations

import json
from collections.abc import Callable

from talk import Talk

from sluiceway.sandbox.world import Person, World

Someone = Callable[..., Person]
RATE_HEADERS = (
    "x-rate-limit-minute", "x-minute-usage", "x-minute-requests-left",
    "x-rate-limit-hourly", "x-hourly-usage", "x-hourly-requests-left",
    "x-rate-limit-24-hour", "x-24-hour-usage", "x-24-hour-requests-left",
)  # fmt: skip


async def test_a_known_person_is_matched_and_costs_a_credit(talk: Talk, someone: Someone) -> None:
    person = someone()
    got = await talk.match(email=person.email)
    assert got.status == 200
    assert got.json["person"]["name"] == person.name
    assert got.json["person"]["organization"]["annual_revenue"] == person.company.revenue
    assert isinstance(got.json["request_id"], int)
    assert set(RATE_HEADERS) <= set(got.headers)
    meter = await talk.meter("apollo")
    assert (meter["requests"], meter["answered"], meter["billed"], meter["credits"]) == (1, 1, 1, 1000)
    assert meter["usd_micros"] == 26_000


async def test_the_body_is_read_as_well_as_the_query(talk: Talk, someone: Someone) -> None:
    person = someone()
    got = await talk.apollo("/people/match", {"name": person.name, "organization_name": person.company.name})
    assert got.json["person"]["email"] == person.email
    again = await talk.apollo("/people/match", {"id": got.json["person"]["id"]})
    assert again.json["person"]["email"] == person.email


async def test_an_unknown_person_is_a_free_null(talk: Talk, someone: Someone) -> None:
    unknown = someone(in_apollo=False)
    for query in ({"email": unknown.email}, {"name": "Nobody Here"}, {"id": "of no known form"}):
        got = await talk.match(**query)
        assert (got.status, got.json["person"]) == (200, None)
    assert (await talk.meter("apollo"))["billed"] == 0


async def test_somebody_with_a_common_name_is_mistaken_when_only_the_name_is_given(
    talk: Talk, someone: Someone
) -> None:
    person = someone(shares_a_name=True)
    got = await talk.match(name=person.name, domain=person.company.domain)
    assert got.json["person"]["name"] == person.name
    assert got.json["person"]["organization"]["name"] != person.company.name
    assert (await talk.match(email=person.email)).json["person"]["organization"]["name"] == person.company.name


async def test_an_address_that_is_unavailable_is_not_shown(talk: Talk, world: World) -> None:
    people = (world.person(number) for number in range(2000))
    person = next(each for each in people if each.email_status == "unavailable" and each.in_apollo)
    got = await talk.match(linkedin_url=person.linkedin_url)
    assert (got.json["person"]["email"], got.json["person"]["email_status"]) == (None, "unavailable")


async def test_nothing_to_go_by_is_refused(talk: Talk) -> None:
    got = await talk.match(domain="somewhere.example")
    assert got.status == 422
    assert "error" in got.json


async def test_a_bad_key_is_told_so_in_plain_text_without_rate_headers(talk: Talk) -> None:
    for key in ("", "sandbox-mistyped", "wrong", "sandbox-revoked"):
        got = await talk.match(key=key, email="a@b.example")
        assert got.status == 401
        assert got.headers["content-type"].startswith("text/plain")
        assert got.body.startswith(b"Invalid API key")
        assert not set(RATE_HEADERS) & set(got.headers)


async def test_a_key_without_scope_is_refused_without_rate_headers(talk: Talk) -> None:
    got = await talk.match(key="sandbox-no-scope", email="a@b.example")
    assert (got.status, got.json["error_code"]) == (403, "API_INACCESSIBLE")
    assert "api/v1/people/match" in got.json["error"]
    assert not set(RATE_HEADERS) & set(got.headers)


async def test_an_account_without_credits_is_told_so(talk: Talk, someone: Someone) -> None:
    got = await talk.match(key="sandbox-out-of-credits", email=someone().email)
    assert (got.status, got.json) == (422, {"error": "Insufficient credits. Please upgrade your plan."})
    await talk.play("[apollo]\ncredits = 1")
    assert (await talk.match(email=someone().email)).status == 200
    assert (await talk.match(email=someone().email)).status == 422


async def test_a_full_window_answers_429_and_names_itself(talk: Talk, someone: Someone) -> None:
    await talk.play("[apollo]\nminute = 2\nhour = 0\nday = 0")
    for _ in range(2):
        got = await talk.match(email=someone().email)
        assert got.status == 200
    assert (got.headers["x-minute-usage"], got.headers["x-minute-requests-left"]) == ("2", "0")
    assert got.headers["x-rate-limit-hourly"] == got.headers["x-rate-limit-24-hour"] == ""
    assert "x-hourly-usage" not in got.headers
    got = await talk.match(email=someone().email)
    assert got.status == 429
    assert "api/v1/people/match is 2 times per minute" in got.json["message"]
    assert 0 < int(got.headers["retry-after"]) <= 60
    assert (await talk.meter("apollo"))["billed"] == 2


async def test_bulk_is_positional_and_counts_each_person_once(talk: Talk, someone: Someone) -> None:
    person = someone()
    details = [{"email": person.email}, {"name": "Nobody Here"}, {"linkedin_url": person.linkedin_url}]
    got = await talk.apollo("/people/bulk_match", {"details": details})
    assert [match and match["name"] for match in got.json["matches"]] == [person.name, None, person.name]
    assert (got.json["credits_consumed"], got.json["missing_records"]) == (1, 1)
    assert (await talk.meter("apollo"))["credits"] == 1000


async def test_bulk_refuses_what_it_cannot_take(talk: Talk) -> None:
    for body, status, code in (
        ({}, 400, "INVALID_REQUEST"),
        ({"details": [{}] * 11}, 400, "RECORD_LIMIT_EXCEEDED"),
        ({"details": ["x"]}, 422, "UNKNOWN_ERROR"),
    ):
        got = await talk.apollo("/people/bulk_match", body)
        assert (got.status, got.json["error_code"]) == (status, code)


async def test_usage_can_be_read_back_and_agrees_with_the_headers(talk: Talk, someone: Someone) -> None:
    headers = (await talk.match(email=someone().email)).headers
    usage = (await talk.apollo("/usage_stats/api_usage_stats")).json
    minute = next(windows for key, windows in usage.items() if json.loads(key) == ["api/v1/people", "match"])["minute"]
    assert str(minute["consumed"]) == headers["x-minute-usage"]
    assert minute["limit"] - minute["consumed"] == minute["left_over"]
    pool = (await talk.apollo("/usage_stats/credit_usage_stats")).json["credit_usage_stats"]["lead_credit"]
    assert (pool["consumed"], pool["limit"] - pool["left_over"]) == (1, 1)
    profile = (await talk.apollo("/users/api_profile?include_credit_usage=true", method="GET")).json
    assert profile["num_credits_remaining"] == 0
    assert profile["effective_num_lead_credits"] - profile["total_unified_credits_used"] == pool["left_over"]


async def test_the_key_check_costs_nothing(talk: Talk) -> None:
    assert (await talk.apollo("/auth/health", method="GET")).status == 200
    assert (await talk.apollo("/auth/health", method="GET", key="wrong")).status == 401
    assert (await talk.apollo("/nowhere")).status == 404
    assert (await talk.meter("apollo"))["billed"] == 0
