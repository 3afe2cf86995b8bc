"""What EDGAR's JSON pages say: the listed companies, a filer's submissions, and a full-text search. No I/O.

Wire formats: https://www.sec.gov/search-filings/edgar-application-programming-interfaces, and for the search, which has
no documentation, the requests that https://www.sec.gov/edgar/search sends. Each page is read into lists and texts that
can be kept as JSON, and only as far as Forms 4 need it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import date
from enum import StrEnum
from functools import lru_cache
from typing import Any

import msgspec

from sluiceway.prospect import fold, normal_company
from sluiceway.sources._contract import number, record, text
from sluiceway.sources._form4 import ten_digits

HITS_PER_PAGE = 100
_LONGEST_NAME = 300
_FORMS = frozenset({"4", "4/A"})
_ACCESSION = re.compile(r"\d{10}-\d{2}-\d{6}", re.ASCII)
_OLDER_PAGE = re.compile(r"CIK\d{10}-submissions-\d{3,}\.json", re.ASCII)


class Role(StrEnum):
    """Which of EDGAR's pages a request asks for."""

    TICKERS = "tickers"
    SUBMISSIONS = "submissions"
    OLDER = "older"
    SEARCH = "search"
    FILING = "filing"
    CHECK = "check"


# --- the listed companies -------------------------------------------------------------------------------------------


class Company(msgspec.Struct, frozen=True):
    """A listed company; of several tickers, the first that the SEC lists."""

    cik: str
    name: str
    ticker: str


class _TickerRow(msgspec.Struct):
    cik: Any = msgspec.field(default=None, name="cik_str")
    ticker: Any = None
    title: Any = None


def read_ticker_map(body: bytes) -> list[list[str]]:
    """Read the ticker map as rows of CIK, ticker and company name, in the SEC's order.

    Raises ValueError when it lists no company.
    """
    said = msgspec.json.decode(body, type=dict[str, _TickerRow]).values()
    rows = [[cik, text(row.ticker), text(row.title)] for row in said if (cik := _cik(row.cik)) and text(row.title)]
    if not rows:
        raise ValueError("a ticker map that lists no company")
    return rows


def _cik(value: Any) -> str:
    cik = number(value)
    return ten_digits(str(cik)) if cik is not None and 0 < cik < 10**10 else ""


class Companies:
    """The listed companies, to be found by name.

    A legal form is taken off a name only when one that begins with the same word is looked for: taking it off all ten
    thousand would hold up everything else for a third of a second.
    """

    def __init__(self, rows: Iterable[list[str]]) -> None:
        self._by_first_word: dict[str, list[list[str]]] = {}
        for row in rows:
            self._by_first_word.setdefault(_first_word(row[2]), []).append(row)

    def named(self, name: str) -> list[Company]:
        """Return the companies of this name; several when the name does not tell them apart, none when there is none.

        A name written in full tells more companies apart than one without its legal form, so it is compared first;
        what may be the beginning of a name (`Costco`) is one only where no other begins like it.
        """
        near = self._by_first_word.get(_first_word(name))
        if not near:
            return []
        for spelling in (_folded, company_key, _loose_key):
            asked = spelling(name)
            if same := [row for row in near if asked and spelling(row[2]) == asked]:
                return _distinct(same)
        beginning = f"{company_key(name)} "
        longer = _distinct(row for row in near if company_key(row[2]).startswith(beginning))
        return longer if len(longer) == 1 else []


def _distinct(rows: Iterable[list[str]]) -> list[Company]:
    companies: dict[str, Company] = {}
    for cik, ticker, title in rows:
        companies.setdefault(cik, Company(cik, title, ticker))
    return list(companies.values())


# Where a company is registered, or that it is the second of its name: `EXXON MOBIL CORP /DE/`, `TOYOTA MOTOR CORP/`.
# One letter is left alone, because a Danish `A/S` is a legal form.
_REGISTERED = re.compile(r"\s*[/\\]\s*([a-z]{2,4})?\s*[/\\]?\s*$", re.IGNORECASE)
# `Moody's` is `MOODYS` to the SEC, and `U.S. Bancorp` is `US BANCORP`.
_DROPPED = re.compile(r"['\u2019`]|(?<=\b\w)\.(?=\w\b)")
_LOOSE_WORDS = frozenset({"com", "group", "holding", "holdings"})


@lru_cache(maxsize=16384)
def company_key(name: str) -> str:
    """Fold a company's name to what its spellings share, here and in the SEC's lists."""
    name = " ".join(name.split())[:_LONGEST_NAME]  # legal forms are taken off in quadratic time
    key = normal_company(_DROPPED.sub("", _REGISTERED.sub("", name)))
    while (shorter := normal_company(key)) != key:  # `Merck & Co., Inc.` has two legal forms
        key = shorter
    return key.removeprefix("the ")


@lru_cache(maxsize=16384)
def _loose_key(name: str) -> str:
    # People say `Amazon` and `Quell` where the SEC lists `AMAZON COM INC` and `QUELL HOLDINGS`.
    words = company_key(name).split()
    while len(words) > 1 and words[-1] in _LOOSE_WORDS:
        words.pop()
    return " ".join(words)


@lru_cache(maxsize=16384)
def _folded(name: str) -> str:
    return fold(_DROPPED.sub("", name))


def _first_word(name: str) -> str:
    words = _folded(name).removeprefix("the ").split(maxsplit=1)
    return words[0] if words else ""


# --- a filer's submissions ------------------------------------------------------------------------------------------


class Row(msgspec.Struct, frozen=True, array_like=True):
    """One Form 4 or 4/A in a filer's list; `filed` is the day as ISO 8601 has it, so that it sorts."""

    accession: str
    filed: str
    form: str
    document: str

    def path(self, cik: str) -> str:
        """Return where the filing's XML is; `cik` may be the issuer's or an owner's.

        The list names the rendered view, `xslF345X06/form4.xml`; the document is beside that directory. Where it names
        no XML, the complete submission has the XML inside.
        """
        folder = f"/Archives/edgar/data/{int(cik)}/{self.accession.replace('-', '')}"
        view, _, name = self.document.rpartition("/")
        plain = _FILE_NAME.fullmatch(name) and (not view or _VIEW.fullmatch(view))
        return f"{folder}/{name if plain else f'{self.accession}.txt'}"


_VIEW = re.compile(r"xslF345X\d+", re.ASCII)
_FILE_NAME = re.compile(r"[\w.-]+\.xml", re.ASCII | re.IGNORECASE)


class OlderPage(msgspec.Struct, frozen=True, array_like=True):
    """A further page of a filer's list: its file name, and the day of the newest filing on it."""

    name: str
    until: str


class Submissions(msgspec.Struct, frozen=True):
    """What a filer's page lists, as far as it is about Forms 4."""

    name: str
    filings: list[Row] = []
    older: list[OlderPage] = []

    def since(self, day: str) -> list[Row]:
        """Return the filings of this day and later, newest first."""
        return sorted((row for row in self.filings if row.filed >= day), key=newest, reverse=True)

    def older_since(self, day: str) -> list[OlderPage]:
        """Return the further pages that may list filings of this day or later."""
        return [page for page in self.older if page.until >= day]


def newest(row: Row) -> tuple[str, str]:
    """Sort key: filings of one day have the order of their accession numbers."""
    return row.filed, row.accession


class _Arrays(msgspec.Struct):
    accession: list[Any] = msgspec.field(name="accessionNumber")
    filed: list[Any] = msgspec.field(name="filingDate")
    form: list[Any]
    document: list[Any] = msgspec.field(name="primaryDocument")

    def rows(self) -> list[Row]:
        """The Forms 4. Raises ValueError when the arrays are not parallel: a row would mix several filings."""
        said = zip(self.accession, self.filed, self.form, self.document, strict=True)
        rows = [Row(*map(text, filing)) for filing in said if text(filing[2]) in _FORMS]
        return [row for row in rows if _ACCESSION.fullmatch(row.accession) and _is_day(row.filed)]


class _OlderFile(msgspec.Struct):
    name: Any = None
    until: Any = msgspec.field(default=None, name="filingTo")


class _Filings(msgspec.Struct):
    recent: _Arrays
    files: list[Any] | None = None


class _FilerPage(msgspec.Struct):
    filings: _Filings
    name: Any = None


def read_submissions(body: bytes) -> Submissions:
    """Read a filer's page, of an issuer or of a person. Raises ValueError for anything else."""
    page = msgspec.json.decode(body, type=_FilerPage)
    files = (record(file, _OlderFile) for file in page.filings.files or ())
    older = [OlderPage(text(file.name), text(file.until)) for file in files if _OLDER_PAGE.fullmatch(text(file.name))]
    return Submissions(text(page.name)[:_LONGEST_NAME], page.filings.recent.rows(), older)


def read_older_page(body: bytes) -> Submissions:
    """Read a further page of a filer's list, which is the bare arrays. Raises ValueError for anything else."""
    return Submissions("", msgspec.json.decode(body, type=_Arrays).rows())


def _is_day(written: str) -> bool:
    try:
        return date.fromisoformat(written).isoformat() == written
    except ValueError:
        return False


# --- a search -------------------------------------------------------------------------------------------------------


class Hit(msgspec.Struct, frozen=True, array_like=True):
    """One filing that a search found, with everybody it is about: CIK and name, issuer and owners in any order."""

    accession: str
    filers: list[tuple[str, str]]


class Search(msgspec.Struct, frozen=True):
    """One page of a search's hits; `total` counts those of all pages. `gave_up` says why it did not look everywhere."""

    total: int
    hits: list[Hit] = []
    gave_up: str = ""


class _HitSource(msgspec.Struct):
    accession: Any = msgspec.field(default=None, name="adsh")
    form: Any = None
    names: Any = msgspec.field(default=None, name="display_names")


class _Hit(msgspec.Struct):
    source: Any = msgspec.field(default=None, name="_source")


class _Total(msgspec.Struct):
    value: Any = None


class _Shards(msgspec.Struct):
    failed: Any = None


class _Hits(msgspec.Struct):
    hits: list[_Hit]
    total: Any = None


class _Found(msgspec.Struct):
    hits: _Hits
    timed_out: Any = None
    shards: Any = msgspec.field(default=None, name="_shards")


def read_search(body: bytes) -> Search:
    """Read one page of a search. Raises ValueError for anything else."""
    said = msgspec.json.decode(body, type=_Found)
    sources = (record(hit.source, _HitSource) for hit in said.hits.hits)
    hits = [Hit(text(source.accession), _filers(source.names)) for source in sources if text(source.form) in _FORMS]
    total = number(record(said.hits.total, _Total).value)
    return Search(len(said.hits.hits) if total is None else total, hits, _gave_up(said))


def _gave_up(said: _Found) -> str:
    if said.timed_out is True:
        return "the search ran out of time"
    return "the search did not look everywhere" if number(record(said.shards, _Shards).failed) else ""


def _filers(names: Any) -> list[tuple[str, str]]:
    """Take apart names such as `HARBOURLINE ROBOTICS INC  (HBLR)  (CIK 0001843210)`."""
    filers = []
    for said in names if isinstance(names, list) else ():
        name, _, digits = text(said)[-_LONGEST_NAME:].rpartition("(CIK ")
        if name and (cik := _cik(digits.rstrip(") "))):
            filers.append((cik, name.partition("  (")[0].strip()))
    return filers
