"""Exa's answers, one by one: which pages count, what each search costs, and what may be done next."""

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
from sluiceway.prospect import Match, Person
from sluiceway.sandbox.process import SandboxProcess
from sluiceway.sources._contract import Retry, Skip
from sluiceway.sources.exa import Exa

SOURCE = Exa("an-invented-key")
USD = 7_000

PAGE = {
    "id": "https://harbourline.example/news/cfo", "url": "https://harbourline.example/news/cfo",
    "title": "Harbourline Robotics names Ines Okafor-Lind finance chief", "publishedDate": "2022-03-02T00:00:00.000Z",
    "author": None, "text": "Harbourline Robotics today named a chief.", "highlights": ["names Ines Okafor-Lind"],
}  # fmt: skip
ARTICLE = {
    "title": "Harbourline Robotics names Ines Okafor-Lind finance chief", "url": "https://harbourline.example/news/cfo",
    "published": "2022-03-02", "highlight": "names Ines Okafor-Lind",
}  # fmt: skip


def page(**changed: Any) -> dict[str, Any]:
    """A page about Ines on somebody else's site, with some of it changed."""
    return {**PAGE, "url": "https://press.example/a", **changed}


def found(*pages: Any, **more: Any) -> dict[str, Any]:
    """A 200's body with these pages."""
    return {"requestId": "7c1e4f0b", "results": list(pages), "costDollars": {"total": 0.007}, **more}


def bought(*articles: dict[str, str], usd: int | None = USD, **more: Any) -> Any:
    """A search was paid, and these articles are about the person."""
    return paid(Status.COMPLETE, usd=usd, match=Match.AGREES, fields={"articles": list(articles)}, **more)


def in_vain(*, usd: int | None = USD, match: Match = Match.WEAK, **more: Any) -> Any:
    """A search was paid, and nothing is about the person."""
    return paid(Status.NO_DATA, usd=usd, match=match, without=("articles",), **more)


def refusal(tag: str, error: str = "It could not be done") -> dict[str, Any]:
    """A refusal's body."""
    return {"requestId": "7c1e4f0b", "error": error, "tag": tag}


COMPANY_PAGE = page(title="About Harbourline Robotics", text="Warehouse robots.", highlights=[])
NAMESAKE = page(title="Ines Okafor-Lind wins a regatta", text="The sailor from Vlissingen.", highlights=[])
KEPT_APART = {
    "weak": [{"title": "Ines Okafor-Lind wins a regatta", "url": "https://press.example/a", "published": "2022-03-02",
              "highlight": "The sailor from Vlissingen."}]
}  # fmt: skip
ELSEWHERE = {**ARTICLE, "url": "https://press.example/a"}
STOPPED = free(Status.UNAUTHORIZED, Retry.STOP)
NO_MONEY = free(Status.QUOTA_EXCEEDED, Retry.STOP)

ANSWERS = [
    Case("a page about the person", 200, found(PAGE), bought(ARTICLE)),
    Case("nothing found is paid as well", 200, found(), in_vain(match=Match.AGREES)),
    Case("a page about a namesake is weak", 200, found(NAMESAKE), in_vain(data=KEPT_APART)),
    Case("a page about the employer alone is weak", 200, found(COMPANY_PAGE), in_vain()),
    Case("what is weak is kept apart from what counts", 200, found(NAMESAKE, PAGE), bought(ARTICLE, data=KEPT_APART)),
    Case("the employer known by its site", 200,
         found({**PAGE, "title": "Ines Okafor-Lind", "text": "", "url": "https://www.harbourline.example/x"}),
         bought({**ARTICLE, "title": "Ines Okafor-Lind", "url": "https://www.harbourline.example/x"})),
    Case("a site that only ends like the employer's is weak", 200,
         found({**PAGE, "title": "Ines Okafor-Lind", "text": "", "url": "https://notharbourline.example/x"}),
         in_vain()),
    Case("the employer known by its domain in the text", 200,
         found(page(title="Ines Okafor-Lind", text="Write to harbourline.example today.")),
         bought({**ELSEWHERE, "title": "Ines Okafor-Lind"})),
    Case("the name without accents, the other way round", 200,
         found(page(title="LIND, Inès: Harbourline Robotics", text="", highlights=[])),
         bought({**ELSEWHERE, "title": "LIND, Inès: Harbourline Robotics", "highlight": ""})),
    Case("a middle initial in between", 200,
         found(page(title="Ines M. Okafor-Lind of Harbourline Robotics", highlights=[])),
         bought({**ELSEWHERE, "title": "Ines M. Okafor-Lind of Harbourline Robotics",
                 "highlight": "Harbourline Robotics today named a chief."})),
    Case("a family name alone is weak", 200,
         found(page(title="A Lind of Harbourline Robotics", text="Ms Okafor-Lind", highlights=[])), in_vain()),
    Case("given and family names of two people are weak", 200,
         found(page(title="Ines Berg and her colleague Zoe Lind, Harbourline Robotics", highlights=[])), in_vain()),
    Case("no cost told is unknown, not nothing", 200, found(PAGE, costDollars=None), bought(ARTICLE, usd=None)),
    Case("no total told is unknown, not nothing", 200, found(costDollars={}), in_vain(usd=None, match=Match.AGREES)),
    Case("a cost that cannot be is unknown", 200, found(PAGE, costDollars={"total": -1}), bought(ARTICLE, usd=None)),
    Case("a cost that is no number is unknown", 200, found(PAGE, costDollars={"total": "NaN"}),
         bought(ARTICLE, usd=None)),
    Case("a cost written as text", 200, found(PAGE, costDollars={"total": "0.0045"}), bought(ARTICLE, usd=4_500)),
    Case("a page that is no link is left out", 200, found({**PAGE, "url": "javascript:alert(1)"}),
         in_vain(match=Match.AGREES)),
    Case("ragged types", 200, found(7, None, [], {**PAGE, "highlights": "x", "publishedDate": 2022, "author": []}),
         bought({**ARTICLE, "published": "", "highlight": "Harbourline Robotics today named a chief."})),
    Case("a page without a title", 200,
         found(page(title=None, highlights=["Ines Okafor-Lind at Harbourline Robotics"])),
         bought({**ELSEWHERE, "title": "", "highlight": "Ines Okafor-Lind at Harbourline Robotics"})),
    Case("the passage that names the person is shown", 200,
         found(page(highlights=["Robots.", "said Ines Okafor-Lind"])),
         bought({**ELSEWHERE, "highlight": "said Ines Okafor-Lind"})),
]  # fmt: skip
REFUSALS = [
    *(Case(f"400 {tag}", 400, refusal(tag), free(Status.FAILED, says=tag)) for tag in (
        "INVALID_REQUEST_BODY", "INVALID_REQUEST", "NUM_RESULTS_EXCEEDED", "NO_CONTENT_FOUND")),
    Case("401 is a bad key", 401, refusal("INVALID_API_KEY", "Invalid API key"), STOPPED),
    Case("401 that is not JSON", 401, HTML, STOPPED),
    *(Case(f"402 {tag}", 402, refusal(tag), NO_MONEY) for tag in (
        "NO_MORE_CREDITS", "API_KEY_BUDGET_EXCEEDED", "TEAM_BUDGET_EXCEEDED", "SOMETHING_NEW")),
    *(Case(f"403 {tag}", 403, refusal(tag), STOPPED) for tag in (
        "FEATURE_DISABLED", "TEAM_BLOCKED", "INSUFFICIENT_SCOPE", "SOMETHING_NEW")),
    Case("403 PROHIBITED_CONTENT is about one question", 403, refusal("PROHIBITED_CONTENT"), free(Status.FAILED)),
    Case("404 NOT_FOUND", 404, refusal("NOT_FOUND"), free(Status.FAILED)),
    Case("422", 422, refusal("UNPROCESSABLE"), free(Status.FAILED)),
    Case("429 with a tag", 429, refusal("RATE_LIMIT_EXCEEDED"), free(Status.RATE_LIMITED, Retry.BACKOFF)),
    Case("429 without a tag", 429, {"error": "slow down"}, free(Status.RATE_LIMITED, Retry.BACKOFF, says="slow down")),
    Case("500 INTERNAL_ERROR", 500, refusal("INTERNAL_ERROR"), free(Status.FAILED, Retry.BACKOFF)),
    Case("503 SERVICE_OVERLOADED is not counted", 503, refusal("SERVICE_OVERLOADED"),
         free(Status.FAILED, Retry.BACKOFF)),
    Case("504 with a tag", 504, refusal("TIMEOUT"), unknown(Status.TIMED_OUT)),
    Case("200 without results", 200, {"requestId": "7c1e4f0b", "costDollars": {"total": 0.007}}, unknown()),
    Case("200 whose results are an object", 200, found() | {"results": {}}, unknown()),
]  # fmt: skip
CASES = [*ANSWERS, *REFUSALS, *anywhere(), *unreadable(msgspec.json.encode(found(PAGE)))]


@pytest.mark.parametrize("case", CASES, ids=names(CASES))
def test_each_answer_of_exa_means_what_the_table_says(case: Case) -> None:
    agrees(read(SOURCE, case, about()), case.means)


@pytest.mark.parametrize("case", CASES, ids=names(CASES))
async def test_each_answer_of_exa_means_the_same_over_http(case: Case, sandbox: SandboxProcess) -> None:
    agrees(await read_over_http(SOURCE, case, about(), sandbox), case.means)


def test_exa_is_counted_only_after_a_confirmed_answer() -> None:
    counted = [case.name for case in CASES if read(SOURCE, case, about()).charge.kind is ChargeKind.BILLED]
    assert counted == [case.name for case in confirmed(ANSWERS)]
    assert all(case.status == 200 for case in confirmed(ANSWERS))


async def test_what_we_count_of_exa_is_what_its_own_meter_counts(sandbox: SandboxProcess) -> None:
    readings = await ask_all(SOURCE, somebody(80), sandbox)
    assert {reading.charge.kind for reading in readings} <= {ChargeKind.BILLED, ChargeKind.FREE}
    assert any(reading.status is Status.COMPLETE for reading in readings)
    agrees_with_meter(SOURCE, readings, sandbox)


async def test_on_a_bad_day_exa_is_never_counted_without_a_confirmed_answer(sandbox: SandboxProcess) -> None:
    subjects = somebody(200)
    with a_bad_day(sandbox):
        readings = await ask_all(SOURCE, subjects, sandbox)
        agrees_with_meter(SOURCE, readings, sandbox)
    assert {reading.charge.kind for reading in readings} >= {ChargeKind.BILLED, ChargeKind.FREE, ChargeKind.UNKNOWN}


def test_exa_is_asked_for_no_more_than_one_search_pays() -> None:
    request = asked(SOURCE, about())
    assert msgspec.json.decode(request.body or b"") == {
        "query": '"Ines Okafor-Lind" Harbourline Robotics', "type": "auto", "numResults": 10,
        "contents": {"highlights": True, "text": {"maxCharacters": 2000}},
    }  # fmt: skip
    assert (request.price.usd_micros, request.price.credits) == (USD, {})


@pytest.mark.parametrize(
    "person",
    [
        Person(full_name="Ines Okafor-Lind"),
        Person(company="Harbourline Robotics"),
        Person(full_name="Ines", company="Harbourline Robotics"),
        Person(email="ines@harbourline.example", linkedin_url="https://linkedin.com/in/ines"),
    ],
)
def test_exa_is_not_asked_where_nobody_could_tell_whom_a_page_is_about(person: Person) -> None:
    assert isinstance(SOURCE.request(about(person)), Skip)


def test_exa_can_search_for_an_employer_known_only_by_its_domain() -> None:
    person = Person(full_name="Ines Okafor-Lind", domain="www.harbourline.example")
    assert b"harbourline.example" in (asked(SOURCE, about(person)).body or b"")


def test_the_request_id_of_exa_is_kept_from_the_body_or_else_from_the_header() -> None:
    headers = {"x-request-id": "from-the-header"}
    in_body = Case("", 200, found(PAGE), bought(ARTICLE), headers)
    in_header = Case("", 200, found(PAGE, requestId=None), bought(ARTICLE), headers)
    assert [read(SOURCE, case, about(INES)).request_id for case in (in_body, in_header)] == [
        "7c1e4f0b", "from-the-header",
    ]  # fmt: skip


def test_exa_has_no_free_way_to_check_a_key() -> None:
    assert SOURCE.check() is None
