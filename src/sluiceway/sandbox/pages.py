"""What the web in the sandbox's world has to say about a person or a company.

Every page's address ends in something that leads back to it, so a page can be fetched again by its URL alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from sluiceway.sandbox.companies import number_of_domain
from sluiceway.sandbox.seeded import Draws, key_of

if TYPE_CHECKING:
    from sluiceway.sandbox.companies import Company
    from sluiceway.sandbox.world import Person, World

_PRESS = ("ledgerpost.example", "harbourwire.example", "tradeweek.example")
_CAUSES = ("a hospital wing", "scholarships", "a maritime museum", "river restoration", "a concert hall")
_PLACES = ("a lakeside house", "a vineyard", "a townhouse", "a stud farm")


@dataclass(frozen=True, slots=True)
class Page:
    """One page of the web."""

    url: str
    title: str
    text: str
    published: date | None
    author: str | None = None

    @property
    def host(self) -> str:
        """The domain it is on."""
        return urlsplit(self.url).hostname or ""


def pages_about(world: World, person: Person) -> list[Page]:
    """List what has been written about somebody, best match first."""
    draw = Draws(key_of(world.seed, "pages", person.number))
    pages = [_biography(person), _appointment(person, draw)]
    for write, share in ((_interview, 0.6), (_purchase, 0.4), (_gift, 0.4), (_wealth, 0.3)):
        if draw.chance(share):
            pages.append(write(world, person, draw))
    if person.shares_a_name:
        pages.append(_biography(world.namesake(person)))
    return [*pages, page_about(person.company)]


def page_about(company: Company) -> Page:
    """Give a company's own page about itself."""
    text = (
        f"{company.legal_name} is a company in {company.industry} based in {company.city}, {company.country}. "
        f"Founded in {company.founded}, it employs {company.employees:,} people and reported revenue of "
        f"{in_words(company.revenue)} in its last financial year."
    )
    if company.ticker:
        text += f" Its shares trade under the symbol {company.ticker}."
    elif company.funding:
        text += f" It has raised {in_words(company.funding)} to date, most recently in a {company.funding_stage} round."
    return Page(f"https://{company.domain}/about", f"About {company.name}", text, None)


def page_at(world: World, url: str) -> Page | None:
    """Find the page with this address."""
    path = urlsplit(url).path
    if path == "/about":
        number = number_of_domain(urlsplit(url).hostname or "")
        return None if number is None else page_about(world.companies.get(number))
    person = world.by_mark(path[-8:])
    pages = [] if person is None else pages_about(world, person)
    return next((page for page in pages if page.url == url), None)


def in_words(money: int) -> str:
    """Write an amount the way newspapers do."""
    for size, word in ((10**9, "billion"), (10**6, "million")):
        if money >= size:
            return f"${money / size:.3g} {word}"
    return f"${money:,}"


def _biography(person: Person) -> Page:
    company = person.company
    text = (
        f"{person.name} is {person.title} of {company.name}, where {person.first_name} has worked since "
        f"{person.since.year}. {person.first_name} studied {person.field_of_study} at {person.school} and lives near "
        f"{company.city}, {company.country}. At {company.name}, a company in {company.industry} with "
        f"{company.employees:,} employees, {person.first_name} is responsible for {person.function}."
    )
    url = f"https://{company.domain}/team/{person.slug}"
    return Page(url, f"{person.name}, {person.title} | {company.name}", text, None)


def _appointment(person: Person, draw: Draws) -> Page:
    company = person.company
    text = (
        f"{company.city.upper()} - {company.legal_name} today announced that {person.name} joins as {person.title}. "
        f"The company, which reported revenue of {in_words(company.revenue)}, said the appointment takes effect on "
        f"{person.since:%d %B %Y}. “{person.first_name} has a steady hand and a long memory,” the chair said."
    )
    title = f"{company.name} names {person.name} {person.title}"
    return Page(f"https://{draw.pick(_PRESS)}/appointed/{person.slug}", title, text, person.since, "Staff")


def _interview(world: World, person: Person, draw: Draws) -> Page:
    text = (
        f"We met {person.name} in {person.company.city} to speak about {person.company.industry}. "
        f"“We started with {draw.between(3, 40)} customers and a leaking roof,” says the {person.title} of "
        f"{person.company.name}. Asked about the next {draw.between(2, 9)} years, {person.first_name} laughs. "
        "“Ask me about the next quarter, that is hard enough.”"
    )
    url = f"https://{draw.pick(_PRESS)}/interview/{person.slug}"
    return Page(url, f"A conversation with {person.name}", text, _some_day(world, draw), "M. Reporter")


def _purchase(world: World, person: Person, draw: Draws) -> Page:
    price = draw.between(11, 140) * 100_000
    text = (
        f"Records show that {person.name}, {person.title} of {person.company.name}, has bought {draw.pick(_PLACES)} "
        f"near {person.company.city} for {in_words(price)}."
    )
    url = f"https://{draw.pick(_PRESS)}/property/{person.slug}"
    return Page(url, f"{person.name} buys near {person.company.city}", text, _some_day(world, draw))


def _gift(world: World, person: Person, draw: Draws) -> Page:
    amount = draw.between(2, 80) * 50_000
    text = (
        f"{person.name} of {person.company.name} has given {in_words(amount)} towards {draw.pick(_CAUSES)}, the "
        f"trustees said on Tuesday. It is the largest gift they have received in {draw.between(4, 30)} years."
    )
    url = f"https://{draw.pick(_PRESS)}/giving/{person.slug}"
    return Page(url, f"A gift from {person.name}", text, _some_day(world, draw))


def _wealth(world: World, person: Person, draw: Draws) -> Page:
    text = (
        f"Our yearly list puts the fortune of {person.name}, {person.title} of {person.company.name}, at about "
        f"{in_words(person.net_worth)}, held mostly in shares. Rank: {draw.between(11, 490)}."
    )
    url = f"https://{draw.pick(_PRESS)}/list/{person.slug}"
    return Page(url, f"The list: {person.name}", text, _some_day(world, draw))


def _some_day(world: World, draw: Draws) -> date:
    return world.today - timedelta(days=draw.between(10, 1200))
