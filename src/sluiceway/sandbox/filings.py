"""What the insiders of listed companies have reported to the SEC, as facts and not yet as documents.

Everything a company's leaders filed is worked out together, because a joint filing belongs to several of them. An
accession number names its issuer, so a document is found from its number alone.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING

from sluiceway.sandbox.names import plain
from sluiceway.sandbox.seeded import Draws, Shuffle, fraction, key_of
from sluiceway.sandbox.world import SENIOR_PLACES

if TYPE_CHECKING:
    from sluiceway.sandbox.companies import Company
    from sluiceway.sandbox.world import Person, World

INSIDER_SHARE = 0.6
_PERSON_CIKS, _TRUST_CIKS = 1_600_000, 1_800_000
_CIK_BITS = 17
_HOW_MANY = (1, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 5, 5, 5, 6, 8, 11, 25)
_DOCUMENTS = ("form4.xml", "doc4.xml", "ownership.xml", "wf-form4_1.xml", "edgardoc.xml", "primarydocument.xml")
_OLDEST_DAYS = 1100
_KINDS = ("sale",) * 5 + ("purchase",) * 2 + ("grant",) * 2 + ("exercise",) * 2 + ("gift", "holdings", "option grant")
_AVERAGE = (
    "The price is a weighted average. The shares were traded in several transactions at prices from ${low:.2f} to "
    "${high:.2f}; the reporting person will provide full information upon request."
)


@dataclass(frozen=True, slots=True)
class Owner:
    """One reporting owner: a person, or a trust, whose `name_index` is -1."""

    cik: int
    name: str
    name_index: int
    is_director: bool
    is_officer: bool
    title: str

    @property
    def is_trust(self) -> bool:
        """Say whether this is no person."""
        return self.name_index < 0


@dataclass(frozen=True, slots=True)
class Trade:
    """One line of a Form 4. `price` None means that only the footnote speaks of it."""

    code: str
    day: date
    shares: int
    price: float | None
    acquired: bool
    after: int
    footnote: str = ""
    is_derivative: bool = False


@dataclass(frozen=True, slots=True)
class Filing:
    """One Form 4 or 4/A."""

    issuer: Company
    accession: str
    form: str
    filed: date
    period: date
    owners: tuple[Owner, ...]
    trades: tuple[Trade, ...]
    held: int
    document: str
    signer: str
    signer_index: int
    planned: bool
    original: date | None = None
    searchable: bool = True
    quirk: int = 0

    @property
    def folder(self) -> str:
        """The accession number as it stands in paths."""
        return self.accession.replace("-", "")

    @property
    def xsl(self) -> str:
        """The style sheet of the year it was filed in."""
        year = self.filed.year
        return "xslF345X03" if year < 2023 else "xslF345X05" if year < 2026 else "xslF345X06"

    @property
    def size(self) -> int:
        """About how many bytes the document has."""
        return 2600 + 1200 * len(self.trades)


class Docket:
    """All ownership filings of one world."""

    def __init__(self, world: World) -> None:
        self.world = world
        self._key = key_of(world.seed, "filings")
        self._ciks = Shuffle(key_of(world.seed, "owner cik"), _CIK_BITS)
        self.of_issuer = lru_cache(maxsize=512)(self._of_issuer)

    def is_insider(self, company: int, place: int) -> bool:
        """Say whether whoever holds this place has filed anything."""
        if place >= SENIOR_PLACES or not self.world.companies.is_listed(company):
            return False
        return fraction(self._key ^ (company << 8 | place)) < INSIDER_SHARE

    def cik_of(self, company: int, place: int, *, trust: bool = False) -> int:
        """Give the number the SEC knows an insider, or an insider's trust, by."""
        return (_TRUST_CIKS if trust else _PERSON_CIKS) + self._ciks.forward(company << 3 | place)

    def of_owner(self, cik: int) -> list[Filing]:
        """List what an owner has filed, newest first."""
        base = _TRUST_CIKS if cik >= _TRUST_CIKS else _PERSON_CIKS
        if not base <= cik < base + (1 << _CIK_BITS):
            return []
        company = self._ciks.back(cik - base) >> 3
        if not self.world.companies.is_listed(company):
            return []
        return [each for each in self.of_issuer(company) if any(owner.cik == cik for owner in each.owners)]

    def of_any(self, cik: int) -> list[Filing]:
        """List what concerns a CIK, be it an issuer's or an owner's."""
        issuer = self.world.companies.number_of_cik(cik)
        return self.of_owner(cik) if issuer is None else self.of_issuer(issuer)

    def by_folder(self, folder: str) -> Filing | None:
        """Find a filing by its accession number without dashes."""
        issuer = self.world.companies.number_of_cik(int(folder[:10])) if folder.isdecimal() else None
        if issuer is None:
            return None
        return next((each for each in self.of_issuer(issuer) if each.folder == folder), None)

    def _of_issuer(self, company: int) -> list[Filing]:
        """List everything reported about an issuer, newest first."""
        places = [place for place in range(SENIOR_PLACES) if self.is_insider(company, place)]
        filings = [
            each for place in places for each in _History(self, self.world.at(company, place), self._key).filings
        ]
        return sorted(filings, key=lambda each: (each.filed, each.accession), reverse=True)

    def signer_for(self, person: Person) -> Person:
        """Name the colleague who signs for an insider who does not sign in person."""
        return self.world.at(person.company.number, (person.place + 3) % SENIOR_PLACES)


class _History:
    """One insider's filings, oldest first, with a holding that goes up and down as they trade."""

    def __init__(self, docket: Docket, person: Person, key: int) -> None:
        self._docket = docket
        self._person = person
        self._company = person.company
        self._draw = Draws(key_of(key, self._company.number, person.place))
        self._held = self._draw.between(4, 900) * 1000
        self._base_price = self._draw.between(600, 41_000) / 100
        self._owners = self._make_owners()
        self._searchable = not self._draw.chance(0.1)
        days = sorted((self._draw.between(4, _OLDEST_DAYS) for _ in range(self._draw.pick(_HOW_MANY))), reverse=True)
        self.filings: list[Filing] = []
        for ago in days:
            self.filings.append(self._next(_weekday(docket.world.today - timedelta(days=ago))))

    def _next(self, filed: date) -> Filing:
        last = self.filings[-1] if self.filings else None
        if last is not None and last.form == "4" and last.trades and self._draw.chance(0.12):
            return self._amended(last, filed)
        period = _weekday(filed - timedelta(days=self._draw.between(1, 2)))
        kind = self._draw.pick(_KINDS)
        trades = tuple(self._trades(kind, period))
        signer = self._docket.signer_for(self._person) if self._draw.chance(0.2) else self._person
        return Filing(
            issuer=self._company,
            accession=self._accession(filed),
            form="4",
            filed=filed,
            period=period,
            owners=self._owners,
            trades=trades,
            held=self._held,
            document=self._draw.pick(_DOCUMENTS),
            signer=signer.name,
            signer_index=signer.name_index,
            planned=kind == "sale" and self._draw.chance(0.5),
            searchable=self._searchable,
            quirk=self._draw.below(12),
        )

    def _amended(self, last: Filing, filed: date) -> Filing:
        """Correct the filing before: all its lines again, the first with another count."""
        first = replace(last.trades[0], shares=last.trades[0].shares + self._draw.between(1, 90))
        return replace(
            last,
            accession=self._accession(filed),
            form="4/A",
            filed=filed,
            original=last.filed,
            trades=(first, *last.trades[1:]),
        )

    def _accession(self, filed: date) -> str:
        serial = self._person.place * 32 + len(self.filings) + 1
        return f"{self._company.cik:010d}-{filed:%y}-{serial:06d}"

    def _make_owners(self) -> tuple[Owner, ...]:
        company, person = self._company.number, self._person
        me = _owner(person, self._docket.cik_of(company, person.place))
        other, luck = (person.place + 1) % SENIOR_PLACES, self._draw.below(20)
        if luck == 0 and self._docket.is_insider(company, other):
            return (me, _owner(self._docket.world.at(company, other), self._docket.cik_of(company, other)))
        if luck > 2:
            return (me,)
        name = f"{plain(person.last_name)} Family Trust"
        cik = self._docket.cik_of(company, person.place, trust=True)
        trust = Owner(cik, name, -1, is_director=False, is_officer=False, title="")
        return (me, trust)

    def _trades(self, kind: str, day: date) -> list[Trade]:
        match kind:
            case "sale":
                return [self._trade("S", day) for _ in range(self._draw.between(1, 4))]
            case "purchase":
                return [self._trade("P", day) for _ in range(self._draw.between(1, 2))]
            case "grant":
                return [self._trade("A", day, price=0.0)]
            case "gift":
                return [self._trade("G", day, price=0.0)]
            case "exercise":
                strike = round(self._base_price * 0.4, 2)
                option = self._trade("M", day, price=strike, is_derivative=True)
                return [self._trade("M", day, price=strike, shares=option.shares), self._trade("F", day), option]
            case "option grant":
                return [self._trade("A", day, price=round(self._price(), 2), is_derivative=True)]
            case _:
                return []

    def _trade(
        self, code: str, day: date, *, price: float | None = None, shares: int = 0, is_derivative: bool = False
    ) -> Trade:
        acquired = code in "PA" or (code == "M" and not is_derivative)
        shares = shares or self._draw.between(1, 240) * self._draw.pick((5, 25, 100))
        if not acquired:
            shares = min(shares, max(1, self._held // 3))
        if not is_derivative:
            self._held += shares if acquired else -shares
        footnote = ""
        if price is None:
            price, footnote = self._traded_price()
        return Trade(code, day, shares, price, acquired, self._held, footnote, is_derivative)

    def _traded_price(self) -> tuple[float | None, str]:
        """Draw a market price: mostly a number, sometimes with a footnote, sometimes the footnote alone."""
        price = self._price()
        luck = self._draw.below(12)
        if luck > 2:
            return price, ""
        return (price if luck else None), _AVERAGE.format(low=price * 0.98, high=price * 1.02)

    def _price(self) -> float:
        return round(self._base_price * self._draw.between(800, 1250) / 1000, 4)


def _owner(person: Person, cik: int) -> Owner:
    # last name first, as the SEC files people; a few write their own name their own way
    name = person.name if cik % 17 == 0 else f"{person.last_name} {person.first_name}"
    director = person.title in ("Board Director", "Founder and Chair", "Chief Executive Officer")
    officer = person.title != "Board Director"
    return Owner(cik, plain(name), person.name_index, director, officer, person.title if officer else "")


def _weekday(day: date) -> date:
    return day - timedelta(days=max(0, day.weekday() - 4))
