"""The walk through EDGAR once the employer is known: who the person is, what they filed, and what that adds up to.

Each step is a generator that yields the requests it needs and is sent the reading of each answer, like `Source.ask`. A
step that has the last word before the last step raises `Ended` with it. No I/O.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from datetime import date
from typing import Any, TypeVar

import msgspec

from sluiceway.outcome import BOUGHT, FREE, Status
from sluiceway.prospect import Field, Found, Match, fold, same_given_name
from sluiceway.sources._contract import Asked, Reading, Request, Retry, refused, unreadable
from sluiceway.sources._edgar_pages import HITS_PER_PAGE, Company, Hit, Role, Row, Search, Submissions, newest
from sluiceway.sources._form4 import Form4
from sluiceway.sources._insiders import Filed, Settled, insider_summary, likeliest, owned_by, settle_amendments

T = TypeVar("T")
Steps = Generator[Asked, Any, T]

_DAY_S = 86_400.0
_PAGE_S = 600.0  # data.sec.gov forbids caching its pages; ten minutes keeps a batch from fetching one a hundred times
_MOST_FILINGS = 20
_MOST_PAGES = 5  # of a search; only the largest banks have more filings about them
_MOST_OLDER = 5  # further pages of a person's list; nobody has needed one yet
_MOST_LOOKED_INTO = 12  # filings opened to see who filed them, when the search does not say
_MOST_LINES = 50  # of transactions, and of positions
_MOST_OTHERS = 10
_LONGEST_NOTE = 240  # characters; footnotes on prices say what matters first, then promise details on request


class Ended(Exception):  # noqa: N818 - how a walk ends early, not an error
    """The walk has its last word before its last step."""

    def __init__(self, reading: Reading) -> None:
        super().__init__(reading.error or reading.status)
        self.reading = reading


class Insider(msgspec.Struct, frozen=True):
    """The person as the SEC knows them, and their filings that are known to be about the employer."""

    cik: str
    employer: Company
    about_employer: frozenset[str]

    def document(self, row: Row) -> Request:
        """Ask for a filing, where colleagues who filed it too would look for it as well."""
        return _document(self.employer.cik if row.accession in self.about_employer else self.cik, row)


class Filings(msgspec.Struct):
    """What was read of a person's filings, and which could not be; `total` counts those of the 24 months."""

    since: str
    total: int
    read: list[Filed] = []
    missing: list[str] = []
    unreadable: list[str] = []


# --- the person's own number ----------------------------------------------------------------------------------------


class _Listing(msgspec.Struct):
    """The hits of a search, as far as it was followed; `failed` is the answer that ended it too early."""

    hits: list[Hit] = []
    whole: bool = False
    failed: Reading | None = None


def find_insider(name: str, employer: Company, since: date, today: date) -> Steps[Insider]:
    """Find the person among those who filed about the employer.

    Everybody who did is listed rather than searched for by name: names are spelled in many ways, colleagues share the
    list, and no name leaves the house. Only where that list is too long is the family name asked for.
    """
    everybody = yield from _listing(employer, since, today)
    if insider := _among(everybody, name, employer):
        return insider
    listing = everybody
    if listing.hits and not listing.whole and not listing.failed:
        listing = yield from _listing(employer, since, today, _family_name(name))
        if insider := _among(listing, name, employer):
            return insider
    if everybody.hits and not listing.failed:
        raise _nobody(name, employer)
    return (yield from _looked_into(name, employer, since, listing.failed))


def _listing(employer: Company, since: date, today: date, phrase: str = "") -> Steps[_Listing]:
    listing = _Listing()
    for page in range(_MOST_PAGES):
        reading = yield _search(employer, since, today, page, phrase)
        if reading.status not in BOUGHT or reading.data is None:
            listing.failed = _unless_refused(reading)
            break
        said = msgspec.convert(reading.data, Search)
        listing.hits += said.hits
        listing.whole = (page + 1) * HITS_PER_PAGE >= said.total
        if listing.whole:
            break
    return listing


def _unless_refused(reading: Reading) -> Reading:
    """Return a failure after which other pages may still be asked for; raise where none may."""
    if reading.retry is Retry.STOP or reading.status is Status.RATE_LIMITED:
        raise Ended(reading)
    return reading


def _among(listing: _Listing, name: str, employer: Company) -> Insider | None:
    """Find the person in these hits; ends the walk where two could be the person."""
    filers = {filer for hit in listing.hits if _is_about(hit, employer.cik) for filer in hit.filers}
    ciks = set(likeliest(name, sorted(filer for filer in filers if filer[0] != employer.cik), same_given_name))
    if len(ciks) > 1:
        raise nothing(f"{len(ciks)} insiders of {employer.name} are called {name}")
    for cik in ciks:
        about = (hit.accession for hit in listing.hits if _is_about(hit, employer.cik) and _is_about(hit, cik))
        return Insider(cik, employer, frozenset(about))
    return None


def _is_about(hit: Hit, cik: str) -> bool:
    return any(filer == cik for filer, _ in hit.filers)


def _looked_into(name: str, employer: Company, since: date, failed: Reading | None) -> Steps[Insider]:
    """Open the newest filings about the employer until one is by the person; `failed` is why the search did not say."""
    page = yield from _submissions(employer.cik)
    rows = page.since(since.isoformat())
    for row in rows[:_MOST_LOOKED_INTO]:
        form4 = _form4((yield _document(employer.cik, row)))
        owner = form4 and form4.issuer.cik == employer.cik and owned_by(form4, name, same_given_name)
        if owner:
            return Insider(owner.cik, employer, frozenset({row.accession}))
    saw_all = len(rows) <= _MOST_LOOKED_INTO and not page.older_since(since.isoformat())
    raise Ended(failed) if failed and not saw_all else _nobody(name, employer)


# --- the person's filings -------------------------------------------------------------------------------------------


def read_filings(insider: Insider, since: date) -> Steps[Filings]:
    """Read the person's newest filings, those known to be about the employer before any other."""
    day = since.isoformat()
    rows = yield from _rows(insider.cik, day)
    if not rows:
        raise nothing(f"no Form 4 since {day}")
    filings = Filings(day, len(rows))
    rows.sort(key=lambda row: (row.accession in insider.about_employer, newest(row)), reverse=True)
    newest_rows = rows[:_MOST_FILINGS]
    readings = yield tuple(map(insider.document, newest_rows))
    for row, reading in zip(newest_rows, readings, strict=True):
        if form4 := _form4(reading):
            filings.read.append(Filed(row.accession, date.fromisoformat(row.filed), row.form, form4))
        else:
            (filings.missing if reading.data is None else filings.unreadable).append(row.accession)
    return filings


def _rows(cik: str, day: str) -> Steps[list[Row]]:
    page = yield from _submissions(cik)
    rows = {row.accession: row for row in page.since(day)}
    for older in page.older_since(day)[:_MOST_OLDER]:
        request = _data_page(f"/submissions/{older.name}", Role.OLDER)
        further = msgspec.convert((yield from needed(request)), Submissions)
        rows |= {row.accession: row for row in further.since(day)}
    return list(rows.values())


def _submissions(cik: str) -> Steps[Submissions]:
    reading = yield _data_page(f"/submissions/CIK{cik}.json", Role.SUBMISSIONS)
    if reading.status is Status.NO_DATA:
        return Submissions("")
    return msgspec.convert(_had(reading), Submissions)


def _form4(reading: Reading) -> Form4 | None:
    """Take up a Form 4 that was read; `None` where it is missing or cannot be one. Any other failure ends the walk."""
    if reading.status is Status.NO_DATA or (isinstance(reading.data, dict) and "unreadable" in reading.data):
        return None
    return msgspec.convert(_had(reading)["form4"], Form4)


def needed(request: Request) -> Steps[Any]:
    """Get a page that the walk cannot do without."""
    return _had((yield request))


def _had(reading: Reading) -> Any:
    if reading.status is Status.NO_DATA:
        raise Ended(refused(Status.FAILED, "EDGAR does not have a page that it lists"))
    if reading.status is not Status.COMPLETE:
        raise Ended(reading)
    if reading.data is None:
        raise Ended(unreadable("EDGAR says that a page has not changed, and we do not hold it"))
    return reading.data


# --- the last word --------------------------------------------------------------------------------------------------


def nothing(why: str) -> Ended:
    return Ended(Reading(Status.NO_DATA, FREE, data={"why": why}))


def _nobody(name: str, employer: Company) -> Ended:
    return nothing(f"no insider of {employer.name} is called {name}")


def tell(insider: Insider, filings: Filings) -> Reading:
    """Say what the person traded. The employer's shares come first; a fund's partner may only have traded others."""
    settled = settle_amendments(filings.read)
    newest_first = [filed.form4.issuer.cik for filed in reversed(settled.kept)]
    issuers = dict.fromkeys(sorted(newest_first, key=lambda cik: cik != insider.employer.cik))
    summaries = [
        summary for cik in issuers if (summary := insider_summary(settled.kept, owner_cik=insider.cik, issuer_cik=cik))
    ]
    if not summaries:
        return refused(Status.FAILED, f"none of the {filings.total} filings that EDGAR lists could be read")
    main, *others = summaries
    notes = _notes(settled, filings)
    trades = {**_bounded(main), **notes, "other_issuers": [_in_short(other) for other in others[:_MOST_OTHERS]]}
    found = (Found(Field.INSIDER_TRADES, trades, 90), Found(Field.TICKER, insider.employer.ticker, 80))
    return Reading(Status.COMPLETE, FREE, found=tuple(f for f in found if f.value), match=Match.AGREES, data=notes)


def _notes(settled: Settled, filings: Filings) -> dict[str, Any]:
    """Say what the summary rests on, and what it does not: filings cut off, missing, unreadable or in doubt."""
    return {
        "since": filings.since,
        "filings_total": filings.total,
        "cut": filings.total > _MOST_FILINGS,
        "missing": filings.missing,
        "unreadable": filings.unreadable,
        "superseded": settled.superseded,
        "unclear": {amendment: list(doubted) for amendment, doubted in settled.unclear.items()},
    }


def _bounded(summary: Mapping[str, Any]) -> dict[str, Any]:
    """Keep the newest transactions and positions, newest first, and cut long footnotes; say how many there were."""
    transactions = summary["transactions"]
    return {
        **summary,
        "positions": _newest(sorted(summary["positions"], key=lambda position: position["as_of"]), "nature"),
        "transactions": _newest(transactions, "price_note"),
        "contradictory": _newest(summary["contradictory"], "price_note"),
        "transactions_total": len(transactions),
        "transactions_cut": len(transactions) > _MOST_LINES,
    }


def _newest(lines: Sequence[Mapping[str, Any]], note: str) -> list[dict[str, Any]]:
    return [{**line, note: line[note] and _shortened(line[note])} for line in lines[: -_MOST_LINES - 1 : -1]]


def _shortened(note: str) -> str:
    return note if len(note) <= _LONGEST_NOTE else f"{note[: _LONGEST_NOTE - 1]}…"


def _in_short(summary: Mapping[str, Any]) -> dict[str, Any]:
    parts = ("issuer", "is_director", "is_officer", "is_ten_percent_owner", "officer_title", "bought", "sold")
    return {part: summary[part] for part in parts} | {"filings_read": len(summary["filings"])}


# --- requests -------------------------------------------------------------------------------------------------------

TICKER_MAP = Request(
    "files/company_tickers",
    "GET",
    "/files/company_tickers.json",
    host="www",
    shared=True,
    fresh_for=_DAY_S,
    role=Role.TICKERS,
)


def _search(employer: Company, since: date, today: date, page: int, phrase: str) -> Request:
    query = {
        "q": phrase,
        "ciks": employer.cik,
        "forms": "4,4/A",
        "dateRange": "custom",
        "startdt": since.isoformat(),
        "enddt": today.isoformat(),
        "from": str(page * HITS_PER_PAGE),
    }
    return Request(
        "search-index",
        "GET",
        "/LATEST/search-index",
        tuple((name, value) for name, value in query.items() if value),
        host="efts",
        shared=not phrase,  # with one it is about somebody in particular
        fresh_for=_DAY_S,
        role=Role.SEARCH,
    )


def _data_page(path: str, role: str) -> Request:
    return Request("submissions", "GET", path, host="data", shared=True, fresh_for=_PAGE_S, role=role)


def _document(cik: str, row: Row) -> Request:
    return Request("Archives", "GET", row.path(cik), host="www", shared=True, fresh_for=None, role=Role.FILING)


def _family_name(name: str) -> str:
    """Return the family name as a phrase to search for; suffixes would find half the company."""
    last, comma, _ = name.partition(",")
    words = [word for word in (last if comma else name).split() if fold(word) not in _GENERATIONS]
    return f'"{fold(words[-1])}"' if words else ""


_GENERATIONS = frozenset({"", "jr", "sr", "ii", "iii", "iv"})
