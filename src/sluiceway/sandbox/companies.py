"""The companies of the sandbox's world: 16,384 of them, a quarter listed on an exchange.

A company's number is also its name (a first word and a trade), so a name or a domain leads straight back to the
company. What the seed decides is everything else about it.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sluiceway.sandbox.names import fold
from sluiceway.sandbox.seeded import Draws, Shuffle, fraction, key_of, mix

if TYPE_CHECKING:
    from collections.abc import Iterator

_WORD_ROOTS = """
Alder Brix Calla Dova Elmo Fenni Galla Harbo Ister Jora Kesto Lumi Marro Novi Orra Pello Quilla Rava Solla Tarno
Undi Vella Wexi Yarro Zello Brando Corvi Dreyo Gryna Holla Kivi Mossa
""".split()
_WORD_ENDINGS = "crest dene fall grove haven keld lane mont nor point quay rill stone tor vale wick".split()
TRADES = (
    ("Analytics", "information services"), ("Automation", "industrial automation"), ("Bank", "banking"),
    ("Biologics", "biotechnology"), ("Capital", "investment management"), ("Chemicals", "chemicals"),
    ("Cloud", "internet"), ("Components", "electrical manufacturing"), ("Dental", "medical devices"),
    ("Energy", "renewables & environment"), ("Foods", "food production"), ("Freight", "logistics"),
    ("Genomics", "biotechnology"), ("Glass", "glass & ceramics"), ("Health", "hospital & health care"),
    ("Homes", "real estate"), ("Instruments", "medical devices"), ("Insurance", "insurance"),
    ("Labs", "research"), ("Marine", "maritime"), ("Materials", "chemicals"), ("Media", "media production"),
    ("Mining", "mining & metals"), ("Networks", "telecommunications"), ("Optics", "electronics"),
    ("Outdoor", "consumer goods"), ("Paper", "paper & forest products"), ("Robotics", "industrial automation"),
    ("Semiconductor", "semiconductors"), ("Software", "computer software"), ("Systems", "computer software"),
    ("Water", "utilities"),
)  # fmt: skip
COMPANY_BITS = 14
COMPANIES = 1 << COMPANY_BITS
_ENDING_BITS, _TRADE_BITS = 4, 5

# city, state, country, two-letter code, the SEC's code for it
_PLACES = (
    ("Austin", "Texas", "United States", "US", "TX"), ("Boston", "Massachusetts", "United States", "US", "MA"),
    ("Chicago", "Illinois", "United States", "US", "IL"), ("Denver", "Colorado", "United States", "US", "CO"),
    ("New York", "New York", "United States", "US", "NY"), ("Seattle", "Washington", "United States", "US", "WA"),
    ("San Jose", "California", "United States", "US", "CA"), ("Raleigh", "North Carolina", "United States", "US", "NC"),
    ("Toronto", "Ontario", "Canada", "CA", "A6"), ("London", "England", "United Kingdom", "GB", "X0"),
    ("Rotterdam", "South Holland", "Netherlands", "NL", "P7"), ("Munich", "Bavaria", "Germany", "DE", "2M"),
    ("Zürich", "Zurich", "Switzerland", "CH", "V8"), ("Gothenburg", "Västra Götaland", "Sweden", "SE", "V7"),
    ("Lyon", "Auvergne-Rhône-Alpes", "France", "FR", "I0"), ("Singapore", "", "Singapore", "SG", "U0"),
)  # fmt: skip
_FORMS_BY_COUNTRY = {
    "US": ("Inc.", "Inc", "LLC", "Corp.", "Holdings, Inc."), "CA": ("Ltd.", "Inc."), "GB": ("Ltd", "PLC"),
    "NL": ("B.V.", "N.V."), "DE": ("GmbH", "AG"), "CH": ("AG", "SA"), "SE": ("AB",), "FR": ("SAS", "S.A."),
    "SG": ("Pte. Ltd.",),
}  # fmt: skip
_LISTED_FORMS = {
    "US": ("Inc.", "Corp.", "Holdings, Inc."), "CA": ("Ltd.", "Inc."), "GB": ("PLC",), "NL": ("N.V.",), "DE": ("AG",),
    "CH": ("AG",), "SE": ("AB",), "FR": ("S.A.",), "SG": ("Ltd.",),
}  # fmt: skip
_LEGAL_WORDS = {
    "inc", "llc", "ltd", "gmbh", "corp", "plc", "ag", "sa", "sas", "ab", "bv", "nv", "pte", "holdings", "co", "company",
    "corporation", "incorporated", "limited",
}  # fmt: skip
LISTED_SHARE = 0.25
_STAGES = ("Seed", "Series A", "Series B", "Series C", "Series D", "Private Equity")


@dataclass(frozen=True, slots=True)
class Company:
    """One employer; money in whole US dollars."""

    number: int
    name: str
    legal_name: str
    domain: str
    industry: str
    employees: int
    revenue: int
    founded: int
    city: str
    state: str
    country: str
    country_code: str
    sec_place: str
    cik: int | None
    ticker: str | None
    second_ticker: str | None
    exchange: str | None
    funding: int | None
    funding_stage: str | None


def company_key(name: str) -> str:
    """Reduce a company's name to what its spellings share: no legal form, no punctuation."""
    words = [fold(word) for word in name.replace(",", " ").split()]
    while len(words) > 1 and words[-1] in _LEGAL_WORDS:
        words.pop()
    return "".join(words)


def _words_of(number: int) -> tuple[str, str]:
    word, trade = number >> _TRADE_BITS, number & ((1 << _TRADE_BITS) - 1)
    root, ending = word >> _ENDING_BITS, word & ((1 << _ENDING_BITS) - 1)
    return _WORD_ROOTS[root] + _WORD_ENDINGS[ending], TRADES[trade][0]


_BY_KEY = {fold("".join(_words_of(number))): number for number in range(COMPANIES)}


def number_of(name: str) -> int | None:
    """Find a company by its name in any spelling."""
    return _BY_KEY.get(company_key(name))


def number_of_domain(domain: str) -> int | None:
    """Find a company by its domain, with or without `www.` and the like in front."""
    host = domain.lower().rpartition("//")[2].partition("/")[0].removeprefix("www.").lstrip("@")
    label, dot, rest = host.rpartition(".example")
    if not dot or rest:
        return None
    number = _BY_KEY.get(fold(label))
    return number if number is not None and domain_of(number) == host else None


def numbers_in(words: list[str]) -> Iterator[int]:
    """Find every company written in a text, given as its folded words."""
    for one, other in itertools.pairwise([*words, ""]):
        for key in (one + other, one, one.removesuffix("example")):
            if (number := _BY_KEY.get(key)) is not None:
                yield number
                break


def domain_of(number: int) -> str:
    """Write a company's domain."""
    word, trade = _words_of(number)
    joint = "-" if number % 3 == 0 else ""
    return f"{word}{joint}{trade}.example".lower()


class Registry:
    """Every company of one seed, worked out when asked for."""

    def __init__(self, seed: int) -> None:
        self._key = key_of(seed, "company")
        self._ciks = Shuffle(key_of(seed, "issuer cik"), 18)
        self._tickers = Shuffle(key_of(seed, "ticker"), COMPANY_BITS)
        self._known: dict[int, Company] = {}

    def is_listed(self, number: int) -> bool:
        """Say whether a company is on an exchange, and so on EDGAR."""
        return fraction(self._key ^ number) < LISTED_SHARE

    def cik_of(self, number: int) -> int:
        """Give the number the SEC would know a company by."""
        return 1_000_000 + self._ciks.forward(number)

    def number_of_cik(self, cik: int) -> int | None:
        """Find the listed company with this CIK."""
        if not 1_000_000 <= cik < 1_000_000 + (1 << 18):
            return None
        number = self._ciks.back(cik - 1_000_000)
        return number if number < COMPANIES and self.is_listed(number) else None

    def ticker_of(self, number: int) -> str:
        """Give a company's ticker: its initial and three letters nobody else has."""
        rest = self._tickers.forward(number)
        letters = (rest // 676, rest // 26 % 26, rest % 26)
        return _words_of(number)[0][0] + "".join(chr(65 + letter) for letter in letters)

    def get(self, number: int) -> Company:
        """Give everything there is to know about a company."""
        found = self._known.get(number)
        if found is None:
            found = self._known[number] = self._make(number)
        return found

    def _make(self, number: int) -> Company:
        draw = Draws(mix(self._key ^ (number << 1)))
        listed = self.is_listed(number)
        word, trade = _words_of(number)
        city, state, country, code, sec_place = draw.pick(_PLACES)
        form = draw.pick((_LISTED_FORMS if listed else _FORMS_BY_COUNTRY)[code])
        employees = _round(draw.between(20, 900) * draw.pick((1, 1, 4, 20) if listed else (1, 1, 1, 4)))
        funding = None if listed else _round(draw.between(1, 180)) * 1_000_000
        ticker = self.ticker_of(number) if listed else None
        return Company(
            number=number,
            name=f"{word} {trade}",
            legal_name=f"{word} {trade} {form}",
            domain=domain_of(number),
            industry=TRADES[number & ((1 << _TRADE_BITS) - 1)][1],
            employees=employees,
            revenue=_round(employees * draw.between(70, 420)) * 1_000,
            founded=draw.between(1952, 2021),
            city=city,
            state=state,
            country=country,
            country_code=code,
            sec_place=sec_place,
            cik=self.cik_of(number) if listed else None,
            ticker=ticker,
            second_ticker=f"{ticker}-B" if ticker and draw.chance(0.04) else None,
            exchange=draw.pick(("nasdaq", "nyse")) if listed else None,
            funding=funding,
            funding_stage=draw.pick(_STAGES) if funding else None,
        )


def _round(number: int) -> int:
    """Keep two or three leading digits, as published figures do."""
    size = int(10 ** max(0, len(str(number)) - 3))
    return number // size * size
