"""EDGAR's full-text search, imitated: filings by the names and the numbers in them, a hundred to a page."""

from __future__ import annotations

from collections import Counter
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from sluiceway.sandbox.companies import COMPANIES, numbers_in
from sluiceway.sandbox.names import fold, indices_in
from sluiceway.sandbox.world import SENIOR_PLACES

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from sluiceway.sandbox.filings import Docket, Filing

PER_PAGE = 100


class FullText:
    """The index over one world's filings."""

    def __init__(self, docket: Docket) -> None:
        self._docket = docket
        self._issuers_of = lru_cache(maxsize=1)(self._index)

    def search(self, query: Mapping[str, str]) -> dict[str, Any]:
        """Answer one search."""
        found = [each for each in self._candidates(query) if _is_wanted(each, query)]
        found.sort(key=lambda each: (each.filed, each.accession), reverse=True)
        start = int(query["from"]) if query.get("from", "").isdecimal() else 0
        return _page(found, start)

    def _candidates(self, query: Mapping[str, str]) -> Iterable[Filing]:
        names, issuers = _read(query.get("q", ""))
        ciks = [int(cik) for cik in query.get("ciks", "").split(",") if cik.strip().isdecimal()]
        if ciks:
            pool = {each.accession: each for cik in ciks for each in self._docket.of_any(cik)}
        else:
            where = issuers or {issuer for name in names for issuer in self._issuers_of().get(name, ())}
            pool = {each.accession: each for issuer in where for each in self._listed(issuer)}
        if query.get("q", "").strip() and not names and not issuers:
            return []
        return [each for each in pool.values() if _mentions(each, names, issuers)]

    def _listed(self, issuer: int) -> list[Filing]:
        return self._docket.of_issuer(issuer) if self._docket.world.companies.is_listed(issuer) else []

    def _index(self) -> dict[int, list[int]]:
        """Note for every leader of a listed company where their name may stand."""
        world, index = self._docket.world, dict[int, list[int]]()
        for company in filter(world.companies.is_listed, range(COMPANIES)):
            for place in range(SENIOR_PLACES):
                index.setdefault(world.name_index_at(company, place), []).append(company)
        return index


def _read(text: str) -> tuple[set[int], set[int]]:
    """Find the names and the companies a query asks for."""
    words = [word for word in map(fold, text.split()) if word]
    return set(indices_in(words)), set(numbers_in(words))


def _mentions(filing: Filing, names: set[int], issuers: set[int]) -> bool:
    if not filing.searchable and names:
        return False
    if issuers and filing.issuer.number not in issuers:
        return False
    # whoever signed for somebody else is in the text too, which makes a hit that is not about them
    return not names or filing.signer_index in names or any(owner.name_index in names for owner in filing.owners)


def _is_wanted(filing: Filing, query: Mapping[str, str]) -> bool:
    forms = [form.strip() for form in query.get("forms", "").split(",") if form.strip()]
    if forms and filing.form not in forms:
        return False
    return query.get("startdt", "") <= filing.filed.isoformat() <= (query.get("enddt") or "9999")


def _page(found: list[Filing], start: int) -> dict[str, Any]:
    hits = [_hit(each) for each in found[start : start + PER_PAGE]]
    entities = Counter(name for hit in hits for name in hit["_source"]["display_names"])
    forms = Counter(hit["_source"]["form"] for hit in hits)
    return {
        "took": 12,
        "timed_out": False,
        "_shards": {"total": 50, "successful": 50, "skipped": 0, "failed": 0},
        "hits": {
            "total": {"value": len(found), "relation": "eq"},
            "max_score": 9.1 if found else None,
            "hits": hits,
        },
        "aggregations": {
            "entity_filter": _buckets(entities),
            "sic_filter": {"buckets": []},
            "biz_states_filter": {"buckets": []},
            "form_filter": _buckets(forms),
        },
    }


def _buckets(counts: Counter[str]) -> dict[str, Any]:
    return {"buckets": [{"key": key, "doc_count": count} for key, count in counts.most_common()]}


def _hit(filing: Filing) -> dict[str, Any]:
    issuer, owners = filing.issuer, filing.owners
    blank = [""] * len(owners)
    return {
        "_index": "edgar_file",
        "_id": f"{filing.accession}:{filing.document}",
        "_score": 9.1,
        "_source": {
            "ciks": [*(f"{owner.cik:010d}" for owner in owners), f"{issuer.cik:010d}"],
            "period_ending": str(filing.period),
            "file_num": [f"001-{40_000 + issuer.number}"],
            "display_names": [
                *(f"{owner.name}  (CIK {owner.cik:010d})" for owner in owners),
                f"{issuer.legal_name}  ({issuer.ticker})  (CIK {issuer.cik:010d})",
            ],
            "xsl": filing.xsl,
            "schema_version": "X0609",
            "sequence": 1,
            "root_forms": ["4"],
            "file_date": str(filing.filed),
            "biz_states": [*blank, issuer.sec_place],
            "sics": ["3569"],
            "form": filing.form,
            "adsh": filing.accession,
            "film_num": [f"26{issuer.number:07d}"],
            "biz_locations": [*blank, f"{issuer.city}, {issuer.sec_place}"],
            "file_type": filing.form,
            "file_description": f"FORM {filing.form}",
            "inc_states": [*blank, issuer.sec_place],
            "items": [],
        },
    }
