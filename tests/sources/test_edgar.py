"""EDGAR is walked from an employer's name to what one person traded, and says what it could not see."""

from __future__ import annotations

import datetime as dt
import json
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from edgar_shelf import (
    BROKEN,
    DENIED,
    EVERYBODY,
    JOINTLY,
    SHUT_OUT,
    TICKERS,
    Lodged,
    Shelf,
    about,
    lodged,
    page_of,
    path_of,
    search,
    submissions,
    ticker_map,
    walk,
)
from form4_documents import EXPECTED, INES, ISSUER, SAMPLES, a_document, a_line, samples

from sluiceway.outcome import FREE, ChargeKind, Status
from sluiceway.prospect import Field, Match, Person
from sluiceway.sources import edgar
from sluiceway.sources._contract import Reading, Response, Retry, Skip
from sluiceway.sources._edgar_pages import Companies, Role
from sluiceway.sources._form4 import NotAForm4
from sluiceway.sources.edgar import Edgar

CIK = INES[0]
NEEDS_SAMPLES = pytest.mark.skipif(
    not EXPECTED, reason="the real SEC filings (shared/data/sec beside the repository) are not here"
)
TOVE = ("0001999002", "LIND TOVE")


def reason(reading: Reading) -> str:
    """Why a walk found nothing."""
    assert (reading.status, reading.charge, reading.found) == (Status.NO_DATA, FREE, ())
    return str(reading.data["why"])


# --- the walk -------------------------------------------------------------------------------------------------------


def test_a_walk_goes_from_the_employers_name_to_what_the_person_traded() -> None:
    purchase = lodged(1, "2026-08-03", a_line("P", "100", "10", date="2026-08-01", following="1000"))
    sale = lodged(2, "2026-09-03", a_line("S", "40", "12.50", date="2026-09-01", following="960"))
    walked = walk(Shelf(purchase, sale))
    assert walked.places == [TICKERS, EVERYBODY, page_of(CIK), path_of(sale), path_of(purchase)]
    assert (walked.reading.status, walked.reading.charge, walked.reading.match) == (
        Status.COMPLETE, FREE, Match.AGREES,
    )  # fmt: skip
    assert [(found.field, found.confidence) for found in walked.reading.found] == [
        (Field.INSIDER_TRADES, 90), (Field.TICKER, 80),
    ]  # fmt: skip
    assert walked.reading.found[1].value == "HBLR"
    line = {"security": "Common Stock", "table": "non_derivative", "price_note": None}
    assert walked.trades == {
        "issuer": {"cik": ISSUER, "name": "HARBOURLINE ROBOTICS INC", "ticker": "HBLR"},
        "owner": {"cik": CIK, "name": "OKAFOR-LIND INES M"},
        "is_director": True,
        "is_officer": True,
        "is_ten_percent_owner": None,
        "officer_title": "Chief Scientist",
        "filings": [purchase.accession, sale.accession],
        "bought": {"lines": 1, "shares": "100", "value": "1000", "lines_without_value": 0},
        "sold": {"lines": 1, "shares": "40", "value": "500", "lines_without_value": 0},
        "contradictory": [],
        "positions": [{
            "table": "non_derivative", "security": "Common Stock", "direct_indirect": "D", "nature": None,
            "shares": "960", "as_of": "2026-09-01", "accession": sale.accession,
        }],
        "transactions": [
            {**line, "date": "2026-09-01", "code": "S", "acquired_disposed": "D", "shares": "40", "price": "12.5",
             "value": "500", "accession": sale.accession},
            {**line, "date": "2026-08-01", "code": "P", "acquired_disposed": "A", "shares": "100", "price": "10",
             "value": "1000", "accession": purchase.accession},
        ],
        "transactions_total": 2,
        "transactions_cut": False,
        "since": "2024-11-24",
        "filings_total": 2,
        "cut": False,
        "missing": [],
        "unreadable": [],
        "superseded": {},
        "unclear": {},
        "other_issuers": [],
    }  # fmt: skip


def test_everything_asked_is_about_companies_and_shared_for_as_long_as_it_holds() -> None:
    asked = walk(Shelf(lodged())).asked
    assert [(request.endpoint, request.host, request.shared, request.fresh_for) for request in asked] == [
        ("files/company_tickers", "www", True, 86_400.0),
        ("search-index", "efts", True, 86_400.0),
        ("submissions", "data", True, 600.0),
        ("Archives", "www", True, None),
    ]
    assert all(request.method == "GET" and not request.price.paid for request in asked)
    assert asked[1].query == (
        ("ciks", ISSUER), ("forms", "4,4/A"), ("dateRange", "custom"), ("startdt", "2024-11-24"),
        ("enddt", "2026-11-24"), ("from", "0"),
    )  # fmt: skip
    assert not any("okafor" in str(request).lower() for request in asked)


def test_a_walk_that_was_cut_short_goes_on_from_what_was_read() -> None:
    shelf = Shelf(*(lodged(n, f"2026-09-{n:02d}") for n in range(1, 6)))
    whole = walk(shelf)
    keys = list(whole.readings)
    for reached in range(len(keys) + 1):
        held = {key: whole.readings[key] for key in keys[:reached]}
        resumed = walk(shelf, held=held)
        assert resumed.last == whole.last
        assert len(resumed.asked) == len(keys) - reached


@pytest.mark.parametrize(
    ("person", "skipped"),
    [
        (Person(full_name="Ines Okafor-Lind"), "needs a company"),
        (Person(full_name="Ines Okafor-Lind", domain="harbourline.example"), "needs a company"),
        (Person(full_name="Ines", company="Harbourline Robotics"), "needs a first and a last name"),
        (Person(last_name="Lind", company="Harbourline Robotics"), "needs a first and a last name"),
        (Person(email="ines@harbourline.example", company="Harbourline Robotics"), "needs a first and a last name"),
    ],
)
def test_nobody_is_looked_for_without_a_whole_name_and_a_company(person: Person, skipped: str) -> None:
    walked = walk(Shelf(), person)
    assert (walked.last, walked.asked) == (Skip(skipped), [])


def test_two_years_before_the_last_of_a_leap_february_is_a_day_there_was() -> None:
    asked = walk(Shelf(), today=dt.date(2028, 2, 29)).asked
    assert ("startdt", "2026-02-28") in asked[1].query


# --- the employer ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "company",
    ["Harbourline Robotics", "Harbourline Robotics, Inc.", "HARBOURLINE ROBOTICS INC", "The Harbourline-Robotics Co.",
     "Harbourline Robotics Holdings", "Harbourline"],
)  # fmt: skip
def test_an_employer_is_found_however_it_is_written(company: str) -> None:
    walked = walk(Shelf(lodged()), Person(full_name="Ines Okafor-Lind", company=company))
    assert walked.reading.status is Status.COMPLETE


def test_a_company_with_several_tickers_is_one_and_the_first_ticker_is_told() -> None:
    shelf = Shelf(lodged())
    shelf.put(TICKERS, ticker_map((int(ISSUER), "HBLR-B", "HARBOURLINE ROBOTICS INC")))
    assert walk(shelf).reading.found[1].value == "HBLR"


def test_of_companies_with_one_name_none_is_chosen_unless_it_is_written_in_full() -> None:
    shelf = Shelf(lodged())
    shelf.put(TICKERS, ticker_map((1843211, "HBPL", "HARBOURLINE ROBOTICS PLC")))
    assert reason(walk(shelf).reading) == "2 listed companies are called Harbourline Robotics"
    in_full = Person(full_name="Ines Okafor-Lind", company="Harbourline Robotics, Inc")
    assert walk(shelf, in_full).reading.status is Status.COMPLETE


@pytest.mark.parametrize("company", ["Harbour", "Robotics", "Harbourlines Robotics", "Quells", "Inc."])
def test_an_employer_that_is_not_listed_has_no_insiders(company: str) -> None:
    walked = walk(Shelf(lodged()), Person(full_name="Ines Okafor-Lind", company=company))
    assert reason(walked.reading) == f"no listed company is {company}"
    assert walked.places == [TICKERS]


def test_the_companies_are_indexed_once_for_each_map(monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[Any] = []

    class Counted(Companies):
        def __init__(self, rows: Any) -> None:
            built.append(rows)
            super().__init__(rows)

    monkeypatch.setattr(edgar, "Companies", Counted)
    shelf, source = Shelf(lodged()), Edgar("Sample Company admin@sample.example")
    held = walk(shelf, source=source).readings
    for _ in range(3):
        walk(shelf, source=source, held=held)
    assert len(built) == 1
    walk(shelf, source=source)
    assert len(built) == 2


def test_without_a_map_of_companies_nothing_is_said() -> None:
    shelf = Shelf(lodged())
    for response, status in ((BROKEN, Status.FAILED), (SHUT_OUT, Status.RATE_LIMITED), (DENIED, Status.FAILED)):
        shelf.put(TICKERS, response)
        walked = walk(shelf)
        assert (walked.reading.status, walked.places) == (status, [TICKERS])


# --- the person -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "filed_as"),
    [
        ("Ines Okafor-Lind", "OKAFOR-LIND INES M"),
        ("Inès Okafor Lind", "Okafor-Lind Ines"),
        ("Okafor-Lind, Ines", "OKAFOR LIND INES"),
        ("Bob Smith", "SMITH ROBERT A"),
        ("Robert Smith", "Smith Bob"),
        ("Dr. Liz O’Brien", "O BRIEN ELIZABETH"),
        ("Sergey Brin", "Sergey Brin"),
    ],
)
def test_a_person_is_found_by_any_spelling_and_by_nicknames(asked: str, filed_as: str) -> None:
    filing = lodged(owners=((CIK, filed_as), ("0001999003", "LIND FAMILY TRUST")))
    walked = walk(
        Shelf(filing, lodged(2, owners=(("0001999004", "QUELL ADA"),))),
        Person(full_name=asked, company="Harbourline Robotics"),
    )
    assert walked.trades["owner"] == {"cik": CIK, "name": filed_as}


def test_first_and_last_name_are_as_good_as_a_full_name() -> None:
    person = Person(first_name="Ines", last_name="Okafor-Lind", full_name="Ines", company="Harbourline Robotics")
    assert walk(Shelf(lodged()), person).reading.status is Status.COMPLETE


def test_of_two_insiders_of_one_name_neither_is_taken_for_the_person() -> None:
    namesakes = [lodged(1, owners=(INES,)), lodged(2, owners=(("0001999009", "OKAFOR-LIND INES T"),))]
    walked = walk(Shelf(*namesakes))
    assert reason(walked.reading) == "2 insiders of HARBOURLINE ROBOTICS INC are called Ines Okafor-Lind"
    assert walked.places == [TICKERS, EVERYBODY]
    known = walk(Shelf(*namesakes), Person(full_name="Ines T. Okafor-Lind", company="Harbourline Robotics"))
    assert known.trades["owner"]["cik"] == "0001999009"


def test_a_colleague_is_not_the_person() -> None:
    walked = walk(Shelf(lodged(owners=(TOVE,))))
    assert reason(walked.reading) == "no insider of HARBOURLINE ROBOTICS INC is called Ines Okafor-Lind"
    assert walked.places == [TICKERS, EVERYBODY]


def test_a_hit_about_another_company_says_nothing_about_the_employer() -> None:
    elsewhere = about(lodged(), "0000920001")
    shelf = Shelf(lodged(2, owners=(TOVE,)), elsewhere)
    assert "no insider of" in reason(walk(shelf).reading)


def test_colleagues_share_all_but_their_own_pages() -> None:
    jointly = lodged(1, owners=JOINTLY)
    shelf = Shelf(jointly)
    first = walk(shelf)
    second = walk(shelf, Person(full_name="Tove Lind", company="Harbourline Robotics"), held=first.readings)
    assert second.places == [page_of(TOVE[0])]
    assert second.trades["owner"]["cik"] == TOVE[0]


def test_a_list_of_several_pages_is_read_to_its_end() -> None:
    ines, others = lodged(1), lodged(2, owners=(TOVE,))
    shelf = Shelf(ines, others)
    shelf.put(EVERYBODY, search([others], total=101))
    shelf.put("everybody from 100", search([ines], total=101))
    walked = walk(shelf)
    assert walked.reading.status is Status.COMPLETE
    assert walked.places[:3] == [TICKERS, EVERYBODY, "everybody from 100"]


@pytest.mark.parametrize(
    ("name", "phrase"),
    [("Ines Okafor-Lind", '"okafor lind"'), ("Okafor-Lind, Ines", '"okafor lind"'), ("Ines Müller Jr.", '"muller"')],
)
def test_only_where_the_list_is_too_long_is_the_family_name_asked_for(name: str, phrase: str) -> None:
    ines, others = lodged(1, owners=((CIK, name),)), lodged(2, owners=(TOVE,))
    shelf = Shelf(ines, others)
    for page in range(5):
        shelf.put(f"everybody from {page * 100}", search([others], total=900))
    shelf.put(f"{phrase} from 0", search([ines]))
    person = Person(full_name=name, company="Harbourline Robotics")
    walked = walk(shelf, person)
    assert walked.reading.status is Status.COMPLETE
    asked = walked.asked[6]
    assert (dict(asked.query)["q"], asked.shared, asked.role) == (phrase, False, Role.SEARCH)
    shelf.put(f"{phrase} from 0", search([]))
    assert "no insider of" in reason(walk(shelf, person).reading)


# --- when the search does not say -----------------------------------------------------------------------------------

FAILED_SEARCHES = {
    "fails": BROKEN,
    "is a web page": Response(200, {"content-type": "text/html"}, b"<html></html>"),
    "runs out of time": Response(200, {}, msgspec.json.encode({**search([]), "timed_out": True})),
    "skips some of its index": Response(200, {}, msgspec.json.encode({**search([]), "_shards": {"failed": 1}})),
    "times out at a gateway": Response(504, {}, b""),
    "is gone": DENIED,
}


@pytest.mark.parametrize("failure", FAILED_SEARCHES.values(), ids=FAILED_SEARCHES)
def test_a_search_that_fails_is_made_good_by_the_employers_own_page(failure: Response) -> None:
    others, ines = lodged(3, "2026-10-01", owners=(TOVE,)), lodged(1, "2026-09-03")
    shelf = Shelf(ines, others, lodged(2, "2026-08-03"))
    shelf.put(EVERYBODY, failure)
    walked = walk(shelf)
    assert walked.places[2:5] == [page_of(ISSUER), path_of(others), path_of(ines)]
    assert walked.places[5:] == [page_of(CIK), path_of(ines), path_of(lodged(2, "2026-08-03"), CIK)]
    assert walked.trades["filings_total"] == 2


def test_a_search_that_finds_nobody_is_checked_against_the_employers_own_page() -> None:
    shelf = Shelf(lodged())
    shelf.put(EVERYBODY, search([]))
    assert walk(shelf).reading.status is Status.COMPLETE
    assert "no insider of" in reason(walk(Shelf()).reading)


@pytest.mark.parametrize(("filed", "status"), [(12, Status.NO_DATA), (13, Status.FAILED)])
def test_that_somebody_is_no_insider_is_said_only_after_everything_was_seen(filed: int, status: Status) -> None:
    shelf = Shelf(*(lodged(n, f"2026-09-{n:02d}", owners=(TOVE,)) for n in range(1, filed + 1)))
    shelf.put(EVERYBODY, BROKEN)
    walked = walk(shelf)
    assert walked.reading.status is status
    assert len(walked.asked) == 3 + 12
    if status is Status.FAILED:
        assert (walked.reading.error, walked.reading.retry) == (
            'HTTP 500: {"message": "Internal server error"}',
            Retry.BACKOFF,
        )


def test_a_page_that_ends_the_list_early_still_leaves_who_was_seen() -> None:
    shelf = Shelf(lodged())
    shelf.put(EVERYBODY, search(shelf.filings, total=300))
    shelf.put("everybody from 100", BROKEN)
    walked = walk(shelf)
    assert walked.reading.status is Status.COMPLETE
    assert page_of(ISSUER) not in walked.places


def test_looking_into_filings_passes_over_what_is_missing_or_about_others() -> None:
    gone, other = lodged(4, "2026-10-04"), lodged(3, "2026-10-03")
    shelf = Shelf(lodged(), gone, other)
    shelf.put(EVERYBODY, BROKEN)
    shelf.put(path_of(gone), DENIED)
    shelf.put(path_of(other), about(other, "0000920001").document)
    shelf.put(page_of(CIK), submissions([lodged()]))
    walked = walk(shelf)
    assert walked.places[3:6] == [path_of(gone), path_of(other), path_of(lodged())]
    assert walked.trades["owner"]["cik"] == CIK


@pytest.mark.parametrize("response", [SHUT_OUT, Response(429, {"retry-after": "900"}, b"")])
def test_whoever_is_shut_out_asks_no_other_host(response: Response) -> None:
    shelf = Shelf(lodged())
    shelf.put(EVERYBODY, response)
    walked = walk(shelf)
    assert walked.places == [TICKERS, EVERYBODY]
    assert walked.reading.status is Status.RATE_LIMITED
    assert walked.reading.retry_after in (600.0, 900.0)


# --- the filings ----------------------------------------------------------------------------------------------------


def test_only_forms_4_of_the_last_two_years_are_read() -> None:
    recent, old = lodged(1, "2024-11-24"), lodged(2, "2024-11-23")
    walked = walk(Shelf(recent, old))
    assert walked.trades["filings"] == [recent.accession]
    assert walked.trades["filings_total"] == 1


def test_an_insider_who_filed_nothing_lately_has_no_data() -> None:
    shelf = Shelf(lodged())
    shelf.put(page_of(CIK), submissions([lodged(2, "2020-01-02")]))
    assert reason(walk(shelf).reading) == "no Form 4 since 2024-11-24"


def test_of_many_filings_the_newest_twenty_are_read_and_the_rest_is_told() -> None:
    filings = [lodged(n, f"2026-{n // 28 + 1:02d}-{n % 28 + 1:02d}") for n in range(25)]
    walked = walk(Shelf(*filings))
    assert walked.trades["filings"] == [filing.accession for filing in filings[5:]]
    assert (walked.trades["cut"], walked.trades["filings_total"]) == (True, 25)
    assert walked.reading.data["cut"] is True


def test_filings_about_the_employer_are_read_before_others() -> None:
    ours = [lodged(n, f"2026-01-{n:02d}") for n in range(1, 4)]
    theirs = [about(lodged(n, f"2026-09-{n - 100:02d}"), "0000920001") for n in range(101, 126)]
    walked = walk(Shelf(*ours, *theirs))
    assert walked.trades["filings"] == [filing.accession for filing in ours]
    assert [other["filings_read"] for other in walked.trades["other_issuers"]] == [17]
    assert len(walked.asked) == 3 + 20


def test_older_pages_are_asked_for_only_where_they_reach_into_the_two_years() -> None:
    recent, earlier = lodged(2, "2026-09-03"), lodged(1, "2025-02-03")
    further = f"CIK{CIK}-submissions-001.json"
    shelf = Shelf(recent, earlier)
    shelf.put(f"/submissions/{further}", submissions([earlier])["filings"]["recent"])
    for until, read in (("2025-02-03", 2), ("2024-11-23", 1)):
        shelf.put(page_of(CIK), submissions([recent], older=[{"name": further, "filingTo": until}]))
        walked = walk(shelf)
        assert len(walked.trades["filings"]) == walked.trades["filings_total"] == read
        assert (f"/submissions/{further}" in walked.places) == (read == 2)


def test_a_further_page_that_is_not_there_is_a_failure() -> None:
    shelf = Shelf(lodged())
    older = [{"name": f"CIK{CIK}-submissions-001.json", "filingTo": "2025-02-03"}]
    shelf.put(page_of(CIK), submissions([lodged()], older=older))
    assert walk(shelf).reading.status is Status.FAILED


def test_a_document_is_asked_for_beside_its_rendered_view_or_inside_its_submission() -> None:
    for listed, name in (
        ("xslF345X06/form4.xml", "form4.xml"),
        ("xslF345X03/wf-form4_155.xml", "wf-form4_155.xml"),
        ("doc4.xml", "doc4.xml"),
        ("", "0001843210-26-000001.txt"),
        ("scan.pdf", "0001843210-26-000001.txt"),
        ("../../../x.xml", "0001843210-26-000001.txt"),
        ("xslF345X06/a b.xml", "0001843210-26-000001.txt"),
    ):
        shelf = Shelf(lodged())
        page = submissions([lodged()])
        page["filings"]["recent"]["primaryDocument"] = ["hblr-8k.htm", listed]
        shelf.put(page_of(CIK), page)
        assert walk(shelf).places[-1] == f"/Archives/edgar/data/1843210/000184321026000001/{name}"


def test_a_missing_document_is_told_and_passed_over() -> None:
    there, gone = lodged(1, "2026-09-03"), lodged(2, "2026-10-03")
    shelf = Shelf(there, gone)
    shelf.put(path_of(gone), DENIED)
    walked = walk(shelf)
    assert walked.reading.status is Status.COMPLETE
    assert walked.trades["missing"] == walked.reading.data["missing"] == [gone.accession]
    assert walked.trades["filings"] == [there.accession]


@pytest.mark.parametrize("document", [a_document(kind="3"), b"<edgarSubmission/>", a_document()[:-40]])
def test_a_document_that_is_no_form_4_is_told_and_passed_over(document: bytes) -> None:
    there, odd = lodged(1, "2026-09-03"), lodged(2, "2026-10-03")
    shelf = Shelf(there, odd)
    shelf.put(path_of(odd), document)
    walked = walk(shelf)
    assert (walked.reading.status, walked.trades["unreadable"]) == (Status.COMPLETE, [odd.accession])


def test_where_no_document_can_be_read_nothing_is_claimed() -> None:
    shelf = Shelf(lodged())
    shelf.put(path_of(lodged()), DENIED)
    assert walk(shelf).reading.error == "none of the 1 filings that EDGAR lists could be read"


@pytest.mark.parametrize(
    ("response", "status", "charge"),
    [
        (BROKEN, Status.FAILED, ChargeKind.FREE),
        (Response(504, {}, b""), Status.TIMED_OUT, ChargeKind.UNKNOWN),
        (Response(200, {}, b"<!DOCTYPE html><html></html>"), Status.FAILED, ChargeKind.UNKNOWN),
        (Response(200, {}, b""), Status.FAILED, ChargeKind.UNKNOWN),
        (SHUT_OUT, Status.RATE_LIMITED, ChargeKind.FREE),
    ],
)
def test_a_filing_that_cannot_be_fetched_fails_the_walk_and_only_it_is_asked_again(
    response: Response, status: Status, charge: ChargeKind
) -> None:
    newest, middle, oldest = (lodged(n, f"2026-09-{n:02d}") for n in (3, 2, 1))
    shelf = Shelf(newest, middle, oldest)
    shelf.put(path_of(middle), response)
    failed = walk(shelf)
    assert (failed.reading.status, failed.reading.charge.kind) == (status, charge)
    assert failed.reading.error
    shelf.put(path_of(middle), middle.document)
    held = {key: reading for key, reading in failed.readings.items() if reading.status is Status.COMPLETE}
    again = walk(shelf, held=held)
    assert again.places == [path_of(middle)]
    assert again.last == walk(shelf).last


# --- what it adds up to ---------------------------------------------------------------------------------------------


def test_an_amendment_takes_the_place_of_its_original() -> None:
    big, small = a_line("S", "500", "20"), a_line("S", "70", "21")
    original = Lodged(1, "2026-09-03", a_document(big, small))
    amendment = Lodged(2, "2026-09-10", a_document(big, kind="4/A", original="2026-09-03"))
    walked = walk(Shelf(original, amendment))
    assert walked.trades["sold"]["shares"] == "500"
    assert walked.trades["superseded"] == {original.accession: amendment.accession}
    assert walked.trades["filings"] == [amendment.accession]


def test_an_amendment_in_doubt_is_shown_as_such() -> None:
    original = Lodged(1, "2026-09-03", a_document(a_line("S", "500", "20")))
    amendment = Lodged(2, "2026-09-10", a_document(a_line("S", "510", "20"), kind="4/A", original="2026-09-03"))
    walked = walk(Shelf(original, amendment))
    assert walked.trades["unclear"] == {amendment.accession: [original.accession]}


def test_a_joint_filing_is_not_multiplied_by_its_owners() -> None:
    filing = lodged(1, "2026-09-03", a_line("P", "100", "10"), owners=(*JOINTLY, ("0001999003", "LIND CAPITAL LLC")))
    assert walk(Shelf(filing)).trades["bought"]["shares"] == "100"


def test_a_price_that_is_only_a_footnote_stays_unknown() -> None:
    note = "The price is a weighted average. " * 20
    filing = lodged(1, "2026-09-03", a_line("S", "100", None), notes=(note,))
    trades = walk(Shelf(filing)).trades
    assert trades["sold"] == {"lines": 1, "shares": "100", "value": None, "lines_without_value": 1}
    (line,) = trades["transactions"]
    assert (line["price"], line["value"]) == (None, None)
    assert line["price_note"].startswith("The price is a weighted average.")
    assert len(line["price_note"]) == 240


def test_shares_of_others_come_after_the_employers_and_in_short() -> None:
    here, there = (
        lodged(1, "2026-01-02", a_line("S", "5")),
        about(lodged(2, "2026-10-01", a_line("P", "7")), "0000920001"),
    )
    walked = walk(Shelf(here, there))
    assert walked.trades["issuer"]["cik"] == ISSUER
    assert walked.trades["bought"]["lines"] == 0
    (other,) = walked.trades["other_issuers"]
    assert other == {
        "issuer": {"cik": "0000920001", "name": "HARBOURLINE ROBOTICS INC", "ticker": "QLL"},
        "is_director": True, "is_officer": True, "is_ten_percent_owner": None, "officer_title": "Chief Scientist",
        "bought": {"lines": 1, "shares": "7", "value": "73.5", "lines_without_value": 0},
        "sold": {"lines": 0, "shares": "0", "value": "0", "lines_without_value": 0},
        "filings_read": 1,
    }  # fmt: skip


def test_a_partner_of_a_fund_that_files_jointly_with_it_is_found_with_what_they_traded() -> None:
    jointly = about(lodged(1, owners=(INES, ("0000920002", "QUELL VENTURES LP"))), "0000920001")
    shelf = Shelf(jointly)
    shelf.put(TICKERS, ticker_map((920002, "QVLP", "QUELL VENTURES LP")))
    walked = walk(shelf, Person(full_name="Ines Okafor-Lind", company="Quell Ventures"))
    assert (walked.trades["issuer"]["ticker"], walked.reading.found[1].value) == ("QLL", "QVLP")


def test_what_is_found_stays_small_however_much_was_traded() -> None:
    lines = [a_line("S", str(n), None, date=f"2026-09-{n % 28 + 1:02d}") for n in range(1, 31)]
    filings = [lodged(n, f"2026-10-{n:02d}", *lines, notes=("A long footnote. " * 200,)) for n in range(1, 21)]
    walked = walk(Shelf(*filings))
    assert (len(walked.trades["transactions"]), walked.trades["transactions_total"]) == (50, 600)
    assert walked.trades["transactions_cut"] is True
    assert walked.trades["sold"]["lines"] == 600
    days = [line["date"] for line in walked.trades["transactions"]]
    assert days == sorted(days, reverse=True)
    assert len(msgspec.json.encode(walked.reading)) < 40_000


# --- real filings ---------------------------------------------------------------------------------------------------

MUSK = "0001494730"


class RealShelf(Shelf):
    """Tesla as the SEC lists it, with those of its filings that are at hand."""

    def __init__(self, until: str) -> None:
        super().__init__()
        page = json.loads((SAMPLES / "submissions" / "CIK0001318605.json").read_bytes())
        recent = page["filings"]["recent"]
        kept = [n for n, day in enumerate(recent["filingDate"]) if day <= until]
        self.put(TICKERS, (SAMPLES / "company_tickers.json").read_bytes())
        page["filings"]["recent"] = {name: [column[n] for n in kept] for name, column in recent.items()}
        self.put(page_of("0001318605"), page)
        held = {sample["accession"]: sample for sample in EXPECTED if sample["file"].startswith("form4/TSLA")}
        mine = [n for n in kept if recent["accessionNumber"][n] in held]
        person = {name: [column[n] for n in mine] for name, column in recent.items()}
        self.put(page_of(MUSK), {"name": "Musk Elon", "filings": {"recent": person, "files": []}})
        hits = []
        for n in mine:
            accession, name = recent["accessionNumber"][n], recent["primaryDocument"][n].rpartition("/")[2]
            document = (SAMPLES / held[accession]["file"]).read_bytes()
            for cik in ("1318605", "1494730"):
                self.put(f"/Archives/edgar/data/{cik}/{accession.replace('-', '')}/{name}", document)
            names = ["Musk Elon  (CIK 0001494730)", "Tesla, Inc.  (TSLA)  (CIK 0001318605)"]
            hits.append({"_source": {"adsh": accession, "form": "4", "display_names": names}})
        self.put(EVERYBODY, {"hits": {"total": {"value": len(hits)}, "hits": hits}})


ELON = Person(full_name="Elon Musk", company="Tesla")


@NEEDS_SAMPLES
def test_real_pages_and_filings_are_walked_from_end_to_end() -> None:
    walked = walk(RealShelf("2019-12-20"), ELON, today=dt.date(2019, 12, 20))
    assert walked.trades["filings"] == ["0001494730-18-000002", "0001494730-18-000006", "0001494730-19-000003"]
    assert walked.trades["owner"] == {"cik": MUSK, "name": "Musk Elon"}
    assert walked.reading.found[1].value == "TSLA"
    read = [sample["expected"] for sample in EXPECTED if sample["accession"] in walked.trades["filings"]]
    bought = [filing["totals_by_code"]["P"] for filing in read if "P" in filing["totals_by_code"]]
    assert walked.trades["bought"]["lines"] == sum(total["lines"] for total in bought) == 11
    assert walked.trades["bought"]["value"] == f"{sum(Decimal(total['value']) for total in bought)}"
    assert (walked.trades["missing"], walked.trades["cut"]) == ([], False)


@NEEDS_SAMPLES
def test_real_pages_are_walked_without_the_search() -> None:
    shelf = RealShelf("2021-12-28")
    shelf.put(EVERYBODY, BROKEN)
    walked = walk(shelf, ELON, today=dt.date(2021, 12, 29))
    assert walked.places[2] == page_of("0001318605")
    assert walked.trades["filings"] == ["0000899243-21-049992"]
    assert walked.trades["sold"]["lines"] == 29


# --- a saved file ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sample", [*samples("form4"), *samples("other")])
def test_a_saved_filing_is_told_to_the_letter(sample: dict[str, Any]) -> None:
    document = (SAMPLES / sample["file"]).read_bytes()
    if sample["file"].startswith("other/"):
        with pytest.raises(NotAForm4, match=r"a Form [35], not a Form 4"):
            Edgar().read_file(document)
    else:
        assert msgspec.json.decode(msgspec.json.encode(Edgar().read_file(document))) == sample["expected"]


def test_a_saved_page_is_read_as_what_it_is() -> None:
    shelf = Shelf(lodged())
    recent = msgspec.json.encode(submissions([lodged()])["filings"]["recent"])
    pages = [shelf.answers[place].body for place in (TICKERS, page_of(CIK), EVERYBODY)]
    tickers, page, found, older = (Edgar().read_file(document) for document in (*pages, recent))
    assert tickers.data[0] == [ISSUER, "HBLR", "HARBOURLINE ROBOTICS INC"]
    assert page.data["filings"] == older.data["filings"]
    assert [filing[0] for filing in page.data["filings"]] == [hit[0] for hit in found.data["hits"]]
    assert Edgar().read_file(b"<Error/>", 403).status is Status.NO_DATA
