"""ContactOut's answers, one by one: what each means, which credits it costs, and what may be done next."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from contract import (
    HTML,
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
    unknown,
    unreadable,
)

from sluiceway.outcome import ChargeKind, Status
from sluiceway.prospect import Match, Person, Want
from sluiceway.sandbox.process import SandboxProcess
from sluiceway.sources._contract import Response, Retry, Skip, understand
from sluiceway.sources.contactout import ContactOut

SOURCE = ContactOut("an-invented-key")

COMPANY = {
    "name": "Harbourline Robotics", "url": "https://linkedin.com/company/harbourline", "domain": "harbourline.example",
    "type": "Public Company", "size": 840, "revenue": 96000000, "founded_at": 2014, "industry": "Automation Machinery",
    "logo_url": None, "locations": ["Rotterdam, NL"],
}  # fmt: skip
JOB = {
    "start_date": "20223", "end_date": "", "title": "Chief Financial Officer", "company_name": "Harbourline Robotics",
    "start_date_year": 2022, "is_current": True,
}  # fmt: skip
PROFILE = {
    "url": "https://linkedin.com/in/ines-okafor-lind-0a1b2c",
    "email": ["ines@harbourline.example"], "work_email": ["ines@harbourline.example"],
    "personal_email": [], "phone": [],
    "full_name": "Ines Okafor-Lind", "headline": "CFO at Harbourline Robotics", "industry": "Machinery",
    "company": COMPANY, "location": "Rotterdam, Netherlands",
    "experience": [{**JOB, "is_current": False, "title": "x"}, JOB],
    "seniority": "CXO", "updated_at": "2026-10-02 11:20:05",
}  # fmt: skip
NO_CONTACTS: dict[str, Any] = {"email": [], "work_email": [], "personal_email": [], "phone": []}
EVERYTHING = {
    "email": ["ines@harbourline.example", "ines.ol@mail.example"], "personal_email": ["ines.ol@mail.example"],
    "phone": ["+31600000000", "+31600000001"],
}  # fmt: skip
CAMEL = {
    "url": PROFILE["url"], "fullName": "Ines Okafor-Lind", "personalEmail": [],
    "workEmail": ["ines@harbourline.example"], "experience": [{**JOB, "isCurrent": True}],
    "company": {"name": "Harbourline Robotics", "linkedinCompanyId": 9182736},
}  # fmt: skip

ALL = about(want=tuple(Want))
PERSONAL = about(want=(Want.PERSONAL_EMAIL,))
PHONE = about(want=(Want.PHONE,))
NOTHING = about(want=())


def profile(**changed: Any) -> dict[str, Any]:
    """A 200's body about Ines, with some of her profile changed."""
    return {"status_code": 200, "profile": {**PROFILE, **changed}}


def said(status: int, message: str) -> dict[str, Any]:
    """A refusal's body."""
    return {"status_code": status, "message": message}


def bought(*pools: str, usd: int, status: Status = Status.COMPLETE, **more: Any) -> Any:
    """These credits were spent."""
    return paid(status, pools=dict.fromkeys(pools, 1000), usd=usd, **more)


OUT_OF_CREDITS = "You're out of credits, please email your sales manager or book a meeting to get more."
STOPPED = free(Status.UNAUTHORIZED, Retry.STOP)
SAMPLE = free(Status.UNAUTHORIZED, Retry.STOP, says="canned sample")
SAMPLE_MESSAGE = "This is a sample response. Please book a call."
WORK_EMAIL = {"work_email": "ines@harbourline.example"}

ANSWERS = [
    Case("found with a work e-mail", 200, profile(), bought("search", "email", usd=170_000, fields={
        **WORK_EMAIL, "title": "Chief Financial Officer", "seniority": "CXO", "location": "Rotterdam, Netherlands",
        "company": "Harbourline Robotics", "company_domain": "harbourline.example", "employees": 840,
        "revenue_usd": 96_000_000, "industry": "Automation Machinery",
    }, without=("phone", "personal_email"))),
    Case("found without any contact data", 200, profile(**NO_CONTACTS),
         bought("search", usd=20_000, match=Match.AGREES, without=("work_email",))),
    Case("a profile alone, as asked", 200, profile(**NO_CONTACTS),
         bought("search", usd=20_000, match=Match.AGREES), subject=NOTHING),
    Case("everything that was asked for", 200, profile(**EVERYTHING), bought(
        "search", "email", "phone", usd=520_000, fields={
        **WORK_EMAIL, "personal_email": "ines.ol@mail.example", "phone": "+31600000000",
    }), subject=ALL),
    Case("a personal e-mail", 200, profile(**{**EVERYTHING, "work_email": [], "phone": []}), bought(
        "search", "email", usd=270_000, fields={"personal_email": "ines.ol@mail.example"}, without=("work_email",)),
        subject=PERSONAL),
    Case("a phone", 200, profile(**{**NO_CONTACTS, "phone": ["+31600000000"]}),
         bought("search", "phone", usd=270_000, match=Match.AGREES, fields={"phone": "+31600000000"}), subject=PHONE),
    Case("contact data nobody asked for is neither counted nor kept", 200, profile(**EVERYTHING),
         bought("search", "email", usd=170_000, fields=WORK_EMAIL, without=("phone", "personal_email"))),
    Case("asked for a phone, and there is none", 200, profile(**NO_CONTACTS),
         bought("search", usd=20_000, match=Match.AGREES, without=("phone",)), subject=PHONE),
    Case("names in camelCase", 200, {"status_code": 200, "profile": CAMEL},
         bought("search", "email", usd=170_000, fields={**WORK_EMAIL, "title": "Chief Financial Officer"})),
    Case("both spellings, one of them empty", 200, profile(workEmail=[], work_email=["ines@harbourline.example"]),
         bought("search", "email", usd=170_000, fields=WORK_EMAIL)),
    Case("a lone address instead of a list", 200, profile(work_email="ines@harbourline.example", email=None),
         bought("search", "email", usd=170_000, fields=WORK_EMAIL)),
    Case("ragged types", 200, profile(company={"name": "Harbourline Robotics", "size": "501-1000", "revenue": "96M"},
                                      experience={}, seniority=["CXO"], location=None),
         bought("search", "email", usd=170_000, fields=WORK_EMAIL, without=("employees", "title", "location"))),
    Case("an employer that is a list", 200, profile(company=[]),
         bought("search", "email", usd=170_000, without=("company",))),
    Case("an employer that is a bare name", 200, profile(company="Harbourline Robotics", email=[], work_email=[]),
         bought("search", usd=20_000, match=Match.AGREES, fields={"company": "Harbourline Robotics"})),
    Case("somebody else is weak, and paid", 200,
         profile(full_name="Zoe Quell", email=["z@other.example"], work_email=["z@other.example"]),
         bought("search", "email", usd=170_000, status=Status.NO_DATA, match=Match.WEAK)),
    Case("the body's status as text", 200, {"status_code": "200", "profile": PROFILE},
         bought("search", "email", usd=170_000)),
    Case("no status in the body", 200, {"profile": PROFILE}, bought("search", "email", usd=170_000)),
]  # fmt: skip
NOBODY = [
    Case("404 is nobody", 404, said(404, "Not Found"), free(Status.NO_DATA)),
    Case("an empty profile is nobody", 200, {"status_code": 200, "profile": []}, free(Status.NO_DATA)),
    Case("a null profile is nobody", 200, {"status_code": 200, "profile": None}, free(Status.NO_DATA)),
    Case("200 that says 404", 200, said(404, "Not Found"), free(Status.NO_DATA)),
    Case("404 from a router that is not ContactOut's", 404, {"message": "no Route matched with those values"},
         free(Status.FAILED)),
]  # fmt: skip
SAMPLES = [
    Case("a canned sample is no access", 200,
         {**said(200, SAMPLE_MESSAGE), **profile(url="https://linkedin.com/in/example-person")}, SAMPLE),
    Case("a sample known by its addresses", 200, profile(work_email=["email1@example.com"]), SAMPLE),
    Case("a sample known by its phone", 200, profile(phone=["phone number 1"]), SAMPLE),
    Case("a sample known by its message", 200, {**profile(), "message": SAMPLE_MESSAGE}, SAMPLE),
]  # fmt: skip
REFUSALS = [
    Case("400 is a bad key", 400, said(400, "Bad credentials"), STOPPED),
    Case("400 about headers is a bad key", 400, said(400, "Invalid headers"), STOPPED),
    Case("400 that says nothing is a bad key", 400, "", STOPPED),
    Case("400 about something else is our mistake", 400, said(400, "company may hold 10 items"), free(Status.FAILED)),
    Case("401 is our mistake", 401, said(401, "Bad request"), free(Status.FAILED, says="Bad request")),
    Case("401 about input is our mistake", 401, said(401, "Invalid input"), free(Status.FAILED)),
    Case("401 about a token is a bad key", 401, {"message": "invalid token"}, STOPPED),
    Case("401 about credentials is a bad key", 401, said(401, "Bad credentials"), STOPPED),
    Case("403 is out of credits", 403, said(403, OUT_OF_CREDITS),
         free(Status.QUOTA_EXCEEDED, Retry.STOP, says="out of credits")),
    Case("403 is no access", 403, said(403, "No access to endpoint"), STOPPED),
    Case("403 from a firewall", 403, HTML, STOPPED),
    Case("429", 429, said(429, "Too Many Requests"), free(Status.RATE_LIMITED, Retry.BACKOFF, retry_after=3.0),
         {"retry-after": "3"}),
    Case("422", 422, said(422, "Unprocessable"), free(Status.FAILED)),
]  # fmt: skip
CONTRADICTIONS = [
    Case("200 that says 403", 200, said(403, OUT_OF_CREDITS), free(Status.QUOTA_EXCEEDED, Retry.STOP)),
    Case("200 that says 400", 200, said(400, "Bad credentials"), STOPPED),
    Case("200 that says 500", 200, said(500, "Server Error"), free(Status.FAILED, Retry.BACKOFF)),
    Case("400 that says 404", 400, said(404, "Not Found"), free(Status.NO_DATA)),
    Case("500 that says 404", 500, said(404, "Not Found"), free(Status.FAILED, Retry.BACKOFF)),
    Case("400 with a profile", 400, profile(), unknown()),
    Case("500 with a profile", 500, profile(), unknown()),
    Case("200 without a profile", 200, {"status_code": 200, "data": {}}, unknown()),
    Case("200 with a profile that is a text", 200, {"status_code": 200, "profile": "Ines"}, unknown()),
]  # fmt: skip
CASES = [
    *ANSWERS, *NOBODY, *SAMPLES, *REFUSALS, *CONTRADICTIONS, *anywhere(), *unreadable(msgspec.json.encode(profile())),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=names(CASES))
def test_each_answer_of_contactout_means_what_the_table_says(case: Case) -> None:
    agrees(read(SOURCE, case, about()), case.means)


@pytest.mark.parametrize("case", CASES, ids=names(CASES))
async def test_each_answer_of_contactout_means_the_same_over_http(case: Case, sandbox: SandboxProcess) -> None:
    agrees(await read_over_http(SOURCE, case, about(), sandbox), case.means)


def test_contactout_is_counted_only_after_a_confirmed_answer() -> None:
    counted = [case.name for case in CASES if read(SOURCE, case, about()).charge.kind is ChargeKind.BILLED]
    assert counted == [case.name for case in confirmed(ANSWERS)]
    assert all(case.status == 200 and case.body["profile"] for case in confirmed(ANSWERS))


@pytest.mark.parametrize("want", [(Want.WORK_EMAIL,), tuple(Want)])
async def test_what_we_count_of_contactout_is_what_its_own_meter_counts(
    want: tuple[Want, ...], sandbox: SandboxProcess
) -> None:
    readings = await ask_all(SOURCE, somebody(80, want=want), sandbox)
    assert {reading.charge.kind for reading in readings} <= {ChargeKind.BILLED, ChargeKind.FREE}
    assert any(reading.status is Status.COMPLETE for reading in readings)
    agrees_with_meter(SOURCE, readings, sandbox)


async def test_on_a_bad_day_contactout_is_never_counted_without_a_confirmed_answer(sandbox: SandboxProcess) -> None:
    subjects = somebody(200)
    with a_bad_day(sandbox):
        readings = await ask_all(SOURCE, subjects, sandbox)
        agrees_with_meter(SOURCE, readings, sandbox)
    assert {reading.charge.kind for reading in readings} >= {ChargeKind.BILLED, ChargeKind.FREE, ChargeKind.UNKNOWN}


def test_nothing_of_a_canned_sample_is_stored() -> None:
    assert all(read(SOURCE, case, ALL).found == () for case in SAMPLES)


def test_contactout_is_asked_with_every_key_and_for_a_work_email_alone_by_default() -> None:
    request = asked(SOURCE, about(msgspec.structs.replace(INES, linkedin_url="https://linkedin.com/in/ines")))
    assert (request.method, request.path) == ("POST", "/people/enrich")
    assert msgspec.json.decode(request.body or b"") == {
        "linkedin_url": "https://linkedin.com/in/ines", "email": "ines@harbourline.example",
        "first_name": "Ines", "last_name": "Okafor-Lind", "company": ["Harbourline Robotics"],
        "company_domain": ["harbourline.example"], "include": ["work_email"],
    }  # fmt: skip


def test_the_order_in_which_things_are_wanted_does_not_make_another_request() -> None:
    one, other = asked(SOURCE, about(want=tuple(Want))), asked(SOURCE, about(want=tuple(reversed(Want))))
    assert one.key("contactout") == other.key("contactout")


@pytest.mark.parametrize(
    ("want", "pools", "usd"),
    [
        ((), {"search": 1000}, 20_000),
        ((Want.WORK_EMAIL,), {"search": 1000, "email": 1000}, 170_000),
        ((Want.WORK_EMAIL, Want.PERSONAL_EMAIL), {"search": 1000, "email": 1000}, 270_000),
        (tuple(Want), {"search": 1000, "email": 1000, "phone": 1000}, 520_000),
    ],
)
def test_the_price_of_contactout_is_the_most_that_can_come_back(
    want: tuple[Want, ...], pools: dict[str, int], usd: int
) -> None:
    price = SOURCE.price(want)
    assert (price.credits, price.usd_micros) == (pools, usd)


@pytest.mark.parametrize(
    "person",
    [
        Person(),
        Person(full_name="Ines Okafor-Lind"),
        Person(company="Harbourline Robotics", domain="harbourline.example"),
        Person(first_name="Ines", company="Harbourline Robotics"),
        Person(linkedin_url="https://linkedin.com/company/harbourline", email="not an address"),
    ],
)
def test_contactout_is_not_asked_about_someone_it_has_no_key_for(person: Person) -> None:
    assert isinstance(SOURCE.request(about(person)), Skip)


POST_PAID = {"count": 120, "quota": 1000, "remaining": 880, "phone_quota": 200, "phone_remaining": 186,
             "search_quota": 5000, "search_remaining": 4690}  # fmt: skip
PRE_PAID = {"count": 120, "quota": 30, "phone_count": 1, "phone_quota": 9, "search_count": 5, "search_quota": 0}
SAMPLE_STATS = {"status_code": 200, "period": {"start": "2023-04-01", "end": "2023-04-30"}, "usage": {"quota": 200}}


@pytest.mark.parametrize(
    ("body", "left"),
    [
        ({"usage": POST_PAID, "period": {"start": "2026-11-01"}}, {"email": 880, "phone": 186, "search": 4690}),
        ({"usage": PRE_PAID, "period": None}, {"email": 30, "phone": 9, "search": 0}),
        ({"usage": {"quota": "?"}}, {"email": None, "phone": None, "search": None}),
    ],
)
def test_the_free_check_of_contactout_says_how_many_credits_are_left(body: Any, left: Any) -> None:
    reading = understand(SOURCE, about(), SOURCE.check(), Response(200, {}, msgspec.json.encode(body)))
    assert (reading.status, reading.charge.kind, reading.data) == (
        Status.COMPLETE, ChargeKind.FREE, {"credits_left": left},
    )  # fmt: skip


@pytest.mark.parametrize("answer", [(400, said(400, "Bad credentials")), (200, SAMPLE_STATS)])
def test_the_free_check_of_contactout_finds_a_key_without_access(answer: tuple[int, Any]) -> None:
    status, body = answer
    reading = understand(SOURCE, about(), SOURCE.check(), Response(status, {}, msgspec.json.encode(body)))
    assert (reading.status, reading.retry) == (Status.UNAUTHORIZED, Retry.STOP)
