"""A company is found in the SEC's list under the name that people know it by, and quickly."""

from __future__ import annotations

import time

import msgspec
import pytest
from form4_documents import SAMPLES

from sluiceway.sources._edgar_pages import Companies, read_ticker_map


@pytest.mark.parametrize(
    ("listed", "asked"),
    [
        ("EXXON MOBIL CORP /DE/", "Exxon Mobil"),
        ("COSTCO WHOLESALE CORP /NEW", "Costco Wholesale Corporation"),
        ("TOYOTA MOTOR CORP/", "Toyota Motor"),
        ("QUALCOMM INC/DE", "Qualcomm"),
        ("US BANCORP \\DE\\", "U.S. Bancorp"),
        ("VERTEX PHARMACEUTICALS INC / MA", "Vertex Pharmaceuticals"),
        ("Anheuser-Busch InBev SA/NV", "Anheuser-Busch InBev"),
        ("Merck & Co., Inc.", "Merck"),
        ("AMAZON COM INC", "Amazon"),
        ("AMAZON COM INC", "amazon.com"),
        ("MCDONALDS CORP", "McDonald’s"),
        ("COCA COLA CO", "The Coca-Cola Company"),
        ("Uber Technologies, Inc", "Uber"),
        ("NOVO NORDISK A S", "Novo Nordisk A/S"),
        ("L'Oréal S.A.", "LOREAL SA"),
    ],
)
def test_a_company_is_found_as_the_sec_writes_it(listed: str, asked: str) -> None:
    rows = [["0000000007", "X", listed], ["0000000008", "Y", "QUELL HOLDINGS"]]
    assert [company.cik for company in Companies(rows).named(asked)] == ["0000000007"]


def test_what_may_be_the_beginning_of_several_names_is_none_of_them() -> None:
    rows = [["0000000007", "X", "DELTA AIR LINES"], ["0000000008", "Y", "DELTA APPAREL"]]
    assert Companies(rows).named("Delta") == []


@pytest.mark.parametrize("nameless", ["", "///", "The", "王"])
def test_a_name_without_a_word_is_no_companys(nameless: str) -> None:
    assert Companies([["0000000007", "X", "DELTA AIR LINES"], ["0000000008", "Y", "/"]]).named(nameless) == []


@pytest.mark.parametrize("endless", ["x" + " " * 100_000 + "y", "/" * 50_000 + "x", "a." * 50_000])
def test_a_name_without_end_is_told_from_others_at_once(endless: str) -> None:
    started = time.monotonic()
    assert Companies([["0000000007", "X", "X"], ["0000000008", "Y", endless]]).named(endless)
    assert time.monotonic() - started < 2


def test_each_real_company_is_found_by_the_name_it_is_listed_under() -> None:
    if not SAMPLES.exists():
        pytest.skip("the real list of companies (shared/data/sec beside the repository) is not here")
    rows = msgspec.convert(read_ticker_map((SAMPLES / "company_tickers.json").read_bytes()), list[list[str]])
    companies = Companies(rows)
    assert len(rows) == 9610
    for cik, _, title in rows[::7]:
        assert cik in {company.cik for company in companies.named(title)}
