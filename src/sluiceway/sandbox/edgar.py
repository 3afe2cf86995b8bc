"""The SEC's EDGAR, imitated: the ticker map, submissions, filed documents and full-text search, under three hosts.

`/www` stands for www.sec.gov, `/data` for data.sec.gov and `/efts` for efts.sec.gov. All three share one limit.
"""

from __future__ import annotations

import gzip
import re
from functools import lru_cache
from hashlib import md5
from typing import TYPE_CHECKING, Any

from sluiceway.sandbox.companies import COMPANIES
from sluiceway.sandbox.filings import Docket
from sluiceway.sandbox.full_text import FullText
from sluiceway.sandbox.limiter import PerSecond
from sluiceway.sandbox.ownership_xml import complete_submission, form_4, rendered
from sluiceway.sandbox.submissions import of_issuer, of_owner, older_page
from sluiceway.sandbox.wire import Answer, encode, json_answer

if TYPE_CHECKING:
    from sluiceway.sandbox.filings import Filing
    from sluiceway.sandbox.terms import EdgarTerms
    from sluiceway.sandbox.wire import Ask, Bend
    from sluiceway.sandbox.world import World

_DECLARED = re.compile(r"\S+@\S+\.\S+")
_DOCUMENT = re.compile(r"/www/Archives/edgar/data/(\d+)/(\d{18})/(.+)")
_SUBMISSIONS = re.compile(r"/data/submissions/CIK(\d{10})(-submissions-001)?\.json")


class Edgar:
    """The provider `edgar`."""

    name = "edgar"

    def __init__(self, world: World, terms: EdgarTerms) -> None:
        self._world = world
        self._docket = Docket(world)
        self._full_text = FullText(self._docket)
        self._limiter = PerSecond(terms.limit)
        self._ticker_map = lru_cache(maxsize=1)(self._make_ticker_map)
        self._submissions = lru_cache(maxsize=512)(self._make_submissions)

    def credential(self, ask: Ask) -> str:
        """Give whoever the request says it is from; there are no keys."""
        return ask.headers.get("user-agent", "")

    def answer(self, ask: Ask, bend: Bend | None) -> Answer:
        """Decide the answer to one request."""
        if bend == "throttled" or not self._limiter.allows_one_more():
            return _THROTTLED
        if not _DECLARED.search(self.credential(ask)):
            return _UNDECLARED
        if ask.method != "GET":
            return _html(405, "Method Not Allowed")
        if ask.path == "/www/files/company_tickers.json":
            return self._tickers(ask)
        if ask.path == "/efts/LATEST/search-index":
            return json_answer(200, self._full_text.search(ask.query))
        if found := _SUBMISSIONS.fullmatch(ask.path):
            return self._submissions_answer(int(found[1]), older=bool(found[2]))
        return self._archived(ask)

    def refuse(self, status: int, retry_after: int | None) -> Answer:
        """Word a refusal that has nothing to do with the request."""
        headers = () if retry_after is None else (("retry-after", str(retry_after)),)
        page = _html(status, "Request Rate Threshold Exceeded" if status == 429 else "Service Unavailable")
        return Answer(page.status, page.body, page.content_type, headers)

    def _tickers(self, ask: Ask) -> Answer:
        body, packed, tag = self._ticker_map()
        if ask.headers.get("if-none-match") == tag:
            return Answer(304, b"", headers=(("etag", tag),))
        headers = (("etag", tag), ("last-modified", "Mon, 02 Nov 2026 03:10:04 GMT"), ("accept-ranges", "bytes"))
        if "gzip" in ask.headers.get("accept-encoding", ""):
            return Answer(200, packed, headers=(*headers, ("content-encoding", "gzip")))
        return Answer(200, body, headers=headers)

    def _make_ticker_map(self) -> tuple[bytes, bytes, str]:
        companies = map(self._world.companies.get, filter(self._world.companies.is_listed, range(COMPANIES)))
        rows: list[dict[str, Any]] = []
        for company in companies:
            tickers = filter(None, (company.ticker, company.second_ticker))
            rows += (
                {"cik_str": company.cik, "ticker": ticker, "title": _title(company.legal_name)} for ticker in tickers
            )
        body = encode({str(index): row for index, row in enumerate(rows)})
        return body, gzip.compress(body, mtime=0), f'"{md5(body).hexdigest()}-gzip"'  # noqa: S324 - as the SEC does

    def _submissions_answer(self, cik: int, *, older: bool) -> Answer:
        body = self._submissions(cik, older)
        if body is None:
            return _xml_error(404, "NoSuchKey", "The specified key does not exist.")
        return Answer(200, body, headers=(("cache-control", "max-age=0, no-cache, no-store"),))

    def _make_submissions(self, cik: int, older: bool) -> bytes | None:
        issuer = self._world.companies.number_of_cik(cik)
        if issuer is not None:
            company, filings = self._world.companies.get(issuer), self._docket.of_issuer(issuer)
            content = older_page(company, filings, self._world) if older else of_issuer(company, filings, self._world)
        else:
            filings = self._docket.of_owner(cik)
            content = of_owner(cik, filings) if filings and not older else None
        return None if content is None else encode(content)

    def _archived(self, ask: Ask) -> Answer:
        found = _DOCUMENT.fullmatch(ask.path)
        filing = None if found is None else self._docket.by_folder(found[2])
        if found is None or filing is None or not _concerns(filing, int(found[1])):
            return _xml_error(403, "AccessDenied", "Access Denied")
        document = _document(filing, found[1], found[3])
        if document is None:
            return _xml_error(403, "AccessDenied", "Access Denied")
        body, kind = document
        tag = f'"{md5(body).hexdigest()}-gzip"'  # noqa: S324 - as the SEC does
        if ask.headers.get("if-none-match") == tag:
            return Answer(304, b"", headers=(("etag", tag),))
        return Answer(200, body, kind, (("etag", tag), ("accept-ranges", "bytes")))


def _title(name: str) -> str:
    """Write a name as the SEC's list does: mostly in capitals and without punctuation."""
    return name if len(name) % 4 == 0 else name.upper().replace(",", "").replace(".", "")


def _concerns(filing: Filing, cik: int) -> bool:
    return cik == filing.issuer.cik or any(owner.cik == cik for owner in filing.owners)


def _document(filing: Filing, cik: str, name: str) -> tuple[bytes, str] | None:
    """Give one file of a filing's folder, with its content type."""
    if name == filing.document:
        return form_4(filing).encode(), "text/xml"
    if name == f"{filing.xsl}/{filing.document}":
        return rendered(filing).encode(), "text/html"
    if name == f"{filing.accession}.txt":
        return complete_submission(filing).encode(), "text/plain"
    if name == "index.json":
        return encode(_index(filing, cik)), "application/json"
    return None


def _index(filing: Filing, cik: str) -> dict[str, Any]:
    when = f"{filing.filed} 16:15:09"
    files = (
        (f"{filing.accession}-index.html", ""),
        (f"{filing.accession}.txt", ""),
        (filing.document, str(filing.size)),
    )
    items = [{"last-modified": when, "name": name, "type": "text.gif", "size": size} for name, size in files]
    folder = f"/Archives/edgar/data/{cik}"
    return {"directory": {"item": items, "name": f"{folder}/{filing.folder}", "parent-dir": folder}}


def _html(status: int, title: str, text: str = "") -> Answer:
    page = f"<!DOCTYPE html><html><head><title>SEC.gov | {title}</title></head><body><h1>{title}</h1><p>{text}</p>"
    return Answer(status, (page + "</body></html>").encode(), "text/html")


def _xml_error(status: int, code: str, message: str) -> Answer:
    text = f'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{code}</Code><Message>{message}</Message></Error>'
    return Answer(status, text.encode(), "application/xml")


_PADDING = "Please declare your traffic by updating your user agent to include company specific information. " * 18
_THROTTLED = _html(403, "Request Rate Threshold Exceeded", _PADDING)
_UNDECLARED = _html(403, "Your Request Originates from an Undeclared Automated Tool", _PADDING)
