"""Whom Apollo's people search finds in the sandbox's world.

The world is too large to be looked through, so a search looks at the first people of some companies: those it names,
by domain or in its keywords, else a few hundred that are the first on every list of people.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

from sluiceway.sandbox.companies import number_of_domain, numbers_in
from sluiceway.sandbox.names import fold

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from sluiceway.sandbox.wire import Ask
    from sluiceway.sandbox.world import Person, World

_COMPANIES = 200
_PEOPLE_OF_ANY, _PEOPLE_OF_NAMED = 10, 60
_MOST_PAGES, _LONGEST_PAGE = 500, 100
_LITTLE = {"and", "of", "the"}
_NO_WORD = re.compile(r"[^\w]+")


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a search asks for: of each list, any."""

    titles: tuple[frozenset[str], ...]
    similar_titles: bool
    keywords: tuple[str, ...]
    locations: tuple[frozenset[str], ...]
    organization_locations: tuple[frozenset[str], ...]
    seniorities: frozenset[str]
    domains: tuple[str, ...]
    employees: tuple[tuple[int, int], ...]
    page: int
    per_page: int


def asked_for(ask: Ask) -> Wanted | None:
    """Read a search, from the query string or a body with the same names; None if there is no such page."""
    said = _said(ask)
    page, per_page = _whole(said.get("page"), 1), _whole(said.get("per_page"), 25)
    if not 1 <= page <= _MOST_PAGES or not 1 <= per_page <= _LONGEST_PAGE:
        return None
    return Wanted(
        titles=_phrases(said, "person_titles"),
        similar_titles=said.get("include_similar_titles") != ["false"],
        keywords=tuple(_in_order(" ".join(said.get("q_keywords", ())))),
        locations=_phrases(said, "person_locations"),
        organization_locations=_phrases(said, "organization_locations"),
        seniorities=frozenset(said.get("person_seniorities", ())),
        domains=tuple(said.get("q_organization_domains_list", ())),
        employees=tuple(filter(None, map(_range, said.get("organization_num_employees_ranges", ())))),
        page=page,
        per_page=per_page,
    )


def found(world: World, wanted: Wanted) -> list[Person]:
    """Return everybody a search finds, always in the same order."""
    return [person for person in _looked_at(world, wanted) if person.in_apollo and _is_meant(person, wanted)]


def page_of(people: Sequence[Person], wanted: Wanted) -> Sequence[Person]:
    """Return the page that was asked for."""
    start = (wanted.page - 1) * wanted.per_page
    return people[start : start + wanted.per_page]


def _looked_at(world: World, wanted: Wanted) -> Iterator[Person]:
    companies = list(map(number_of_domain, wanted.domains)) or list(numbers_in([*wanted.keywords]))
    places = _PEOPLE_OF_NAMED
    if not companies:
        companies = [world.person(2 * number).company.number for number in range(_COMPANIES)]
        places = _PEOPLE_OF_ANY
    known = [company for company in dict.fromkeys(companies) if company is not None]
    return (world.at(company, place) for company in known for place in range(places))


def _is_meant(person: Person, wanted: Wanted) -> bool:
    company = person.company
    title = _words(person.title)
    where = _words(f"{company.city} {company.state} {company.country}")
    known = title | where | _words(f"{person.name} {company.name} {company.industry}")
    sizes = wanted.employees
    return (
        (not wanted.titles or any(_titled(title, each, wanted.similar_titles) for each in wanted.titles))
        and known.issuperset(wanted.keywords)
        and (not wanted.locations or any(each <= where for each in wanted.locations))
        and (not wanted.organization_locations or any(each <= where for each in wanted.organization_locations))
        and (not wanted.seniorities or person.seniority in wanted.seniorities)
        and (not sizes or any(least <= company.employees <= most for least, most in sizes))
    )


def _titled(title: frozenset[str], asked: frozenset[str], similar: bool) -> bool:
    return asked <= title if similar else asked == title


def _said(ask: Ask) -> dict[str, list[str]]:
    """Return every parameter with all its values, by its name without the brackets of a list."""
    body = ask.json()
    pairs = [(name, each) for name, value in (body if isinstance(body, dict) else {}).items() for each in _each(value)]
    said: dict[str, list[str]] = {}
    for name, value in pairs + parse_qsl(ask.query_string):
        said.setdefault(name.removesuffix("[]"), []).append(value)
    return said


def _each(value: object) -> list[str]:
    return [str(each) for each in (value if isinstance(value, list) else [value])]


def _whole(values: list[str] | None, otherwise: int) -> int:
    if not values:
        return otherwise
    return int(values[-1]) if values[-1].isascii() and values[-1].isdigit() and len(values[-1]) < 6 else 0


def _range(text: str) -> tuple[int, int] | None:
    least, _, most = text.partition(",")
    return (int(least), int(most)) if least.isdecimal() and most.isdecimal() else None


def _phrases(said: dict[str, list[str]], name: str) -> tuple[frozenset[str], ...]:
    return tuple(words for text in said.get(name, ()) if (words := _words(text)))


def _words(text: str) -> frozenset[str]:
    return frozenset(_in_order(text))


def _in_order(text: str) -> Iterator[str]:
    return (word for part in _NO_WORD.split(text) if (word := fold(part)) and word not in _LITTLE)
