"""The SEC's EDGAR: what a person who is an insider of a listed company has bought and sold of it. Free of charge.

Wire formats: https://www.sec.gov/search-filings/edgar-application-programming-interfaces (`_edgar_pages` has more). The
walk has four steps: the employer's number (CIK) from the map of listed companies; the person's own number from the
names of everybody who filed a Form 4 about the employer in the last 24 months; the person's list of filings; and each
filing. All of it is public, so whoever is asked about shares it, and a filed document is fetched once, ever.

Every document answered with 200 is counted, at no cost. The SEC allows ten requests a second over all its hosts, and
answers whoever exceeds that, or does not say who they are, with 403 and a web page for about ten minutes; a missing
document is a 403 or 404 with XML.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, date, datetime
from typing import Any, ClassVar

import msgspec

from sluiceway.outcome import FREE, UNKNOWN_CHARGE, Status, billed
from sluiceway.prospect import Field, Person, Want, fold
from sluiceway.sources._contract import (
    Asking,
    Credential,
    Price,
    Reading,
    Request,
    Response,
    Retry,
    Skip,
    Source,
    Subject,
    refused,
    trouble,
    unreadable,
)
from sluiceway.sources._edgar_pages import (
    Companies,
    Company,
    Role,
    Search,
    read_older_page,
    read_search,
    read_submissions,
    read_ticker_map,
)
from sluiceway.sources._edgar_walk import TICKER_MAP, Ended, Steps, find_insider, needed, nothing, read_filings, tell
from sluiceway.sources._form4 import NotAForm4, NotWhole, read_form4

_BLOCK_S = 600.0  # how long the SEC keeps a sender out, as far as anyone knows


class Edgar(Source):
    """Ask the SEC what this person, as an insider of the employer, has traded."""

    name = "edgar"
    provider = "edgar"
    title = "SEC EDGAR"
    needs = Credential(
        "SEC_EDGAR_USER_AGENT",
        "who you are, with an e-mail address, such as: Sample Company admin@sample.example",
        secret=False,
    )
    finds = (Field.INSIDER_TRADES, Field.TICKER)
    pace = 9.0  # ten a second over all hosts, less a margin
    timeout_s = 30.0
    hosts: ClassVar[Mapping[str, str]] = {
        "www": "https://www.sec.gov",
        "data": "https://data.sec.gov",
        "efts": "https://efts.sec.gov",
    }
    sandbox: ClassVar[Mapping[str, str]] = {"www": "/edgar/www", "data": "/edgar/data", "efts": "/edgar/efts"}
    docs_url = "https://www.sec.gov/search-filings/edgar-application-programming-interfaces"

    def __init__(self, credential: str = "", options: Mapping[str, str] | None = None) -> None:
        super().__init__(credential, options)
        self._indexed: tuple[Any, Companies] | None = None

    def headers(self) -> Mapping[str, str]:
        return {"user-agent": self.credential, "accept-encoding": "gzip, deflate"}

    def price(self, want: tuple[Want, ...]) -> Price:
        return Price()

    def subject_key(self, subject: Subject) -> str:
        """Return the key without what may be bought: contact data is not to be had here, so it changes nothing."""
        return super().subject_key(msgspec.structs.replace(subject, want=()))

    def check(self) -> Request:
        """Ask for the page of a number nobody has: the smallest answer that only a declared sender gets."""
        return Request("submissions", "GET", "/submissions/CIK0000000000.json", host="data", role=Role.CHECK)

    def read_file(self, document: bytes, status: int = 200) -> Any:
        """Read a saved answer: a Form 4 as everything it says, any other page as `read` would have."""
        if status == 200 and document.lstrip()[:1] in (b"<", b"\xef", b"-"):
            return read_form4(document).reading()
        request = Request("saved", "GET", "/", role=_role_of(document) if status == 200 else Role.FILING)
        subject = Subject(Person(), (), datetime.now(UTC).date())
        return self.read(subject, request, Response(status, {}, document))

    # Reading: what one answer says, whoever asked.

    def read(self, subject: Subject, request: Request, response: Response) -> Reading:
        match response.status:
            case 200:
                return _page(request.role, response)
            case 304:
                return Reading(Status.COMPLETE, FREE)
            case 403 if not _is_xml(response):
                return self._blocked(response)
            case 403 | 404 if _is_xml(response):
                return _missing(request.role, response)
        said = _words(response)
        error = f"HTTP {response.status}: {said or 'no reason given'}"
        failed = refused(Status.FAILED, error) if 400 <= response.status < 500 else unreadable(error)
        return trouble(response, said) or failed

    def _blocked(self, response: Response) -> Reading:
        """Read the page that shuts us out; it is the same for who is too fast and for who does not say who they are."""
        error = f"HTTP 403: {_words(response) or 'no reason given'}"
        if "@" in self.credential:
            return refused(Status.RATE_LIMITED, error, Retry.STOP, retry_after=_BLOCK_S)
        return refused(Status.UNAUTHORIZED, f"{error}; the User-Agent must hold an e-mail address", Retry.STOP)

    # Asking: the walk.

    def ask(self, subject: Subject) -> Asking:
        name = _whole_name(subject.person)
        if not fold(subject.person.company):
            return Skip("needs a company")
        if not name or subject.person.is_half_named:
            return Skip("needs a first and a last name")
        try:
            return (yield from self._walk(name, subject))
        except Ended as ended:
            return ended.reading

    def _walk(self, name: str, subject: Subject) -> Steps[Reading]:
        since = _two_years_before(subject.today)
        employer = yield from self._employer(subject.person.company)
        insider = yield from find_insider(name, employer, since, subject.today)
        filings = yield from read_filings(insider, since)
        return tell(insider, filings)

    def _employer(self, name: str) -> Steps[Company]:
        """Find the employer among the listed companies."""
        named = self._companies((yield from needed(TICKER_MAP))).named(name)
        if len(named) == 1:
            return named[0]
        raise nothing(f"{len(named)} listed companies are called {name}" if named else f"no listed company is {name}")

    def _companies(self, ticker_map: Any) -> Companies:
        """Index a ticker map once, however many people are looked for in it."""
        if self._indexed is None or self._indexed[0] is not ticker_map:
            self._indexed = (ticker_map, Companies(ticker_map))
        return self._indexed[1]


def _whole_name(person: Person) -> str:
    names = (person.full_name, f"{person.first_name} {person.last_name}")
    return next((" ".join(name.split()) for name in names if len(fold(name).split()) > 1), "")


def _two_years_before(today: date) -> date:
    return today.replace(year=today.year - 2, day=28 if (today.month, today.day) == (2, 29) else today.day)


# --- one answer -----------------------------------------------------------------------------------------------------


def _page(role: str, response: Response) -> Reading:
    """Read a 200."""
    if _is_html(response):
        return unreadable("HTTP 200: a web page, where a document was asked for")
    if not response.body.strip():
        return unreadable("HTTP 200: an empty answer")
    match role:
        case Role.FILING:
            return _filing(response.body)
        case Role.SEARCH:
            return _searched(read_search(response.body))
        case Role.TICKERS:
            data: Any = read_ticker_map(response.body)
        case Role.SUBMISSIONS | Role.CHECK:
            data = _as_json(read_submissions(response.body))
        case Role.OLDER:
            data = _as_json(read_older_page(response.body))
        case _:
            return unreadable("HTTP 200: none of EDGAR's pages")
    return Reading(Status.COMPLETE, billed(), data=data)


def _searched(said: Search) -> Reading:
    if said.gave_up:
        return Reading(Status.FAILED, billed(), f"HTTP 200: {said.gave_up}")
    return Reading(Status.COMPLETE if said.hits else Status.NO_DATA, billed(), data=_as_json(said))


def _filing(document: bytes) -> Reading:
    """Read a filed document; one that is not whole may be when it is fetched again, another form stays another form."""
    try:
        return Reading(Status.COMPLETE, billed(), data={"form4": _as_json(read_form4(document))})
    except NotWhole as error:
        data, said = {"unreadable": error.found}, f"HTTP 200: {error}"
        return Reading(Status.FAILED, UNKNOWN_CHARGE, said, data=data)
    except NotAForm4 as error:
        return Reading(Status.NO_DATA, billed(), data={"unreadable": error.found})


def _missing(role: str, response: Response) -> Reading:
    """Read that there is no such document, which says something only where there need not be one."""
    if role == Role.CHECK:
        return Reading(Status.COMPLETE, FREE)
    if role in (Role.TICKERS, Role.SEARCH):
        return refused(Status.FAILED, f"HTTP {response.status}: {_words(response) or 'no reason given'}")
    return Reading(Status.NO_DATA, FREE)


def _as_json(value: msgspec.Struct) -> Any:
    """Return a struct as what it will be after it was kept: no tuples, decimals and days as texts."""
    return msgspec.json.decode(msgspec.json.encode(value))


def _is_html(response: Response) -> bool:
    return "html" in _content_type(response) or _starts_with(response, b"<!doctype html", b"<html")


def _is_xml(response: Response) -> bool:
    return not _is_html(response) and ("xml" in _content_type(response) or _starts_with(response, b"<?xml", b"<error"))


def _content_type(response: Response) -> str:
    return response.headers.get("content-type", "").lower()


def _starts_with(response: Response, *beginnings: bytes) -> bool:
    return response.body[:200].removeprefix(b"\xef\xbb\xbf").lstrip().lower().startswith(beginnings)


_TITLE = re.compile(r"<title>([^<]*)|<code>([^<]*)</code>\s*<message>([^<]*)", re.IGNORECASE)


def _words(response: Response) -> str:
    """Return what a refusal says: the title of a web page, the code and message of an XML error, or the text."""
    said = response.text().strip()
    if found := _TITLE.search(said):
        return ": ".join(part.strip() for part in found.groups() if part)
    return "" if said.startswith("<") else said


def _role_of(document: bytes) -> str:
    """Tell by its contents which page a saved one is."""
    said = msgspec.json.decode(document)
    names = said.keys() if isinstance(said, dict) else set()
    if "hits" in names:
        return Role.SEARCH
    if "filings" in names:
        return Role.SUBMISSIONS
    return Role.OLDER if "accessionNumber" in names else Role.TICKERS
