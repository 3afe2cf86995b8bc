"""EDGAR's answers, one by one: what each page says, what is counted, and what a refusal means."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from contract import (
    HTML,
    Case,
    about,
    agrees,
    anywhere,
    confirmed,
    free,
    names,
    paid,
    unknown,
    unreadable,
)
from form4_documents import ISSUER, SAMPLES, a_document, a_line
from hypothesis import example, given
from hypothesis import strategies as st

from sluiceway.outcome import ChargeKind, Status
from sluiceway.sources._contract import Reading, Request, Response, Retry, understand
from sluiceway.sources._edgar_pages import Role
from sluiceway.sources._form4 import Form4, read_form4
from sluiceway.sources.edgar import Edgar
from sluiceway.sources.testing import check_reading

SOURCE = Edgar("Sample Company admin@sample.example")
XML = {"content-type": "application/xml"}
PAGE = {"content-type": "text/html"}

TICKERS = {
    "0": {"cik_str": 1843210, "ticker": "HBLR", "title": "HARBOURLINE ROBOTICS INC"},
    "1": {"cik_str": 920001, "ticker": "QLL-B", "title": "Quell Holdings, Inc."},
}
ROWS = [[ISSUER, "HBLR", "HARBOURLINE ROBOTICS INC"], ["0000920001", "QLL-B", "Quell Holdings, Inc."]]

RECENT: dict[str, list[Any]] = {
    "accessionNumber": ["0001843210-26-000031", "0001843210-26-000030", "0001843210-26-000029"],
    "filingDate": ["2026-09-03", "2026-08-14", "2026-08-03"],
    "form": ["4", "10-Q", "4/A"],
    "primaryDocument": ["xslF345X06/form4.xml", "hblr-20260630.htm", "xslF345X06/form4a.xml"],
}
LISTED = [
    ["0001843210-26-000031", "2026-09-03", "4", "xslF345X06/form4.xml"],
    ["0001843210-26-000029", "2026-08-03", "4/A", "xslF345X06/form4a.xml"],
]
OLDER = {
    "name": f"CIK{ISSUER}-submissions-001.json",
    "filingCount": 9,
    "filingFrom": "2009-01-02",
    "filingTo": "2024-12-31",
}
FILER = {"cik": ISSUER, "name": "HARBOURLINE ROBOTICS INC", "filings": {"recent": RECENT, "files": [OLDER]}}


def listed(*rows: Any, name: str = "HARBOURLINE ROBOTICS INC", older: bool = True) -> dict[str, Any]:
    """What is kept of a filer's page."""
    further = [[OLDER["name"], OLDER["filingTo"]]] if older else []
    return {"name": name, "filings": list(rows), "older": further}


HIT: dict[str, Any] = {
    "_id": "0001843210-26-000031:form4.xml",
    "_source": {
        "ciks": ["0001999001", ISSUER], "adsh": "0001843210-26-000031", "form": "4", "file_date": "2026-09-03",
        "display_names": ["Okafor-Lind Ines  (CIK 0001999001)", f"HARBOURLINE ROBOTICS INC  (HBLR)  (CIK {ISSUER})"],
    },
}  # fmt: skip
FILERS = [["0001999001", "Okafor-Lind Ines"], [ISSUER, "HARBOURLINE ROBOTICS INC"]]


def search(*hits: Any, total: Any = None, **more: Any) -> dict[str, Any]:
    """A page of a search."""
    value = len(hits) if total is None else total
    shards = {"total": 50, "successful": 50, "skipped": 0, "failed": 0}
    found = {"total": {"value": value, "relation": "eq"}, "hits": list(hits)}
    return {"timed_out": False, "_shards": shards, "hits": found, **more}


def hits(*found: Any, total: int | None = None) -> dict[str, Any]:
    """What is kept of a search's page."""
    return {"total": len(found) if total is None else total, "hits": list(found), "gave_up": ""}


def counted(data: Any, status: Status = Status.COMPLETE) -> Any:
    """A document that was answered, at no cost."""
    return paid(status, usd=0, data=data)


def another_form(found: str) -> Any:
    return counted({"unreadable": found}, Status.NO_DATA)


DOCUMENT = a_document(a_line("P"), a_line("S", price=None)).replace(b"HARBOURLINE", b"Harbourline")
FORM4 = msgspec.json.decode(msgspec.json.encode(read_form4(DOCUMENT)))
SUBMISSION = b"<SEC-DOCUMENT>x\n<TYPE>4\n<XML>\n" + DOCUMENT + b"\n</XML>\n</SEC-DOCUMENT>"

GOOD = {
    Role.TICKERS: [
        Case("the listed companies", 200, TICKERS, counted(ROWS)),
        *(Case(f"a row with {what} is left out", 200, TICKERS | {"2": row}, counted(ROWS)) for what, row in {
            "no number": {"cik_str": None, "title": "X"}, "no name": {"cik_str": 7, "title": ""},
            "a number no company can have": {"cik_str": 10**10, "title": "X"}, "a list": {"cik_str": [], "title": []},
        }.items()),
    ],
    Role.SUBMISSIONS: [
        Case("the Forms 4 of a filer", 200, FILER, counted(listed(*LISTED))),
        Case("a person's page", 200, {"cik": "0001999001", "name": "Okafor-Lind Ines", "tickers": [], "filings": {
            "recent": RECENT, "files": []}}, counted(listed(*LISTED, name="Okafor-Lind Ines", older=False))),
        Case("a filer without filings", 200, {"name": "X", "filings": {"recent": {name: [] for name in RECENT}}},
             counted(listed(name="X", older=False))),
        Case("an accession number that is none", 200, {"name": "X", "filings": {"recent": RECENT | {
            "accessionNumber": ["../../etc/passwd", None, "0001843210-26-000029"]}}},
            counted(listed(LISTED[1], name="X", older=False))),
        Case("a day that is none", 200, {"name": "X", "filings": {"recent": RECENT | {
            "filingDate": ["soon", "2026-08-14", "2026-08-03"]}}}, counted(listed(LISTED[1], name="X", older=False))),
        Case("a further page with an odd name is left out", 200, {"name": "X", "filings": {
            "recent": RECENT, "files": [{**OLDER, "name": "../x.json"}, 7]}},
            counted(listed(*LISTED, name="X", older=False))),
    ],
    Role.OLDER: [
        Case("a further page is the bare arrays", 200, RECENT, counted(listed(*LISTED, name="", older=False))),
    ],
    Role.SEARCH: [
        Case("a hit with everybody it is about", 200, search(HIT), counted(hits([HIT["_source"]["adsh"], FILERS]))),
        Case("the first page of several", 200, search(HIT, total=240),
             counted(hits(["0001843210-26-000031", FILERS], total=240))),
        Case("nobody filed", 200, search(), counted(hits(), Status.NO_DATA)),
        Case("a hit that is another form is left out", 200, search({"_source": {**HIT["_source"], "form": "3"}}),
             counted(hits(total=1), Status.NO_DATA)),
        Case("names that cannot be read are left out", 200, search({"_source": {**HIT["_source"], "display_names": [
            7, None, "Okafor-Lind Ines", "X  (CIK soon)", "LIND (EAST) CO  (CIK 7)"]}}),
            counted(hits(["0001843210-26-000031", [["0000000007", "LIND (EAST) CO"]]]))),
        Case("a search that ran out of time", 200, search(HIT, timed_out=True),
             paid(Status.FAILED, usd=0, says="ran out of time")),
        Case("a search that did not look everywhere", 200, search(HIT, _shards={"failed": 3}),
             paid(Status.FAILED, usd=0, says="did not look everywhere")),
    ],
    Role.FILING: [
        Case("a Form 4", 200, DOCUMENT, counted({"form4": FORM4})),
        Case("a Form 4 inside its submission", 200, SUBMISSION, counted({"form4": FORM4}),
             {"content-type": "text/plain"}),
        Case("a Form 3 stays one", 200, a_document(kind="3"), another_form("a Form 3")),
        Case("other XML stays that", 200, "<edgarSubmission/>", another_form("XML whose root is <edgarSubmission>")),
        Case("a document with a DOCTYPE", 200, b"<!DOCTYPE x []>" + DOCUMENT.partition(b"?>")[2],
             another_form("an XML document with a DOCTYPE")),
    ],
    Role.CHECK: [Case("a page that somebody has after all", 200, FILER, counted(listed(*LISTED)))],
}  # fmt: skip

DENIED = (
    '<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>'
)
NO_SUCH_KEY = DENIED.replace("AccessDenied", "NoSuchKey").replace("Access Denied", "The specified key does not exist.")
TOO_FAST = (
    "<!DOCTYPE html><html><head><title>SEC.gov | Request Rate Threshold Exceeded</title></head><body></body></html>"
)
UNDECLARED = TOO_FAST.replace(
    "Request Rate Threshold Exceeded", "Your Request Originates from an Undeclared Automated Tool"
)
SHUT_OUT = free(Status.RATE_LIMITED, Retry.STOP, retry_after=600.0)

MISSING = [
    Case("403 XML: an archived document that is not there", 403, DENIED, free(Status.NO_DATA), XML),
    Case("403 XML known by its beginning", 403, DENIED, free(Status.NO_DATA)),
    Case("404 XML: a page that is not there", 404, NO_SUCH_KEY, free(Status.NO_DATA), XML),
]
REFUSALS = [
    Case("304: what is held is what there is", 304, "", free(Status.COMPLETE)),
    Case("403 for who is too fast", 403, TOO_FAST, free(
        Status.RATE_LIMITED, Retry.STOP, retry_after=600.0, says="Request Rate Threshold Exceeded"), PAGE),
    Case("403 for who does not say who they are", 403, UNDECLARED, SHUT_OUT, PAGE),
    Case("403 with any web page", 403, HTML, SHUT_OUT),
    Case("403 without a word", 403, "", SHUT_OUT),
    Case("429 with a page", 429, TOO_FAST, free(Status.RATE_LIMITED, Retry.BACKOFF, says="Threshold Exceeded"), PAGE),
    Case("400 about the question", 400, {"message": "bad"}, free(Status.FAILED, says="bad")),
    Case("200 with a page", 200, HTML, unknown(says="web page"), PAGE),
]  # fmt: skip
WHOLE = {
    Role.TICKERS: msgspec.json.encode(TICKERS).replace(b"HARBOURLINE", b"Harbourline"),
    Role.SUBMISSIONS: msgspec.json.encode(FILER).replace(b"HARBOURLINE", b"Harbourline"),
    Role.OLDER: msgspec.json.encode({**RECENT, "form": ["4", "Harbourline", "4"]}),
    Role.SEARCH: msgspec.json.encode(search(HIT)).replace(b"HARBOURLINE", b"Harbourline"),
    Role.FILING: DOCUMENT,
    Role.CHECK: msgspec.json.encode(FILER).replace(b"HARBOURLINE", b"Harbourline"),
}
UNLIKE = {
    Role.TICKERS: [
        Case("200 that lists no company", 200, "{}", unknown(says="lists no company")),
        *(Case(f"{status} XML: there is always a map", status, DENIED, free(Status.FAILED, says="AccessDenied"), XML)
          for status in (403, 404)),
    ],
    Role.SUBMISSIONS: [
        Case("200 whose arrays are not parallel", 200, {"filings": {"recent": RECENT | {"form": ["4"]}}}, unknown()),
        Case("200 without arrays", 200, {"name": "X", "filings": {"recent": None}}, unknown()),
        *MISSING,
    ],
    Role.OLDER: MISSING,
    Role.SEARCH: [
        Case("200 without hits", 200, {"took": 4}, unknown()),
        Case("200 with an error in it", 200, {"error": "all shards failed"}, unknown()),
        Case("500 as the service likes to fail", 500, {"message": "Internal server error"},
             free(Status.FAILED, Retry.BACKOFF, says="Internal server error")),
        *(Case(f"{status} XML: there is always a search", status, DENIED, free(Status.FAILED, says="AccessDenied"), XML)
          for status in (403, 404)),
    ],
    Role.FILING: MISSING,
    Role.CHECK: [
        Case("404 XML: whoever asked was let in", 404, NO_SUCH_KEY, free(Status.COMPLETE), XML),
    ],
}  # fmt: skip
CASES = {role: [*GOOD[role], *UNLIKE[role], *REFUSALS, *anywhere(), *unreadable(WHOLE[role])] for role in Role}
EACH = [
    pytest.param(role, case, id=f"{role}: {name}")
    for role in Role
    for case, name in zip(CASES[role], names(CASES[role]), strict=True)
]


def a_request(role: str) -> Request:
    return Request(role, "GET", "/somewhere", host="www", role=role)


def read(role: str, case: Case, source: Edgar = SOURCE) -> Reading:
    """Read a case's answer as the pipeline would."""
    request, response = a_request(role), Response(case.status, case.headers, case.content)
    check_reading(source, about(), request, response)
    reading = understand(source, about(), request, response)
    assert msgspec.json.decode(msgspec.json.encode(reading), type=Reading) == reading, (
        "kept as JSON, and taken up again"
    )
    return reading


@pytest.mark.parametrize(("role", "case"), EACH)
def test_each_answer_of_edgar_means_what_the_table_says(role: Role, case: Case) -> None:
    agrees(read(role, case), case.means)


def test_edgar_is_counted_only_after_a_confirmed_answer() -> None:
    for role in Role:
        was_counted = [case for case in CASES[role] if read(role, case).charge.kind is ChargeKind.BILLED]
        assert was_counted == confirmed(GOOD[role])
        assert all(case.status == 200 for case in was_counted)


@pytest.mark.parametrize("page", [TOO_FAST, UNDECLARED, HTML, ""])
@pytest.mark.parametrize("sender", ["", "Sample Company", "https://sample.example"])
def test_who_gives_no_address_is_told_to_mend_that(page: str, sender: str) -> None:
    means = free(Status.UNAUTHORIZED, Retry.STOP, says="must hold an e-mail address")
    agrees(read(Role.SUBMISSIONS, Case("", 403, page, means), Edgar(sender)), means)


def test_the_check_asks_for_next_to_nothing() -> None:
    request = SOURCE.check()
    assert (request.method, request.host, request.path) == ("GET", "data", "/submissions/CIK0000000000.json")
    assert not request.price.paid


def test_what_is_asked_for_does_not_change_what_edgar_knows() -> None:
    assert SOURCE.subject_key(about(want=())) == SOURCE.subject_key(about())


@pytest.mark.parametrize("file", sorted(SAMPLES.glob("form4/*.xml")), ids=lambda file: file.name)
def test_every_real_filing_is_kept_as_json_and_taken_up_again_without_loss(file: Any) -> None:
    case = Case("", 200, file.read_bytes(), counted(None))
    kept = msgspec.json.decode(msgspec.json.encode(read(Role.FILING, case)), type=Reading)
    assert msgspec.convert(kept.data["form4"], Form4) == read_form4(case.content)


@pytest.mark.parametrize("name", ["error403_xml.xml", "error404_data_xml.xml"])
def test_the_real_error_bodies_mean_that_something_is_missing(name: str) -> None:
    if not SAMPLES.exists():
        pytest.skip("the real answers of the SEC (shared/data/sec beside the repository) are not here")
    body = (SAMPLES / "http" / name).read_bytes()
    for role in (Role.SUBMISSIONS, Role.FILING):
        agrees(read(role, Case("", int(name[5:8]), body, free(Status.NO_DATA))), free(Status.NO_DATA))


anything = st.one_of(
    st.binary(max_size=300),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
            st.sampled_from(["filings", "recent", "files", "hits", "total", "_source", "display_names", "form", "0"]),
            inner, max_size=4,
        ),
        max_leaves=12,
    ).map(msgspec.json.encode),
)  # fmt: skip


@given(st.sampled_from([*Role, ""]), st.sampled_from([200, 201, 304, 403, 404, 429, 500, 504]), anything)
@example(Role.TICKERS, 200, b'{"0": {"cik_str": 1e999, "title": "X"}}')
@example(Role.TICKERS, 200, b'{"0": {"cik_str": ' + b"9" * 5000 + b', "title": "X"}}')
@example(Role.SEARCH, 200, b'{"hits": {"hits": [{"_source": {"form": "4", "display_names": ["\\ud800 (CIK 7)"]}}]}}')
@example(Role.FILING, 200, b"<ownershipDocument>" + b"<a>" * 3000)
def test_nothing_that_edgar_could_send_is_left_without_a_reading(role: str, status: int, body: bytes) -> None:
    request, response = a_request(role), Response(status, {}, body)
    reading = check_reading(SOURCE, about(), request, response)
    assert reading.charge.kind is not ChargeKind.BILLED or status == 200
    msgspec.json.encode(reading)
