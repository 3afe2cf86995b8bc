"""The grounding rule: any figure of the input in any spelling is grounded, and any other is reported."""

from __future__ import annotations

import re
import time
from datetime import date
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from sluiceway.sources._grounding import ungrounded

steady = settings(deadline=None)  # a busy machine is no reason to fail

MATERIAL: dict[str, Any] = {
    "person": {"name": "Ines Okafor-Lind", "domain": "harbourline.example"},
    "findings": {
        "apollo": {"revenue_usd": 96_000_000.0, "employees": 840, "stake": 0.125},
        "edgar": {"insider_trades": [{"date": "2022-03-02", "shares": "12,000", "price": 41.5}] * 7},
        "exa": {
            "articles": [
                {
                    "title": "Raised $41M in May 2021; sales grew 18 % in Q3 2025",
                    "url": "https://harbourline.example/news/cfo?id=5512",
                    "highlight": "Write to press@harbourline.example. In the 1990s she led twenty-five people.",
                }
            ]
        },
    },
}


GROUNDED = """
96M; $96 million; 96,000,000; 96 000 000; 96\u202f000\u202f000; 96'000'000; 96’000’000; 96.000.000; $96.0M
EUR 96m; US$96M; USD96M; £96mn; a 96-million-dollar company; ninety-six million; −96M; 840 people; 840.0; 12.5%
12.5 percent; 12,5 %; 12000 shares; 12 thousand; $41.50; 41.5; 18%; eighteen percent; 41 million; 25 people
seven trades; 7 trades; the seventh
2 March 2022; 2nd of March 2022; March 2, 2022; Mar. 2nd, 2022; 02-Mar-2022; 3/2/2022; 02.03.2022; 3/2/22; 2022/03/02
2022-03-02T10:00:00.000Z; 2022-03-02-05:00; 2 march 2022; March 2022; 2022-03; on 2 March; in 2022; Q1 2022; Q1
first quarter of 2022; Q1 FY22; FY2022; the 2020s; the 1990s; in 1990; May 2021; Q3 2025; third quarter of 2025
one of the first, second to none; a third-party audit; millions of dollars, half of it, several times
Form 4 and a 10-K under Rule 10b5-1; B2B and Web3; No figures at all.; https://harbourline.example/news/cfo?id=5512.
(www.harbourline.example); press@harbourline.example; Press@Harbourline.example
"""


@pytest.mark.parametrize("text", re.split(r"[;\n]\s*", GROUNDED.strip()))
def test_a_figure_of_the_input_is_grounded_in_any_spelling(text: str) -> None:
    assert ungrounded(text, MATERIAL) == []


@pytest.mark.parametrize(
    ("text", "reported"),
    [
        ("a fortune of $731 million", ["$731 million"]),
        ("97M", ["97M"]),
        ("revenue of $96", ["$96"]),
        ("$96.4 million", ["$96.4 million"]),
        ("$96 billion", ["$96 billion"]),
        ("841 people", ["841"]),
        ("13%", ["13%"]),
        ("2 trades", ["2"]),
        ("two trades", ["two"]),
        ("$7", ["$7"]),
        ("7 million", ["7 million"]),
        ("seven percent", ["seven percent"]),
        ("seven dollars", ["seven dollars"]),
        ("3 March 2022", ["3 March 2022"]),
        ("2 March 2023", ["2 March 2023"]),
        ("April 2022", ["April 2022"]),
        ("1 May 2021", ["1 May 2021"]),
        ("in 2019", ["2019"]),
        ("Q2 2022", ["Q2 2022"]),
        ("Q3 2022", ["Q3 2022"]),
        ("the 1980s", ["1980s"]),
        ("between 2019 and 2022", ["2019"]),
        ("a million, a seven-figure sum", ["a million"]),
        ("the third", ["third"]),
        ("99 and 98 and 99", ["99", "98"]),
        ("with id 5512", ["5512"]),
        ("https://elsewhere.example/news", ["https://elsewhere.example/news"]),
        ("https://harbourline.example/news/other", ["https://harbourline.example/news/other"]),
        ("ess@harbourline.example", ["ess@harbourline.example"]),
    ],
)
def test_a_figure_that_is_not_in_the_input_is_reported_as_written(text: str, reported: list[str]) -> None:
    assert ungrounded(text, MATERIAL) == reported


def shortest(number: Decimal) -> str:
    return f"{number.normalize():f}"


SPELLINGS = {
    "plain": str,
    "with a fraction of nothing": "{}.0".format,
    "by thousands": "{:,}".format,
    "in dollars": "${:,}".format,
    "with a code": "EUR {}".format,
    "by narrow spaces": lambda n: f"{n:,}".replace(",", "\u202f"),
    "by apostrophes": lambda n: f"{n:,}".replace(",", "'"),
    "in thousands": lambda n: f"{shortest(Decimal(n) / 10**3)}k",
    "in millions": lambda n: f"{shortest(Decimal(n) / 10**6)} million",
    "in M": lambda n: f"${shortest(Decimal(n) / 10**6)}M",
    "in billions": lambda n: f"{shortest(Decimal(n) / 10**9)}bn",
}
spellings = st.sampled_from(sorted(SPELLINGS))
amounts = st.integers(2, 10**13) | st.integers(1, 9_999).map(lambda n: n * 10**6)


@steady
@given(amounts, spellings, spellings)
def test_two_spellings_of_an_amount_are_one_figure(amount: int, one: str, other: str) -> None:
    text = f"It is put at {SPELLINGS[one](amount)}."
    assert ungrounded(text, {"value": amount}) == []
    assert ungrounded(text, {"note": f"About {SPELLINGS[other](amount)} in all."}) == []


@steady
@given(st.sets(amounts, max_size=5), amounts, spellings)
def test_an_amount_that_is_not_there_is_reported_in_any_spelling(held: set[int], amount: int, spelling: str) -> None:
    assume(amount not in held)
    assume(spelling != "by narrow spaces")  # `12 840` may be two figures, and both of them may be there
    written = SPELLINGS[spelling](amount)
    assert ungrounded(f"It is put at {written}.", {f"value_{n}": value for n, value in enumerate(held)}) == [written]


DATES = {
    "ISO": "{0:%Y-%m-%d}",
    "with a time": "{0:%Y-%m-%d}T00:00:00.000Z",
    "with slashes": "{0:%Y/%m/%d}",
    "day first": "{0.day} {0:%B} {0.year}",
    "month first": "{0:%B} {0.day}, {0.year}",
    "short": "{0:%b} {0.day} {0.year}",
    "hyphens": "{0.day:02}-{0:%b}-{0.year}",
    "American": "{0.month}/{0.day}/{0.year}",
    "European": "{0.day:02}.{0.month:02}.{0.year}",
}
UNMISTAKABLE = sorted(DATES.keys() - {"American", "European"})
days = st.dates(date(1900, 1, 1), date(2199, 12, 31))


@steady
@given(days, st.sampled_from(sorted(DATES)), st.sampled_from(sorted(DATES)))
def test_two_spellings_of_a_date_are_one_figure(day: date, one: str, other: str) -> None:
    assert ungrounded(f"It was sold on {DATES[one].format(day)}.", [DATES[other].format(day)]) == []


@steady
@given(days, st.sampled_from(UNMISTAKABLE))
def test_a_coarser_date_is_part_of_a_finer_one(day: date, spelling: str) -> None:
    coarser = (f"{day:%B} {day.year}", f"{day.year}", f"Q{(day.month + 2) // 3} {day.year}", f"{day.year // 10}0s")
    assert ungrounded("; ".join(coarser), {"date": DATES[spelling].format(day)}) == []


@steady
@given(days, days, st.sampled_from(UNMISTAKABLE), st.sampled_from(UNMISTAKABLE))
def test_another_date_is_reported(held: date, day: date, one: str, other: str) -> None:
    assume(held != day)
    written = DATES[one].format(day)
    assert ungrounded(f"It was sold on {written}.", {"date": DATES[other].format(held)}) == [written]


@steady
@given(st.decimals(0, 100, places=2), st.sampled_from(["%", " %", " percent", " per cent"]))
def test_a_percentage_is_grounded_by_its_number_and_by_its_fraction(share: Decimal, sign: str) -> None:
    text = f"She holds {share}{sign} of it."
    assert ungrounded(text, {"percent": float(share)}) == []
    assert ungrounded(text, {"share": shortest(share / 100)}) == []


FIGURES = st.text("0123456789.,'/-: $€%|@QMKbth\n") | st.lists(
    st.sampled_from(
        "12 March 2022 Q3 third quarter two million ninety - six 3,5 % $ FY 25 a@b.cd www.x.yz the 1990s May".split()
    )
).map(" ".join)


@steady
@given(st.text() | FIGURES)
def test_whatever_the_input_says_may_be_said_again(text: str) -> None:
    assert ungrounded(text, text) == []
    assert ungrounded(text, {"findings": [{"a": {text: None}}, None, True]}) == []


@steady
@given(st.text() | FIGURES, st.text() | FIGURES)
def test_what_is_reported_stands_in_the_text(text: str, material: str) -> None:
    for figure in ungrounded(text, [material]):
        assert figure == figure.strip()
        assert figure


@pytest.mark.parametrize(
    "piece", ["a", "a.", "9", "1,", "1 ", "@", "a@", "12 March ", "two ", "1-", "www.", "1,111", "$", " "]
)
def test_a_long_text_is_judged_in_a_moment_whatever_it_repeats(piece: str) -> None:
    text = piece * (24_000 // len(piece))
    begin = time.process_time()
    assert ungrounded(text, text) == []
    assert time.process_time() - begin < 2
