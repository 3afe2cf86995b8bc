"""A CIK's page at data.sec.gov: who it is, and its filings in parallel arrays, older ones on a second page."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from sluiceway.sandbox.companies import Company
    from sluiceway.sandbox.filings import Filing
    from sluiceway.sandbox.world import World

RECENT_DAYS = 365
# what an issuer files besides: form, days between two of them
_REGULAR = (("10-Q", 91), ("8-K", 60), ("10-K", 365))
_EMPTY = ("act", "fileNumber", "filmNumber", "items")
_ZERO = ("isXBRL", "isInlineXBRL")
_NOTHING_KNOWN = ("sic", "sicDescription", "ein", "description", "website", "investorWebsite", "category",
                  "stateOfIncorporation", "stateOfIncorporationDescription", "phone", "flags")  # fmt: skip


@dataclass(frozen=True, slots=True)
class Row:
    """One filing as these pages list it."""

    accession: str
    form: str
    filed: date
    reported: date
    document: str
    size: int


def of_issuer(company: Company, filings: Sequence[Filing], world: World) -> dict[str, Any]:
    """Write a listed company's page."""
    rows = _newest_first([*map(_row, filings), *_regular(company, world)])
    recent, older = _split(rows, company.number, world)
    pages = []
    if older:
        pages = [{
            "name": f"CIK{company.cik:010d}-submissions-001.json",
            "filingCount": len(older),
            "filingFrom": str(older[-1].filed),
            "filingTo": str(older[0].filed),
        }]  # fmt: skip
    return {
        **_head(f"{company.cik:010d}", company.legal_name.upper(), "operating"),
        "insiderTransactionForOwnerExists": 0,
        "insiderTransactionForIssuerExists": int(bool(filings)),
        "sic": "3569",
        "website": f"https://{company.domain}",
        "tickers": [ticker for ticker in (company.ticker, company.second_ticker) if ticker],
        "exchanges": [str(company.exchange).title()],
        "fiscalYearEnd": "1231",
        "filings": {"recent": _arrays(recent), "files": pages},
    }


def of_owner(cik: int, filings: Sequence[Filing]) -> dict[str, Any]:
    """Write an insider's page."""
    name = next(owner.name for owner in filings[0].owners if owner.cik == cik)
    return {
        **_head(f"{cik:010d}", name, "other"),
        "insiderTransactionForOwnerExists": 1,
        "insiderTransactionForIssuerExists": 0,
        "tickers": [],
        "exchanges": [],
        "fiscalYearEnd": None,
        "filings": {"recent": _arrays(_newest_first(map(_row, filings))), "files": []},
    }


def older_page(company: Company, filings: Sequence[Filing], world: World) -> dict[str, list[Any]] | None:
    """Write the second page of a company that has one: bare arrays, without anything around them."""
    rows = _newest_first([*map(_row, filings), *_regular(company, world)])
    older = _split(rows, company.number, world)[1]
    return _arrays(older) if older else None


def _head(cik: str, name: str, kind: str) -> dict[str, Any]:
    address = {"street1": None, "street2": None, "city": None, "stateOrCountry": None, "zipCode": None}
    return {
        "cik": cik,
        "entityType": kind,
        **dict.fromkeys(_NOTHING_KNOWN, ""),
        "ownerOrg": None,
        "name": name,
        "lei": None,
        "addresses": {"mailing": address, "business": address},
        "formerNames": [],
    }


def _split(rows: list[Row], number: int, world: World) -> tuple[list[Row], list[Row]]:
    """Part the recent filings from the older ones, for the one company in three whose page is full."""
    if number % 3:
        return rows, []
    since = world.today - timedelta(days=RECENT_DAYS)
    return [row for row in rows if row.filed >= since], [row for row in rows if row.filed < since]


def _newest_first(rows: Iterable[Row]) -> list[Row]:
    return sorted(rows, key=lambda row: (row.filed, row.accession), reverse=True)


def _row(filing: Filing) -> Row:
    document = f"{filing.xsl}/{filing.document}"
    return Row(filing.accession, filing.form, filing.filed, filing.period, document, filing.size)


def _regular(company: Company, world: World) -> list[Row]:
    """List the reports every listed company files; only their rows exist, nobody here reads them."""
    rows: list[Row] = []
    for form, every in _REGULAR:
        for index in range(1, 720 // every + 1):
            filed = world.today - timedelta(days=index * every - company.number % 50)
            accession = f"{company.cik:010d}-{filed:%y}-{1000 + len(rows):06d}"
            rows.append(Row(accession, form, filed, filed, f"{str(company.ticker).lower()}-{filed:%Y%m%d}.htm", 90_000))
    return rows


def _arrays(rows: list[Row]) -> dict[str, list[Any]]:
    forms = [row.form for row in rows]
    return {
        "accessionNumber": [row.accession for row in rows],
        "filingDate": [str(row.filed) for row in rows],
        "reportDate": [str(row.reported) for row in rows],
        "acceptanceDateTime": [f"{row.filed}T20:15:09.000Z" for row in rows],
        "form": forms,
        "core_type": forms,
        "size": [row.size for row in rows],
        "primaryDocument": [row.document for row in rows],
        "primaryDocDescription": [f"FORM {form}" for form in forms],
        **{name: [""] * len(rows) for name in _EMPTY},
        **{name: [0] * len(rows) for name in _ZERO},
    }
