"""Apollo's people search, answer by answer: who was found, and that it is never paid for."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from contract import Case, agrees, anywhere, free, names, unknown, unreadable
from hypothesis import given
from hypothesis import strategies as st

from sluiceway.outcome import ChargeKind, Status
from sluiceway.prospect import Person
from sluiceway.sandbox.process import SandboxProcess
from sluiceway.sources import EmployeeRange, FoundPage, FoundPerson, Reading, Request, Response, Retry, Search, Subject
from sluiceway.sources._contract import SEARCH, understand
from sluiceway.sources._http import Door
from sluiceway.sources.apollo import Apollo
from sluiceway.sources.testing import check_reading

SOURCE = Apollo("an-invented-key")
NOBODY = Subject(Person(), (), None)  # type: ignore[arg-type] # a search is about nobody, on no day
ANYBODY = Search()
INES = {
    "id": "66f0a1b2c3d4e5f60718293a", "first_name": "Ines", "last_name_obfuscated": "Ok***d",
    "title": "Chief Financial Officer", "last_refreshed_at": "2026-09-30T08:12:44.101+00:00", "has_email": True,
    "has_city": True, "has_direct_phone": "Yes", "organization": {"name": "Harbourline Robotics", "has_phone": False},
}  # fmt: skip
FOUND = FoundPerson(
    "66f0a1b2c3d4e5f60718293a", "Ines", "Ok***d", "Chief Financial Officer", "Harbourline Robotics", True, True,
    "2026-09-30T08:12:44.101+00:00",
)  # fmt: skip


def page(*people: Any, total: Any = 1204) -> dict[str, Any]:
    """A 200's body."""
    return {"total_entries": total, "people": list(people)}


def answered(*people: FoundPerson, total: int | None = 1204) -> Any:
    """A search that was answered."""
    data = msgspec.to_builtins(FoundPage(total, people))
    return free(Status.COMPLETE if people else Status.NO_DATA, data=data)


def ines(**changed: Any) -> FoundPerson:
    """Whom the search found, otherwise than usual."""
    return msgspec.structs.replace(FOUND, **changed)


CASES = [
    Case("somebody", 200, page(INES), answered(FOUND)),
    Case("nobody", 200, page(total=0), answered(total=0)),
    Case("a page after the last", 200, page(), answered()),
    Case("a total that is text", 200, page(INES, total="1204"), answered(FOUND)),
    Case("a total that is none", 200, page(INES, total=[3]), answered(FOUND, total=None)),
    Case("a total below zero", 200, page(INES, total=-1), answered(FOUND, total=None)),
    Case("somebody without an id", 200, page({**INES, "id": None}, INES), answered(FOUND)),
    Case("an id that leads elsewhere", 200, page({**INES, "id": "../match?id=1"}, INES), answered(FOUND)),
    Case("people who are none", 200, page(7, None, "x", [], {}, INES), answered(FOUND)),
    Case("an employer that is a list", 200, page({**INES, "organization": []}), answered(ines(company=""))),
    Case("a phone that may be had", 200, page({**INES, "has_direct_phone": "Maybe: please request it"}),
         answered(ines(has_direct_phone=None))),
    Case("an e-mail that is not told of", 200, page({**INES, "has_email": "yes"}), answered(ines(has_email=None))),
    Case("leaves of odd types", 200, page({**INES, "title": {"a": 1}, "first_name": ["Ines"]}),
         answered(ines(title="", first_name=""))),
    Case("a title without an end", 200, page({**INES, "title": "C" * 100_000}), answered(ines(title="C" * 200))),
    Case("more people than a page has", 200, page(*[INES] * 1000), answered(*[FOUND] * 100)),
    Case("no list of people", 200, {"total_entries": 3}, unknown()),
    Case("people that are an object", 200, {"people": INES}, unknown()),
    Case("401 is a bad key, in plain text", 401, "Invalid API key.", free(Status.UNAUTHORIZED, Retry.STOP)),
    Case("403 says nothing about matching people", 403, {"error_code": "API_INACCESSIBLE"}, free(Status.UNAUTHORIZED)),
    Case("422 is out of credits", 422, {"error": "Insufficient credits. Please upgrade your plan."},
         free(Status.QUOTA_EXCEEDED, Retry.STOP)),
    Case("422 is a mistake in the search", 422, {"error": "page is too large"}, free(Status.FAILED)),
    *anywhere(),
    *unreadable(msgspec.json.encode(page(INES))),
]  # fmt: skip


def asked(search: Search = ANYBODY) -> Request:
    """The request that a search is."""
    return SOURCE.search_request(search)


@pytest.mark.parametrize("case", CASES, ids=names(CASES))
def test_each_answer_to_a_search_means_what_the_table_says(case: Case) -> None:
    response = Response(case.status, case.headers, case.content)
    agrees(check_reading(SOURCE, NOBODY, asked(), response), case.means)


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=9), st.lists, max_leaves=5), st.data())
def test_whatever_a_search_is_answered_it_is_read_or_unknown_and_never_paid(leaf: Any, data: st.DataObject) -> None:
    someone = {**INES, data.draw(st.sampled_from(sorted(INES))): leaf}
    for body in (page(someone), page(leaf), {"people": leaf}, leaf):
        reading = understand(SOURCE, NOBODY, asked(), Response(200, {}, msgspec.json.encode(body)))
        assert reading.charge.kind in (ChargeKind.FREE, ChargeKind.UNKNOWN)
        if reading.status is not Status.FAILED:
            msgspec.convert(reading.data, FoundPage)


def test_a_search_is_asked_in_the_query_string_with_every_value_of_a_list() -> None:
    search = Search(
        titles=("CFO", "Head of Data"), similar_titles=False, keywords="robots & arms", locations=("Rotterdam",),
        seniorities=("c_suite",), organization_locations=("Netherlands",),
        organization_domains=("harbourline.example",),
        employees=(EmployeeRange(1, 10), EmployeeRange(500, 1000)), page=3, per_page=50,
    )  # fmt: skip
    request = asked(search)
    assert (request.method, request.path, request.role) == ("POST", "/mixed_people/api_search", SEARCH)
    assert request.body is None
    assert not request.price.paid
    assert request.query == (
        ("person_titles[]", "CFO"), ("person_titles[]", "Head of Data"), ("person_locations[]", "Rotterdam"),
        ("person_seniorities[]", "c_suite"), ("organization_locations[]", "Netherlands"),
        ("q_organization_domains_list[]", "harbourline.example"), ("organization_num_employees_ranges[]", "1,10"),
        ("organization_num_employees_ranges[]", "500,1000"), ("include_similar_titles", "false"),
        ("q_keywords", "robots & arms"), ("page", "3"), ("per_page", "50"),
    )  # fmt: skip


async def sent(search: Search, sandbox: SandboxProcess) -> Reading:
    """Have the sandbox answer a search."""
    async with Door() as door:
        response = await door.send(SOURCE, asked(search), sandbox.url + SOURCE.sandbox[""], 10.0)
    return understand(SOURCE, NOBODY, asked(search), response)


async def test_what_the_sandbox_finds_is_understood_and_its_meter_bills_nothing(sandbox: SandboxProcess) -> None:
    reading = await sent(Search(titles=("Chief Financial Officer", "General Counsel"), per_page=100), sandbox)
    found = msgspec.convert(reading.data, FoundPage)
    assert {person.title for person in found.people} == {"Chief Financial Officer", "General Counsel"}
    assert found.total is not None
    assert found.total > len(found.people) == 100
    meter = sandbox.meter()["providers"]["apollo"]
    assert (meter["requests"], meter["billed"], meter["credits"]) == (1, 0, 0)


def test_a_person_who_was_found_is_matched_by_the_id_and_others_are_asked_about_as_ever() -> None:
    found = Subject(Person(first_name="Ines", company="Harbourline Robotics", apollo_id=INES["id"]), (), None)  # type: ignore[arg-type]
    request = SOURCE.request(found)
    assert isinstance(request, Request)
    assert request.query == (
        ("id", INES["id"]), ("first_name", "Ines"), ("organization_name", "Harbourline Robotics"),
    )  # fmt: skip
    body = msgspec.json.encode({"person": {"id": INES["id"], "name": "Ines Okafor-Lind", "email": None}})
    assert understand(SOURCE, found, request, Response(200, {}, body)).status is Status.COMPLETE
    others = msgspec.json.encode({"person": {"id": "66f0ffff", "name": "Ines Quell"}})
    assert understand(SOURCE, found, request, Response(200, {}, others)).status is Status.NO_DATA
    before = SOURCE.request(Subject(Person(email="ines@harbourline.example"), (), None))  # type: ignore[arg-type]
    assert isinstance(before, Request)
    assert before.query == (("email", "ines@harbourline.example"),)
