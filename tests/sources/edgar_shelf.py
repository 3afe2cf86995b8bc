"""A shelf of canned EDGAR answers that agree with each other, and a walk along it, driven by hand."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import msgspec
from form4_documents import INES, ISSUER, a_document, a_line

from sluiceway.prospect import Field, Person
from sluiceway.sources._contract import Reading, Request, Response, Skip, Subject, converse, understand
from sluiceway.sources._edgar_pages import Role
from sluiceway.sources._form4 import read_form4
from sluiceway.sources.edgar import Edgar

TODAY = dt.date(2026, 11, 24)
HARBOURLINE = "HARBOURLINE ROBOTICS INC"
PERSON = Person(full_name="Ines Okafor-Lind", company="Harbourline Robotics")
TICKERS, EVERYBODY = "/files/company_tickers.json", "everybody from 0"
DENIED = Response(403, {"content-type": "application/xml"}, b"<Error><Code>AccessDenied</Code></Error>")
BROKEN = Response(500, {}, b'{"message": "Internal server error"}')
SHUT_OUT = Response(403, {"content-type": "text/html"}, b"<html><title>Request Rate Threshold Exceeded</title></html>")


@dataclass(frozen=True)
class Lodged:
    """A filing as EDGAR holds it."""

    serial: int
    day: str
    document: bytes

    @property
    def accession(self) -> str:
        return f"0001843210-{self.day[2:4]}-{self.serial:06d}"

    @property
    def form(self) -> str:
        return "4/A" if b">4/A<" in self.document else "4"

    @property
    def names(self) -> list[tuple[str, str]]:
        """CIK and name of everybody it is about, the issuer last."""
        form4 = read_form4(self.document)
        return [*((owner.cik, owner.name) for owner in form4.owners), (form4.issuer.cik, str(form4.issuer.name))]


def lodged(serial: int = 1, day: str = "2026-09-03", *lines: str, **more: Any) -> Lodged:
    """A filing by Ines, unless `owners` says otherwise."""
    return Lodged(serial, day, a_document(*(lines or (a_line(date=day),)), period=day, **more))


def about(filing: Lodged, cik: str, ticker: str = "QLL") -> Lodged:
    """The same filing, about another issuer."""
    other = filing.document.replace(ISSUER.encode(), cik.encode()).replace(b"HBLR", ticker.encode())
    return Lodged(filing.serial, filing.day, other)


def ticker_map(*more: tuple[int, str, str]) -> dict[str, Any]:
    rows = [(int(ISSUER), "HBLR", HARBOURLINE), (920001, "QLL", "Quell Holdings, Inc."), *more]
    return {str(n): {"cik_str": cik, "ticker": ticker, "title": title} for n, (cik, ticker, title) in enumerate(rows)}


def arrays(filings: Iterable[Lodged]) -> dict[str, list[Any]]:
    """Filings as parallel arrays, newest first, with something else in between."""
    rows = [(f.accession, f.day, f.form, "xslF345X06/form4.xml") for f in sorted(filings, key=lambda f: f.day)]
    rows.append(("0001843210-26-000999", "2026-11-01", "8-K", "hblr-8k.htm"))
    columns = zip(*reversed(rows), strict=True)
    return dict(zip(("accessionNumber", "filingDate", "form", "primaryDocument"), map(list, columns), strict=True))


def submissions(filings: Iterable[Lodged], *, name: str = "", older: Iterable[dict[str, str]] = ()) -> dict[str, Any]:
    return {"name": name, "filings": {"recent": arrays(filings), "files": list(older)}}


def search(filings: Iterable[Lodged], *, total: int | None = None) -> dict[str, Any]:
    hits = [
        {"_source": {"adsh": f.accession, "form": f.form, "display_names": [f"{n}  (CIK {c})" for c, n in f.names]}}
        for f in filings
    ]
    return {"timed_out": False, "hits": {"total": {"value": len(hits) if total is None else total}, "hits": hits}}


def page_of(cik: str) -> str:
    return f"/submissions/CIK{cik}.json"


def path_of(filing: Lodged, cik: str = ISSUER) -> str:
    return f"/Archives/edgar/data/{int(cik)}/{filing.accession.replace('-', '')}/form4.xml"


def where(request: Request) -> str:
    """Where on the shelf the answer to a request lies."""
    asked = dict(request.query)
    return f"{asked.get('q', 'everybody')} from {asked['from']}" if request.role == Role.SEARCH else request.path


class Shelf:
    """Answers by where they lie; what does not lie here is missing."""

    def __init__(self, *filings: Lodged) -> None:
        self.filings = filings
        self.answers: dict[str, Response] = {}
        self.put(TICKERS, ticker_map())
        self.put(EVERYBODY, search(filings))
        for cik, name in {filer for filing in filings for filer in filing.names} | {(ISSUER, HARBOURLINE)}:
            theirs = [filing for filing in filings if cik in dict(filing.names)]
            self.put(page_of(cik), submissions(theirs, name=name))
            for filing in theirs:
                self.put(path_of(filing, cik), filing.document)

    def put(self, place: str, content: Any) -> None:
        """Lay an answer down: a response as it is, bytes as they are, anything else as JSON."""
        if not isinstance(content, Response):
            content = Response(200, {}, content if isinstance(content, bytes) else msgspec.json.encode(content))
        self.answers[place] = content

    def answer(self, request: Request) -> Response:
        return self.answers.get(where(request), DENIED)


@dataclass
class Walked:
    """How a walk went: the last word, what was asked on the way, and what was read."""

    last: Reading | Skip
    asked: list[Request]
    readings: dict[str, Reading]

    @property
    def reading(self) -> Reading:
        assert isinstance(self.last, Reading), self.last
        return self.last

    @property
    def places(self) -> list[str]:
        return [where(request) for request in self.asked]

    @property
    def trades(self) -> dict[str, Any]:
        found = {found.field: found.value for found in self.reading.found}
        trades: dict[str, Any] = found[Field.INSIDER_TRADES]
        return trades


def walk(
    shelf: Shelf,
    person: Person = PERSON,
    *,
    today: dt.date = TODAY,
    held: dict[str, Reading] | None = None,
    source: Edgar | None = None,
) -> Walked:
    """Drive a source to its last word, as the pipeline would; `held` answers are not asked for again."""
    source = source or Edgar("Sample Company admin@sample.example")
    subject = Subject(person, (), today)
    walked = Walked(Skip(""), [], {})

    def answer(request: Request) -> Reading:
        key = request.key("edgar")
        reading = (held or {}).get(key)
        if reading is None:
            walked.asked.append(request)
            reading = understand(source, subject, request, shelf.answer(request))
            reading = msgspec.json.decode(msgspec.json.encode(reading), type=Reading)
        walked.readings[key] = reading
        return reading

    walked.last = converse(source.ask(subject), answer)
    return walked


JOINTLY = (INES, ("0001999002", "LIND TOVE"))
