"""A world of people whom every provider of the sandbox agrees about.

A person is a number, and nobody is held in memory: the number says which company and which place in it, the place says
which name (each name at most once in a company), and all of that can be read backwards. So an e-mail address, a
LinkedIn URL, or a name with an employer leads to the person in the same time whether a list has ten rows or ten
million.

The numbering goes round the companies two people at a time, most senior first: a short list has many companies and
many executives, a long one fills up with staff, as real lists do.
"""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import lru_cache
from typing import TYPE_CHECKING

from sluiceway.sandbox.companies import COMPANIES, COMPANY_BITS, Registry, number_of, number_of_domain, numbers_in
from sluiceway.sandbox.names import NAME_BITS, fold, index_of, index_of_full, indices_in, name_at, plain
from sluiceway.sandbox.seeded import Draws, Shuffle, key_of, mix

if TYPE_CHECKING:
    from sluiceway.sandbox.companies import Company

PLACES_IN_A_COMPANY = 4096
POPULATION = COMPANIES * PLACES_IN_A_COMPANY
SENIOR_PLACES = 8
_NUMBER_BITS = COMPANY_BITS + NAME_BITS

# title, seniority, department, function
_SENIOR = (
    ("Chief Executive Officer", "c_suite", "c_suite", "entrepreneurship"),
    ("Chief Financial Officer", "c_suite", "c_suite", "finance"),
    ("Chief Operating Officer", "c_suite", "c_suite", "operations"),
    ("Chief Technology Officer", "c_suite", "c_suite", "engineering"),
    ("General Counsel", "c_suite", "master_legal", "legal"),
    ("Board Director", "director", "c_suite", "entrepreneurship"),
    ("Executive Vice President, Sales", "vp", "master_sales", "sales"),
    ("Founder and Chair", "founder", "c_suite", "entrepreneurship"),
)
_STAFF = (
    ("Vice President, Finance", "vp", "master_finance", "finance"),
    ("Vice President of Engineering", "vp", "master_engineering_technical", "engineering"),
    ("Director of Procurement", "director", "master_operations", "operations"),
    ("Director, Investor Relations", "director", "master_finance", "finance"),
    ("Head of Partnerships", "head", "master_sales", "sales"),
    ("Head of Data", "head", "master_engineering_technical", "engineering"),
    ("Senior Account Executive", "senior", "master_sales", "sales"),
    ("Senior Software Engineer", "senior", "master_engineering_technical", "engineering"),
    ("Plant Manager", "manager", "master_operations", "operations"),
    ("Marketing Manager", "manager", "master_marketing", "marketing"),
    ("Legal Counsel", "senior", "master_legal", "legal"),
    ("Product Designer", "entry", "product_management", "design"),
)
_SCHOOLS = ("Aldermoor", "Castle Vane", "Fennimore", "Greywater", "Lowland", "Saint Osric", "Thornbury", "West Quay")
_FIELDS = ("Econometrics", "Law", "Mechanical Engineering", "History", "Computer Science", "Chemistry", "Finance")
_EMAIL_FORMS = ("{first}.{last}", "{first}_{last}", "{last}.{first}", "{first}.{last}")
_EMAIL_STATUSES = ("verified",) * 16 + ("extrapolated",) * 3 + ("unavailable",)
_STRIDE = 7919  # each time round, the companies come in another order
_SLUG = re.compile(r"(?:^|/)in/([^/?#]+)")


@dataclass(frozen=True, slots=True)
class Person:
    """One person, and what each provider may know of them."""

    number: int
    place: int
    name_index: int
    first_name: str
    last_name: str
    company: Company
    title: str
    seniority: str
    department: str
    function: str
    email: str
    email_status: str
    personal_email: str | None
    phone: str | None
    slug: str
    since: date
    school: str
    field_of_study: str
    followers: int
    net_worth: int
    in_apollo: bool
    in_contactout: bool
    in_exa: bool
    shares_a_name: bool

    @property
    def name(self) -> str:
        """The full name as the person writes it."""
        return f"{self.first_name} {self.last_name}"

    @property
    def mark(self) -> str:
        """The eight hexadecimal digits that tell this person from all others."""
        return self.slug[-8:]

    @property
    def linkedin_url(self) -> str:
        """The profile's address."""
        return f"https://www.linkedin.com/in/{self.slug}"


class World:
    """Everybody there is under one seed, as of one day."""

    def __init__(self, seed: int = 0, today: date | None = None) -> None:
        self.seed = seed
        self.today = today or datetime.now(UTC).date()
        self.companies = Registry(seed)
        self._key = key_of(seed, "person")
        self._order = Shuffle(key_of(seed, "order"), COMPANY_BITS)
        self._slugs = Shuffle(key_of(seed, "slug"), _NUMBER_BITS)
        self._names: dict[int, Shuffle] = {}
        # every provider is asked about the same person at about the same time
        self._make = lru_cache(maxsize=4096)(self._made)

    def person(self, number: int) -> Person:
        """Give the person with this number, 0 … POPULATION - 1."""
        company, place = self._seat_of(number)
        return self._make(company, place, number)

    def by_email(self, email: str) -> Person | None:
        """Find whose address this is, at work or at home."""
        local, _, domain = email.strip().lower().partition("@")
        if domain == "mail.example":
            found = self.by_mark(local.rpartition(".")[2])
            return found if found is not None and found.personal_email == email.strip().lower() else None
        company = number_of_domain(domain)
        if company is None:
            return None
        one, _, other = local.replace("_", ".").partition(".")
        first, last = (other, one) if _EMAIL_FORMS[company % 4].startswith("{last}") else (one, other)
        found = self._by_name_index(index_of(first, last), company)
        return found if found is not None and found.email == email.strip().lower() else None

    def by_linkedin(self, url: str) -> Person | None:
        """Find whose profile this is, in any of the ways people write the address."""
        match = _SLUG.search(url.strip().lower())
        if match is None:
            return None
        found = self.by_mark(match[1].rpartition("-")[2])
        return found if found is not None and found.slug == match[1] else None

    def by_mark(self, mark: str) -> Person | None:
        """Find somebody by the eight hexadecimal digits their profile's address ends with."""
        try:
            return self.person(self._slugs.back(int(mark, 16) & ((1 << _NUMBER_BITS) - 1)))
        except ValueError:
            return None

    def by_name(self, name: str, *, company: str = "", domain: str = "") -> Person | None:
        """Find somebody by full name and employer, in any spelling of either."""
        return self._by_name_index(index_of_full(name), _employer(company, domain))

    def by_names(self, first: str, last: str, *, company: str = "", domain: str = "") -> Person | None:
        """Find somebody by first name, surname and employer, in any spelling."""
        return self._by_name_index(index_of(first, last), _employer(company, domain))

    def in_text(self, text: str) -> tuple[Person | None, Company | None]:
        """Find the person and the company a free text speaks of."""
        words = [fold(word) for word in text.replace("@", " ").split()]
        employers = list(dict.fromkeys(numbers_in(words)))
        for name, employer in itertools.product(indices_in(words), employers):
            if found := self._by_name_index(name, employer):
                return found, found.company
        return None, self.companies.get(employers[0]) if employers else None

    def at(self, company: int, place: int) -> Person:
        """Give who holds a place in a company; places below SENIOR_PLACES are its leaders."""
        return self._make(company, place, self._number_of(company, place))

    def name_index_at(self, company: int, place: int) -> int:
        """Give only the number of the name of whoever holds a place."""
        return self._names_in(company).forward(place)

    def namesake(self, person: Person) -> Person:
        """Give somebody else of the same name, who works somewhere else."""
        step = 1 + mix(self._key ^ person.number ^ 0xA5) % (COMPANIES - 1)
        company = (person.company.number + step) % COMPANIES
        return self.at(company, self._names_in(company).back(person.name_index))

    def _by_name_index(self, name: int | None, company: int | None) -> Person | None:
        if name is None or company is None:
            return None
        place = self._names_in(company).back(name)
        return self.at(company, place) if place < PLACES_IN_A_COMPANY else None

    def _names_in(self, company: int) -> Shuffle:
        found = self._names.get(company)
        if found is None:
            found = self._names[company] = Shuffle(key_of(self.seed, "names", company), NAME_BITS)
        return found

    def _seat_of(self, number: int) -> tuple[int, int]:
        tier, rest = number >> (COMPANY_BITS + 1), number & (2 * COMPANIES - 1)
        company = self._order.forward(((rest >> 1) + tier * _STRIDE) % COMPANIES)
        return company, tier * 2 + (rest & 1)

    def _number_of(self, company: int, place: int) -> int:
        tier = place >> 1
        column = (self._order.back(company) - tier * _STRIDE) % COMPANIES
        return tier << (COMPANY_BITS + 1) | column << 1 | place & 1

    def _made(self, company_number: int, place: int, number: int) -> Person:
        company = self.companies.get(company_number)
        name_index = self._names_in(company_number).forward(place)
        first, last = name_at(name_index)
        draw = Draws(mix(self._key ^ number))
        title, seniority, department, function = _role(company_number, place, draw)
        mark = f"{self._slugs.forward(number):08x}"
        written = {"first": _address_part(first), "last": _address_part(last)}
        return Person(
            number=number,
            place=place,
            name_index=name_index,
            first_name=first,
            last_name=last,
            company=company,
            title=title,
            seniority=seniority,
            department=department,
            function=function,
            email=f"{_EMAIL_FORMS[company_number % 4].format_map(written)}@{company.domain}",
            email_status=draw.pick(_EMAIL_STATUSES),
            personal_email=f"{written['first']}.{mark}@mail.example" if draw.chance(0.6) else None,
            phone=f"+1{draw.between(201, 989)}55501{draw.below(100):02d}" if draw.chance(0.5) else None,
            slug=f"{written['first']}-{written['last']}-{mark}",
            since=date(self.today.year - draw.between(1, 9), draw.between(1, 12), 1),
            school=draw.pick(_SCHOOLS),
            field_of_study=draw.pick(_FIELDS),
            followers=draw.between(40, 24_000),
            net_worth=draw.between(2, 96) * (1_000_000 if place < SENIOR_PLACES else 50_000),
            in_apollo=draw.chance(0.80),
            in_contactout=draw.chance(0.65),
            in_exa=draw.chance(0.85),
            shares_a_name=draw.chance(0.12),
        )


def _employer(company: str, domain: str) -> int | None:
    found = number_of_domain(domain) if domain else None
    return number_of(company) if found is None and company else found


def _address_part(name: str) -> str:
    return plain(name).lower().replace(" ", "-").replace("'", "")


def _role(company: int, place: int, draw: Draws) -> tuple[str, str, str, str]:
    if place < SENIOR_PLACES:
        return _SENIOR[(place + company) % SENIOR_PLACES]
    return draw.pick(_STAFF)
