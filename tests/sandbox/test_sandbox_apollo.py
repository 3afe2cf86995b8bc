"""Apollo's counterpart answers as Apollo does."""

from __future__ import annotations

import json
from collections.abc import Callable

from talk import Got, Talk

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


SEARCH = "/mixed_people/api_search"


async def search(talk: Talk, *, key: str = "sandbox-key", **asked: object) -> Got:
    """Search with lists as repeated names that end in brackets, as Apollo wants them."""
    pairs: list[tuple[str, str]] = []
    for name, value in asked.items():
        pairs += [(f"{name}[]", each) for each in value] if isinstance(value, list) else [(name, str(value))]
    return await talk.send("POST", f"/apollo/api/v1{SEARCH}", params=pairs, headers={"x-api-key": key})


async def test_a_search_costs_nothing_and_shows_nobodys_address_or_last_name(talk: Talk) -> None:
    got = await search(talk, person_titles=["chief financial officer"])
    assert got.status == 200
    assert len(got.json["people"]) == 25 < got.json["total_entries"]
    assert set(RATE_HEADERS) <= set(got.headers)
    for person in got.json["people"]:
        assert person["title"] == "Chief Financial Officer"
        assert "***" in person["last_name_obfuscated"]
        assert not person.keys() & {"email", "last_name", "name", "linkedin_url"}
    meter = await talk.meter("apollo")
    assert (meter["requests"], meter["answered"], meter["billed"], meter["credits"]) == (1, 1, 0, 0)


async def test_whom_a_search_finds_is_matched_by_the_id(talk: Talk) -> None:
    shown = (await search(talk, person_seniorities=["founder"], per_page=1)).json["people"][0]
    person = (await talk.match(id=shown["id"])).json["person"]
    assert (person["id"], person["first_name"], person["title"]) == (shown["id"], shown["first_name"], shown["title"])
    assert person["organization"]["name"] == shown["organization"]["name"]
    assert (await talk.meter("apollo"))["billed"] == 1


async def test_pages_are_one_list_that_is_always_the_same(talk: Talk) -> None:
    asked = {"organization_locations": ["Netherlands", "Texas"]}
    pages = [(await search(talk, **asked, page=page, per_page=10)).json["people"] for page in (1, 2, 3)]
    whole = (await search(talk, **asked, per_page=30)).json["people"]
    assert [person["id"] for page in pages for person in page] == [person["id"] for person in whole]
    assert len({person["id"] for person in whole}) == 30
    assert (await search(talk, **asked, page=500)).json["people"] == []


async def test_a_search_keeps_to_everything_that_was_said(talk: Talk, world: World, someone: Someone) -> None:
    company = someone().company
    for asked in ({"q_organization_domains_list": [company.domain]}, {"q_keywords": company.name}):
        people = (await search(talk, **asked, per_page=100)).json["people"]
        assert {person["organization"]["name"] for person in people} == {company.name}
    few = {"organization_num_employees_ranges": ["1,150"], "person_locations": [company.country]}
    for person in (await search(talk, **few)).json["people"]:
        found = world.by_mark(person["id"][16:])
        assert found is not None
        assert (found.company.employees <= 150, found.company.country) == (True, company.country)
        assert found.in_apollo
    none = await search(talk, person_titles=["Director"], include_similar_titles="false")
    assert (none.json["total_entries"], none.json["people"]) == (0, [])


async def test_a_search_refuses_what_there_is_no_page_of(talk: Talk) -> None:
    for asked in ({"page": 501}, {"page": 0}, {"per_page": 101}, {"page": "x"}):
        assert (await search(talk, **asked)).status == 422


async def test_an_account_without_credits_may_still_search_and_one_without_the_scope_may_not(talk: Talk) -> None:
    assert (await search(talk, key="sandbox-out-of-credits")).status == 200
    assert (await search(talk, key="sandbox-no-scope")).status == 403
