"""Apollo's answers, one by one: what each means, what it costs, and what may be done next."""

from __future__ import annotations

from typing import Any

import pytest
from contract import (
    INES,
    Case,
    a_bad_day,
    about,
    agrees,
    agrees_with_meter,
    anywhere,
    ask_all,
    asked,
    confirmed,
    free,
    names,
    paid,
    read,
    read_over_http,
    somebody,
    unreadable,
)

from sluiceway.outcome import ChargeKind, Status
from sluiceway.prospect import Match, Person, Want
from sluiceway.sandbox.process import SandboxProcess
from sluiceway.sources._contract import Response, Retry, understand
from sluiceway.sources.apollo import Apollo

SOURCE = Apollo("an-invented-key")
CREDIT = {"lead": 1000}
USD = 26_000

ORGANIZATION = {
    "id": "5f0e1d2c3b4a59687786950a", "name": "Harbourline Robotics", "primary_domain": "harbourline.example",
    "industry": "industrial automation", "estimated_num_employees": 840, "annual_revenue": 96000000.0,
    "publicly_traded_symbol": "HBLR", "keywords": ["robotics"], "primary_phone": {},
}  # fmt: skip
PERSON = {
    "id": "66f0a1b2c3d4e5f60718293a", "first_name": "Ines", "last_name": "Okafor-Lind", "name": "Ines Okafor-Lind",
    "linkedin_url": "http://www.linkedin.com/in/ines-okafor-lind-0a1b2c", "title": "Chief Financial Officer",
    "email": "ines@harbourline.example", "email_status": "verified", "seniority": "c_suite", "city": "Rotterdam",
    "state": None, "country": "Netherlands", "employment_history": [], "organization": ORGANIZATION,
}  # fmt: skip


def matched(**changed: Any) -> dict[str, Any]:
    """A 200's body about Ines, with some of it changed."""
    return {"person": {**PERSON, **changed}, "request_id": -4420918273645566771}


def bought(**more: Any) -> Any:
    """A credit was spent, and the person found."""
    return paid(Status.COMPLETE, pools=CREDIT, usd=USD, **more)


INVALID_KEY = "Invalid API key. See https://docs.apollo.io/reference/authentication for how to create one."
NO_SCOPE = {"error": "This API key is not authorized to access api/v1/people/match.", "error_code": "API_INACCESSIBLE"}
NO_PLAN = {"message": "This endpoint is only available to Apollo users on paid plans."}
NO_CREDITS = {"error": "Insufficient credits. Please upgrade your plan."}
TOO_MANY = {"message": "The maximum number of api calls allowed for api/v1/people/match is 600 times per hour."}
BULK = {"status": "failed", "error_code": "INVALID_REQUEST", "error_message": "invalid request, missing details"}
STRANGER = {"email": "z@other.example", "linkedin_url": None, "name": "Zoe Quell"}
NOBODYS_EMAIL = {"email": "email_not_unlocked@domain.com", "email_status": "verified"}
NO_EMAIL = ("work_email",)

ANSWERS = [
    Case("found", 200, matched(), bought(fields={
        "title": "Chief Financial Officer", "work_email": "ines@harbourline.example", "company": "Harbourline Robotics",
        "company_domain": "harbourline.example", "employees": 840, "revenue_usd": 96_000_000, "ticker": "HBLR",
        "location": "Rotterdam, Netherlands", "seniority": "c_suite", "industry": "industrial automation",
    })),
    Case("found by name and employer", 200, matched(email=None), bought(match=Match.AGREES, without=NO_EMAIL)),
    Case("a nickname and a legal suffix still agree", 200,
         matched(email=None, name="Inés Lind", organization={"name": "Harbourline Robotics B.V."}),
         bought(match=Match.AGREES)),
    Case("nobody: null", 200, {"person": None, "request_id": 7}, free(Status.NO_DATA)),
    Case("nobody: absent", 200, {"request_id": 7}, free(Status.NO_DATA)),
    Case("somebody else is weak, and paid", 200, matched(**STRANGER),
         paid(Status.NO_DATA, pools=CREDIT, usd=USD, match=Match.WEAK)),
    Case("a guessed e-mail is not kept", 200,
         matched(email="ines.guessed@harbourline.example", email_status="extrapolated"),
         bought(match=Match.AGREES, without=NO_EMAIL)),
    Case("an unavailable e-mail is not kept", 200, matched(email_status="unavailable"), bought(without=NO_EMAIL)),
    Case("the placeholder e-mail is never kept", 200, matched(**NOBODYS_EMAIL),
         bought(match=Match.AGREES, without=NO_EMAIL)),
    Case("an employer that is a list", 200, matched(organization=[]), bought(without=("company",))),
    Case("an employer that is a name", 200, matched(organization="Harbourline"), bought(without=("company",))),
    Case("leaves of odd types", 200,
         matched(title=["CFO"], seniority={}, city=7, organization={**ORGANIZATION, "estimated_num_employees": "840"}),
         bought(fields={"location": "7, Netherlands", "employees": 840}, without=("title", "seniority"))),
    Case("fields nobody has seen before", 200, {**matched(new_field={"a": [1]}), "notices": ["hello"]}, bought()),
]  # fmt: skip
REFUSALS = [
    Case("400 in the bulk envelope", 400, BULK, free(Status.FAILED, says="missing details")),
    Case("401 is a bad key, in plain text", 401, INVALID_KEY,
         free(Status.UNAUTHORIZED, Retry.STOP, says="Invalid API key")),
    Case("401 in JSON", 401, {"error": "INVALID_ACCESS_TOKEN"}, free(Status.UNAUTHORIZED, Retry.STOP)),
    Case("401 that is not UTF-8", 401, b'{"error": "\xff"}', free(Status.UNAUTHORIZED, Retry.STOP)),
    Case("403 is a key without the scope", 403, NO_SCOPE, free(Status.UNAUTHORIZED, Retry.STOP, says="not authorized")),
    Case("403 is a plan without the endpoint", 403, NO_PLAN, free(Status.UNAUTHORIZED, Retry.STOP, says="paid plans")),
    Case("422 is out of credits", 422, NO_CREDITS, free(Status.QUOTA_EXCEEDED, Retry.STOP, says="Insufficient")),
    Case("422 is a mistake in the request", 422, {"error": "Required parameter missing"}, free(Status.FAILED)),
    Case("422 in the bulk envelope", 422, {**BULK, "error_code": "UNKNOWN_ERROR"}, free(Status.FAILED)),
    Case("429 names its window", 429, TOO_MANY,
         free(Status.RATE_LIMITED, Retry.BACKOFF, retry_after=12.0, says="per hour"), {"retry-after": "12"}),
    Case("404 with an error code", 404, {"error_code": "request_id_unknown"}, free(Status.FAILED)),
]  # fmt: skip
CASES = [*ANSWERS, *REFUSALS, *anywhere(), *unreadable(Case("", 200, matched(), free(Status.NO_DATA)).content)]


@pytest.mark.parametrize("case", CASES, ids=names(CASES))
def test_each_answer_of_apollo_means_what_the_table_says(case: Case) -> None:
    agrees(read(SOURCE, case, about()), case.means)


@pytest.mark.parametrize("case", CASES, ids=names(CASES))
async def test_each_answer_of_apollo_means_the_same_over_http(case: Case, sandbox: SandboxProcess) -> None:
    agrees(await read_over_http(SOURCE, case, about(), sandbox), case.means)


def test_apollo_is_counted_only_after_a_confirmed_answer() -> None:
    counted = [case.name for case in CASES if read(SOURCE, case, about()).charge.kind is ChargeKind.BILLED]
    assert counted == [case.name for case in confirmed(ANSWERS)]
    assert all(case.status == 200 and case.body["person"] for case in confirmed(ANSWERS))


async def test_what_we_count_of_apollo_is_what_its_own_meter_counts(sandbox: SandboxProcess) -> None:
    readings = await ask_all(SOURCE, somebody(80), sandbox)
    assert {reading.charge.kind for reading in readings} <= {ChargeKind.BILLED, ChargeKind.FREE}
    assert any(reading.status is Status.COMPLETE for reading in readings)
    agrees_with_meter(SOURCE, readings, sandbox)


async def test_on_a_bad_day_apollo_is_never_counted_without_a_confirmed_answer(sandbox: SandboxProcess) -> None:
    subjects = somebody(200)
    with a_bad_day(sandbox):
        readings = await ask_all(SOURCE, subjects, sandbox)
        agrees_with_meter(SOURCE, readings, sandbox)
    assert {reading.charge.kind for reading in readings} >= {ChargeKind.BILLED, ChargeKind.FREE, ChargeKind.UNKNOWN}


def test_apollo_is_asked_in_the_query_string_and_for_nothing_that_costs_more() -> None:
    request = asked(SOURCE, about())
    assert (request.method, request.path, request.body) == ("POST", "/people/match", None)
    assert dict(request.query) == {
        "first_name": "Ines", "last_name": "Okafor-Lind", "email": "ines@harbourline.example",
        "organization_name": "Harbourline Robotics", "domain": "harbourline.example",
    }  # fmt: skip


def test_apollo_reveals_personal_addresses_only_when_they_are_wanted() -> None:
    wanted = asked(SOURCE, about(want=(Want.PERSONAL_EMAIL,)))
    assert dict(wanted.query)["reveal_personal_emails"] == "true"


def test_apollo_gives_a_whole_name_where_there_are_no_parts() -> None:
    request = asked(SOURCE, about(Person(full_name="Ines Okafor-Lind", company="Harbourline Robotics")))
    assert dict(request.query)["name"] == "Ines Okafor-Lind"


def test_the_request_id_of_apollo_is_kept_whole_though_it_is_negative_and_long() -> None:
    assert read(SOURCE, ANSWERS[0], about()).request_id == "-4420918273645566771"


@pytest.mark.parametrize(
    ("status", "body", "means"),
    [
        (200, b'{"healthy": true, "is_logged_in": true}', (Status.COMPLETE, Retry.NEVER)),
        (200, b'{"healthy": true, "is_logged_in": false}', (Status.UNAUTHORIZED, Retry.STOP)),
        (200, b"{}", (Status.UNAUTHORIZED, Retry.STOP)),
        (401, INVALID_KEY.encode(), (Status.UNAUTHORIZED, Retry.STOP)),
    ],
)
def test_the_free_check_of_apollo_tells_a_good_key_from_a_bad_one(
    status: int, body: bytes, means: tuple[Status, Retry]
) -> None:
    reading = understand(SOURCE, about(INES), SOURCE.check(), Response(status, {}, body))
    assert (reading.status, reading.retry) == means
    assert reading.charge.kind is ChargeKind.FREE
