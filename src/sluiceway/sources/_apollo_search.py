"""Apollo's people search: who is of some title, at some kind of employer, somewhere; for no credits.

Wire format: https://docs.apollo.io/reference/people-api-search. All inputs travel in the query string, lists as names
that end in `[]`. An answer has no contact data and no whole last name; `people/match` takes its ids. There are 500
pages of at most 100 people. A search costs nothing, so its charge is free, but it is a request of its own windows.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import msgspec

from sluiceway.outcome import FREE, Status
from sluiceway.prospect import normal_apollo_id
from sluiceway.sources._contract import (
    FoundPage,
    FoundPerson,
    Reading,
    Response,
    Search,
    quantity,
    record,
    text,
)

ENDPOINT: Final = "mixed_people/api_search"
_MOST_PEOPLE: Final = 100
_LONGEST: Final = 200
_SAID: Final = {"yes": True, "no": False}


class Employer(msgspec.Struct):
    """The employer of somebody found. Leaves are untyped: one odd leaf must not lose the page."""

    name: Any = None


class ApolloFound(msgspec.Struct):
    """Somebody found."""

    id: Any = None
    first_name: Any = None
    last_name_obfuscated: Any = None
    title: Any = None
    last_refreshed_at: Any = None
    has_email: Any = None
    has_direct_phone: Any = None
    organization: Any = None


class Page(msgspec.Struct):
    """The body of a 200; without a list of people it is none that we know."""

    people: list[Any]
    total_entries: Any = None


def search_parameters(search: Search) -> Iterator[tuple[str, str]]:
    """Yield what a search asks for, as Apollo calls it."""
    several = {
        "person_titles[]": search.titles,
        "person_locations[]": search.locations,
        "person_seniorities[]": search.seniorities,
        "organization_locations[]": search.organization_locations,
        "q_organization_domains_list[]": search.organization_domains,
        "organization_num_employees_ranges[]": [f"{each.least},{each.most}" for each in search.employees],
    }
    yield from ((name, value) for name, values in several.items() for value in values)
    if search.titles and not search.similar_titles:
        yield "include_similar_titles", "false"
    if search.keywords:
        yield "q_keywords", search.keywords
    yield "page", str(search.page)
    yield "per_page", str(search.per_page)


def people_found(response: Response) -> Reading:
    """Read a page of people. Whoever has no id cannot be asked about, and is left out."""
    answer = msgspec.json.decode(response.body, type=Page)
    people = tuple(filter(None, map(_found, answer.people[:_MOST_PEOPLE])))
    page = FoundPage(quantity(answer.total_entries), people)
    return Reading(Status.COMPLETE if people else Status.NO_DATA, FREE, data=msgspec.to_builtins(page))


def _found(said: Any) -> FoundPerson | None:
    person = record(said, ApolloFound)
    apollo_id = text(person.id)
    if not normal_apollo_id(apollo_id):
        return None
    return FoundPerson(
        apollo_id=apollo_id,
        first_name=_short(person.first_name),
        last_name_obfuscated=_short(person.last_name_obfuscated),
        title=_short(person.title),
        company=_short(record(person.organization, Employer).name),
        has_email=person.has_email if isinstance(person.has_email, bool) else None,
        has_direct_phone=_SAID.get(text(person.has_direct_phone).lower()),
        refreshed_at=_short(person.last_refreshed_at) or None,
    )


def _short(said: Any) -> str:
    return text(said)[:_LONGEST]
