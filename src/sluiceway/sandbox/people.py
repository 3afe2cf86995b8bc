"""Write a list of people to enrich, as uneven as the lists people really have.

Everybody on it exists in the world of the same seed, so every provider that knows them finds them, however the row
spells them and whatever it leaves out.
"""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING

from sluiceway.sandbox.names import NICKNAME_FOR, plain
from sluiceway.sandbox.seeded import Draws, key_of, mix
from sluiceway.sandbox.world import POPULATION, World

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import date

    from sluiceway.sandbox.world import Person

HEADER = ("tenant", "first_name", "last_name", "email", "company", "domain", "linkedin_url", "title")
_TENANTS = (
    "acme", "northwind", "bluefin", "copperline", "dunmore", "eastgate", "foxglove", "greystone", "hartwell",
)  # fmt: skip
# which columns a row leaves empty; the first is by far the most common
_GAPS: tuple[tuple[str, ...], ...] = (
    *((),) * 9,
    *(("email",),) * 3,
    *(("linkedin_url",),) * 2,
    *(("linkedin_url", "title"),) * 2,
    *(("email", "domain", "linkedin_url", "title"),) * 2,
    ("company", "title"),
    ("email", "company", "domain", "title"),
)
_PROFILES = (
    "https://www.linkedin.com/in/{}",
    "https://www.linkedin.com/in/{}/",
    "linkedin.com/in/{}",
    "http://linkedin.com/in/{}?trk=profile",
)


def people_csv(
    count: int,
    *,
    seed: int = 0,
    tenants: int = 0,
    start: int = 0,
    duplicates: float = 0.0,
    today: date | None = None,
) -> Iterator[str]:
    """Yield a CSV file of so many people, line by line, the header first.

    `tenants` spreads them over that many (0 leaves the column empty), `start` skips so many of the world's people, and
    `duplicates` repeats that share of the rows, half of them spelled differently. The same arguments give the same
    lines. Raises ValueError if the world does not have that many people.
    """
    if start < 0 or count < 0 or start + count > POPULATION:
        raise ValueError(f"the world has {POPULATION:,} people, numbered from 0")
    return _lines(World(seed, today), range(start, start + count), tenants, duplicates)


class _Line:
    """What csv.writer writes to, when the line is wanted back rather than written."""

    def write(self, line: str) -> str:
        return line


def _lines(world: World, numbers: range, tenants: int, duplicates: float) -> Iterator[str]:
    writer = csv.writer(_Line(), lineterminator="\n")
    yield _written(writer.writerow(HEADER))
    for number in numbers:
        person, key = world.person(number), key_of(world.seed, "row", number)
        line = _written(writer.writerow(_row(person, key, _tenant(key, tenants), spelling=0)))
        yield line
        draw = Draws(mix(key))
        if duplicates and draw.chance(duplicates):
            spelling = draw.below(2)
            yield _written(writer.writerow(_row(person, key, _tenant(key, tenants), spelling)))


def _written(line: object) -> str:
    return str(line)  # csv.writer gives back what its file's write did, which the type does not say


def _tenant(key: int, tenants: int) -> str:
    if not tenants:
        return ""
    index = mix(key ^ 0x7E) % tenants
    return _TENANTS[index] if index < len(_TENANTS) else f"tenant-{index:03d}"


def _row(person: Person, key: int, tenant: str, spelling: int) -> list[str]:
    gaps = Draws(key).pick(_GAPS)
    draw = Draws(key_of(key, spelling))
    row = {
        "tenant": tenant,
        "first_name": _first_name(person, draw),
        "last_name": plain(person.last_name) if draw.chance(0.3) else person.last_name,
        "email": person.email.capitalize() if draw.chance(0.05) else person.email,
        "company": _company(person, draw),
        "domain": f"www.{person.company.domain}" if draw.chance(0.05) else person.company.domain,
        "linkedin_url": draw.pick(_PROFILES).format(person.slug),
        "title": person.title,
    }
    return ["" if column in gaps else row[column] for column in HEADER]


def _first_name(person: Person, draw: Draws) -> str:
    name = person.first_name
    if draw.chance(0.15):
        name = NICKNAME_FOR.get(name, name)
    if draw.chance(0.3):
        name = plain(name)
    return name.upper() if draw.chance(0.03) else name


def _company(person: Person, draw: Draws) -> str:
    company = person.company
    return draw.pick((company.name, company.name, company.name, company.legal_name, company.legal_name.upper()))
