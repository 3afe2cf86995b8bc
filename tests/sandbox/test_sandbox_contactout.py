"""ContactOut's counterpart answers as ContactOut does."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from talk import Talk

from sluiceway.sandbox.world import Person, World

Someone = Callable[..., Person]
EVERYTHING = ["work_email", "personal_email", "phone"]


@pytest.fixture
def reachable(world: World) -> Person:
    people = (world.person(number) for number in range(2000))
    return next(
        each
        for each in people
        if each.in_contactout and each.phone and each.personal_email and each.email_status == "verified"
    )


async def test_a_known_person_comes_with_what_was_asked_for_and_each_pool_is_charged(
    talk: Talk, reachable: Person
) -> None:
    got = await talk.enrich(linkedin_url=reachable.linkedin_url, include=EVERYTHING)
    assert (got.status, got.json["status_code"]) == (200, 200)
    profile = got.json["profile"]
    assert profile["email"] == [reachable.email, reachable.personal_email]
    assert profile["phone"] == [reachable.phone]
    assert profile["company"]["revenue"] == reachable.company.revenue
    meter = await talk.meter("contactout")
    assert meter["pools"] == {"search": 1000, "email": 1000, "phone": 1000}
    assert (meter["billed"], meter["credits"], meter["usd_micros"]) == (1, 3000, 520_000)


async def test_without_include_there_are_no_contacts_and_only_the_search_is_charged(
    talk: Talk, reachable: Person
) -> None:
    got = await talk.enrich(full_name=reachable.name, company=["Elsewhere Inc", reachable.company.name])
    assert all(got.json["profile"][array] == [] for array in ("email", "work_email", "personal_email", "phone"))
    assert (await talk.meter("contactout"))["pools"] == {"search": 1000, "email": 0, "phone": 0}


async def test_an_unknown_person_is_a_free_404(talk: Talk, someone: Someone) -> None:
    got = await talk.enrich(email=someone(in_contactout=False).email)
    assert (got.status, got.json) == (404, {"status_code": 404, "message": "Not Found"})
    meter = await talk.meter("contactout")
    assert (meter["billed"], meter["by_status"]) == (0, {"404": 1})


async def test_a_bad_key_is_a_400(talk: Talk) -> None:
    for key in ("", "sandbox-wrong", "sandbox-revoked"):
        got = await talk.enrich(key=key, email="a@b.example")
        assert (got.status, got.json["message"]) == (400, "Bad credentials")


@pytest.mark.parametrize(
    "body", [{}, {"full_name": "Ada Ashfield"}, {"company": ["Acme"]}, {"email": "a@b.example", "include": ["fax"]}]
)
async def test_bad_input_is_a_401(talk: Talk, body: dict[str, object]) -> None:
    got = await talk.enrich(**body)
    assert (got.status, got.json["message"]) == (401, "Bad request")


async def test_an_account_without_credits_or_access_is_a_403(talk: Talk) -> None:
    got = await talk.enrich(key="sandbox-out-of-credits", email="a@b.example")
    assert (got.status, got.json["message"][:24]) == (403, "You're out of credits, p")
    got = await talk.enrich(key="sandbox-no-scope", email="a@b.example")
    assert (got.status, got.json["message"]) == (403, "No access to endpoint")


async def test_the_canned_sample_looks_like_an_answer_and_is_not_billed(talk: Talk, someone: Someone) -> None:
    got = await talk.enrich(key="sandbox-canned", email=someone().email)
    assert got.status == 200
    assert "example-person" in got.json["profile"]["url"]
    stats = (await talk.contactout("/stats", key="sandbox-canned")).json
    assert (stats["period"]["start"][:7], stats["usage"]["quota"]) == ("2023-04", 200)
    assert (await talk.meter("contactout"))["billed"] == 0


async def test_a_profile_can_be_asked_for_by_its_url_at_the_price_of_its_contacts(
    talk: Talk, reachable: Person
) -> None:
    got = await talk.contactout("/people/linkedin", profile=reachable.linkedin_url, include_phone="true")
    assert got.json["profile"]["work_email_status"] == {reachable.email: "Verified"}
    assert (await talk.meter("contactout"))["pools"] == {"search": 0, "email": 1000, "phone": 1000}
    assert (await talk.contactout("/people/linkedin", profile="https://linkedin.com/sales/lead/1")).status == 401


async def test_stats_follow_the_account_s_plan(talk: Talk, reachable: Person) -> None:
    await talk.play('[contactout]\nplan = "pre-paid"\ncredits = 10')
    await talk.enrich(email=reachable.email, include=["work_email"])
    usage = (await talk.contactout("/stats")).json["usage"]
    assert usage == {
        "count": 1, "quota": 9, "phone_count": 0, "phone_quota": 10, "search_count": 1, "search_quota": 9
    }  # fmt: skip
    await talk.play("[contactout]\ncredits = 10")
    await talk.enrich(email=reachable.email, include=["work_email"])
    usage = (await talk.contactout("/stats")).json["usage"]
    assert (usage["quota"], usage["remaining"], usage["over_quota"]) == (10, 9, 0)
    assert (await talk.contactout("/stats", period="2020-01")).json["usage"]["count"] == 0
    assert (await talk.contactout("/stats", period="soon")).status == 401
