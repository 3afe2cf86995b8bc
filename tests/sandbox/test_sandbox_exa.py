"""Exa's counterpart answers as Exa does."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from talk import Talk

from sluiceway.sandbox.world import Person

Someone = Callable[..., Person]


def _about(person: Person, **more: object) -> dict[str, object]:
    return {"query": f'"{person.name}" {person.company.legal_name}', **more}


async def test_a_search_finds_pages_about_a_person_and_says_what_it_cost(talk: Talk, someone: Someone) -> None:
    person = someone()
    got = await talk.exa("/search", _about(person, contents={"text": {"maxCharacters": 200}, "highlights": True}))
    results = got.json["results"]
    assert got.status == 200
    assert any(person.name in result["text"] for result in results)
    assert all(len(result["text"]) <= 200 and result["highlights"] for result in results)
    assert got.json["costDollars"]["total"] == 0.007
    assert got.headers["x-request-id"] == got.json["requestId"]
    assert (await talk.meter("exa"))["usd_micros"] == 7000


async def test_without_contents_there_is_no_text(talk: Talk, someone: Someone) -> None:
    results = (await talk.exa("/search", _about(someone()))).json["results"]
    assert results
    assert not any(key in result for result in results for key in ("text", "highlights", "summary"))


async def test_nobody_s_pages_are_none_and_cost_the_same(talk: Talk, someone: Someone) -> None:
    for body in (_about(someone(in_exa=False)), {"query": "nobody anywhere"}):
        assert (await talk.exa("/search", body)).json["results"] == []
    assert (await talk.meter("exa"))["usd_micros"] == 14_000


async def test_domains_dates_and_counts_narrow_a_search(talk: Talk, someone: Someone) -> None:
    person = someone()
    home = person.company.domain
    here = (await talk.exa("/search", _about(person, includeDomains=[home]))).json["results"]
    there = (await talk.exa("/search", _about(person, excludeDomains=[home]))).json["results"]
    assert all(home in result["url"] for result in here)
    assert not any(home in result["url"] for result in there)
    assert len((await talk.exa("/search", _about(person, numResults=1))).json["results"]) == 1
    dated = (await talk.exa("/search", _about(person, startPublishedDate="2000-01-01"))).json["results"]
    assert dated
    assert all(result["publishedDate"] for result in dated)


async def test_contents_tells_for_each_page_whether_it_was_found(talk: Talk, someone: Someone) -> None:
    url = (await talk.exa("/search", _about(someone()))).json["results"][0]["url"]
    got = await talk.exa("/contents", {"urls": [url, "https://gone.example/x"], "text": True})
    assert [status["status"] for status in got.json["statuses"]] == ["success", "error"]
    assert got.json["statuses"][1]["error"]["tag"] == "CRAWL_NOT_FOUND"
    assert got.json["results"][0]["text"]
    assert (await talk.meter("exa"))["usd_micros"] == 8000


@pytest.mark.parametrize(
    ("body", "tag"),
    [
        ([], "INVALID_REQUEST_BODY"),
        ({"query": " "}, "INVALID_REQUEST_BODY"),
        ({"query": "x", "type": "psychic"}, "INVALID_REQUEST_BODY"),
        ({"query": "x", "numResults": 0}, "INVALID_NUM_RESULTS"),
        ({"query": "x", "category": "people", "excludeDomains": ["a.example"]}, "INVALID_REQUEST"),
    ],
)
async def test_a_bad_body_is_refused_with_a_tag(talk: Talk, body: object, tag: str) -> None:
    got = await talk.exa("/search", body)
    assert (got.status, got.json["tag"]) == (400, tag)


@pytest.mark.parametrize(
    ("key", "status", "tag"),
    [
        ("", 401, "INVALID_API_KEY"),
        ("sandbox-revoked", 401, "INVALID_API_KEY"),
        ("sandbox-no-scope", 403, "INSUFFICIENT_SCOPE"),
        ("sandbox-out-of-credits", 402, "NO_MORE_CREDITS"),
    ],
)
async def test_a_key_gets_what_it_says(talk: Talk, key: str, status: int, tag: str) -> None:
    got = await talk.exa("/search", {"query": "x"}, key=key)
    assert (got.status, got.json["tag"]) == (status, tag)
    assert (await talk.meter("exa"))["billed"] == 0


async def test_a_limit_per_second_is_enforced_when_there_is_one(talk: Talk) -> None:
    await talk.play("[exa]\nlimit = 3")
    statuses = [(await talk.exa("/search", {"query": "x"})).status for _ in range(4)]
    assert statuses == [200, 200, 200, 429]
