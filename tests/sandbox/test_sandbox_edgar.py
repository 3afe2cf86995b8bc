"""EDGAR's counterpart answers as the SEC's three hosts do."""

from __future__ import annotations

import json

import pytest
from lxml import etree
from talk import Talk

from sluiceway.sandbox.filings import Docket, Filing
from sluiceway.sandbox.world import Person, World


@pytest.fixture(scope="session")
def docket(world: World) -> Docket:
    return Docket(world)


@pytest.fixture(scope="session")
def insider(world: World, docket: Docket) -> Person:
    return next(
        each
        for each in map(world.person, range(2000))
        if docket.is_insider(each.company.number, each.place) and _filings(docket, each)[0].searchable
    )


def _filings(docket: Docket, person: Person) -> list[Filing]:
    return docket.of_owner(docket.cik_of(person.company.number, person.place))


def _folder(filing: Filing) -> str:
    return f"/www/Archives/edgar/data/{filing.issuer.cik}/{filing.folder}"


async def test_the_ticker_map_lists_thousands_and_is_not_sent_twice(talk: Talk, insider: Person) -> None:
    got = await talk.edgar("/www/files/company_tickers.json")
    rows = list(got.json.values())
    assert len(rows) > 3000
    assert {"cik_str", "ticker", "title"} == set(rows[0])
    assert insider.company.cik in {row["cik_str"] for row in rows}
    again = await talk.edgar("/www/files/company_tickers.json", headers={"if-none-match": got.headers["etag"]})
    assert (again.status, again.body) == (304, b"")
    meter = await talk.meter("edgar")
    assert (meter["billed"], meter["credits"], meter["usd_micros"]) == (1, 0, 0)


async def test_the_ticker_map_is_compressed_for_who_can_read_it(talk: Talk) -> None:
    got = await talk.edgar("/www/files/company_tickers.json", headers={"accept-encoding": "gzip"})
    assert got.headers["content-encoding"] == "gzip"
    assert int(got.headers["content-length"]) < len(got.body)  # which the client has unpacked


async def test_an_insider_is_found_by_name_and_issuer(talk: Talk, docket: Docket, insider: Person) -> None:
    cik = f"{insider.company.cik:010d}"
    got = await talk.edgar("/efts/LATEST/search-index", q=f'"{insider.name}"', ciks=cik, forms="4,4/A")
    hits = got.json["hits"]["hits"]
    mine = {filing.accession for filing in _filings(docket, insider)}
    assert mine <= {hit["_source"]["adsh"] for hit in hits}
    assert all(cik in hit["_source"]["ciks"] for hit in hits)
    anywhere = (await talk.edgar("/efts/LATEST/search-index", q=f'"{insider.name}"')).json["hits"]["hits"]
    assert mine <= {hit["_source"]["adsh"] for hit in anywhere}
    only_4a = (await talk.edgar("/efts/LATEST/search-index", ciks=cik, forms="4/A")).json["hits"]["hits"]
    assert all(hit["_source"]["form"] == "4/A" for hit in only_4a)
    assert (await talk.edgar("/efts/LATEST/search-index", q="nobody")).json["hits"]["total"]["value"] == 0


async def test_some_insiders_are_unknown_to_the_search_but_on_their_issuer_s_page(
    talk: Talk, world: World, docket: Docket
) -> None:
    hidden = next(
        each
        for each in map(world.person, range(4000))
        if docket.is_insider(each.company.number, each.place) and not _filings(docket, each)[0].searchable
    )
    got = await talk.edgar("/efts/LATEST/search-index", q=f'"{hidden.name}"', ciks=f"{hidden.company.cik:010d}")
    mine = {filing.accession for filing in _filings(docket, hidden)}
    assert not mine & {hit["_source"]["adsh"] for hit in got.json["hits"]["hits"]}
    page = (await talk.edgar(f"/data/submissions/CIK{hidden.company.cik:010d}.json")).json
    listed = set(page["filings"]["recent"]["accessionNumber"])
    for older in page["filings"]["files"]:
        listed |= set((await talk.edgar(f"/data/submissions/{older['name']}")).json["accessionNumber"])
    assert mine <= listed


async def test_the_search_comes_a_hundred_at_a_time(talk: Talk, world: World, docket: Docket) -> None:
    issuers = filter(world.companies.is_listed, range(6000))
    issuer = next(each for each in issuers if len(docket.of_issuer(each)) > 100)
    query = {"ciks": f"{world.companies.cik_of(issuer):010d}"}
    first = (await talk.edgar("/efts/LATEST/search-index", **query)).json["hits"]
    second = (await talk.edgar("/efts/LATEST/search-index", **query, **{"from": "100"})).json["hits"]
    assert len(first["hits"]) == 100
    assert first["total"]["value"] == 100 + len(second["hits"])
    assert not {hit["_id"] for hit in first["hits"]} & {hit["_id"] for hit in second["hits"]}


async def test_submissions_are_parallel_arrays_for_issuers_and_for_persons(
    talk: Talk, docket: Docket, insider: Person
) -> None:
    filing = _filings(docket, insider)[0]
    for cik in (insider.company.cik, filing.owners[0].cik):
        got = await talk.edgar(f"/data/submissions/CIK{cik:010d}.json")
        recent = got.json["filings"]["recent"]
        assert len({len(array) for array in recent.values()}) == 1
        assert "etag" not in got.headers
        assert got.json["cik"] == f"{cik:010d}"
    assert got.json["tickers"] == []
    at = recent["accessionNumber"].index(filing.accession)
    assert recent["primaryDocument"][at] == f"{filing.xsl}/{filing.document}"


async def test_every_file_of_a_filing_can_be_fetched(talk: Talk, docket: Docket, insider: Person) -> None:
    filing = _filings(docket, insider)[0]
    folder = _folder(filing)
    raw = await talk.edgar(f"{folder}/{filing.document}")
    root = etree.fromstring(raw.body)
    assert root.tag == "ownershipDocument"
    assert root.findtext("documentType") == filing.form
    assert len(root.findall("reportingOwner")) == len(filing.owners)
    page = await talk.edgar(f"{folder}/{filing.xsl}/{filing.document}")
    assert page.headers["content-type"] == "text/html"
    assert raw.body.decode() in (await talk.edgar(f"{folder}/{filing.accession}.txt")).body.decode()
    index = json.loads((await talk.edgar(f"{folder}/index.json")).body)
    assert filing.document in [item["name"] for item in index["directory"]["item"]]
    owner = folder.replace(str(filing.issuer.cik), str(filing.owners[0].cik), 1)
    assert (await talk.edgar(f"{owner}/{filing.document}")).body == raw.body


async def test_amendments_repeat_the_rows_and_say_when_the_original_was_filed(
    talk: Talk, world: World, docket: Docket
) -> None:
    listed = filter(world.companies.is_listed, range(3000))
    filing = next(each for issuer in listed for each in docket.of_issuer(issuer) if each.form == "4/A")
    root = etree.fromstring((await talk.edgar(f"{_folder(filing)}/{filing.document}")).body)
    assert root.findtext("documentType") == "4/A"
    assert root.findtext("dateOfOriginalSubmission") == str(filing.original)


async def test_what_is_missing_is_missing_in_each_host_s_own_way(talk: Talk, docket: Docket, insider: Person) -> None:
    folder = _folder(_filings(docket, insider)[0])
    for path, status, code in (
        (f"{folder}/nothing.xml", 403, b"AccessDenied"),
        ("/www/Archives/edgar/data/1/000000000000000000/form4.xml", 403, b"AccessDenied"),
        ("/data/submissions/CIK0000000001.json", 404, b"NoSuchKey"),
        ("/data/submissions/CIK0001600000-submissions-001.json", 404, b"NoSuchKey"),
    ):
        got = await talk.edgar(path)
        assert (got.status, got.headers["content-type"]) == (status, "application/xml")
        assert code in got.body
    assert (await talk.meter("edgar"))["billed"] == 0


async def test_whoever_does_not_say_who_they_are_gets_a_page_of_html(talk: Talk) -> None:
    for agent in ("python-requests/2.31", "https://example.com", ""):
        got = await talk.edgar("/www/files/company_tickers.json", agent=agent)
        assert (got.status, got.headers["content-type"]) == (403, "text/html")
        assert b"Undeclared Automated Tool" in got.body


async def test_more_than_the_limit_in_a_second_is_thrown_out_over_all_hosts(talk: Talk) -> None:
    await talk.play("[edgar]\nlimit = 3")
    paths = ("/data/submissions/CIK0000000001.json", "/efts/LATEST/search-index?q=x")
    statuses = [(await talk.edgar(paths[turn % 2])).status for turn in range(4)]
    assert statuses == [404, 200, 404, 403]
