"""One row of a list of people: from what somebody typed to what a provider can be asked, or why it cannot be used."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping
from itertools import chain
from typing import Final

import msgspec

from sluiceway.errors import BadInput
from sluiceway.prospect import EVERYBODY, Person, fold, identity_key, normal_domain, normal_email, normal_linkedin

LONGEST_CELL: Final = 1_000
"""Characters of a cell that tells who somebody is; more is a damaged row, and no provider would take it."""


class Row(msgspec.Struct, frozen=True):
    """One usable row.

    `line` is where it starts, as an editor counts; `number` counts rows from 0, rejects included and blank lines not;
    `cells` is the row's text as it stands in the file, which may be fewer cells than there are headers.
    """

    line: int
    number: int
    person: Person
    tenant: str
    external_id: str
    cells: list[str]


class Reject(msgspec.Struct, frozen=True):
    """One row that cannot be used, and why; `line`, `number` and `cells` as in `Row`, but any number of cells."""

    line: int
    number: int
    reason: str
    cells: list[str]


def judged(line: int, number: int, typed: Mapping[str, str], cells: list[str]) -> Row | Reject:
    """Make a row of what was typed under each target (see `people_file.TARGETS`), or say why it cannot be one."""
    said = {target: _clean(cell) for target, cell in typed.items()}
    if reason := _too_long(said):
        return Reject(line, number, reason, cells)
    if said.get("tenant") == EVERYBODY:
        return Reject(line, number, f"a tenant cannot be called {EVERYBODY!r}, which stands for all of them", cells)
    person = _person(said)
    try:
        identity_key(person)
    except BadInput as lacking:
        return Reject(line, number, "; ".join((str(lacking), *_unread(said, person))), cells)
    return Row(line, number, person, said.get("tenant", ""), said.get("external_id", ""), cells)


def person_of(said: Mapping[str, str]) -> Person:
    """Return the person that values by target are about, cleaned as a file's cells are.

    Raises `BadInput` for values that are damaged, too long, or not what they should be.
    """
    cleaned = {target: _clean(text) for target, text in said.items()}
    if any("\0" in text for text in said.values()):
        raise BadInput("has a NUL character in it, which is a sign of damage")
    person = _person(cleaned)
    if reason := _too_long(cleaned) or "; ".join(_unread(cleaned, person)):
        raise BadInput(reason)
    return person


# The cells.

_INVISIBLE: Final = dict.fromkeys(
    chain(
        (code for code in range(0x20) if not chr(code).isspace()),
        range(0x7F, 0xA0),
        (0xAD, 0x200B, 0x200E, 0x200F, 0xFEFF),
        range(0x202A, 0x202F),
        range(0x2060, 0x206A),
    )
)
_NOTHING: Final = frozenset("- -- --- – — . ? n/a #n/a n.a. (null) null none nil undefined nan [null] <null>".split())
_STILL_NAMES: Final = frozenset({"Null", "Nil", "Nan"})  # people are called that; an export would write `null` or `NaN`


def _clean(cell: str) -> str:
    """Strip a cell, make its spaces single, drop what cannot be seen, and read `N/A`, `-` and `null` as empty."""
    if not (cell.isascii() and cell.isprintable()):
        cell = unicodedata.normalize("NFC", cell.translate(_INVISIBLE))
    text = " ".join(cell.split())
    return "" if text.lower() in _NOTHING and text not in _STILL_NAMES else text


def _too_long(said: Mapping[str, str]) -> str:
    """Say which cell is beyond reason; a headline may be, it tells nobody from anybody and is cut."""
    long = (target for target, text in said.items() if len(text) > LONGEST_CELL and target != "title")
    target = next(long, None)
    return f"has {len(said[target]):,} characters in {target}; at most {LONGEST_CELL:,} make sense" if target else ""


def _person(said: Mapping[str, str]) -> Person:
    first, last, full = _names(said.get("first_name", ""), said.get("last_name", ""), said.get("full_name", ""))
    linkedin = said.get("linkedin_url", "")
    return Person(
        first_name=first,
        last_name=last,
        full_name=full,
        company=said.get("company", ""),
        domain=_domain(said.get("domain", "")),
        email=_email(said.get("email", "")),
        linkedin_url=linkedin if normal_linkedin(linkedin) else "",  # a company's page is not a person
        title=said.get("title", "")[:LONGEST_CELL],
    )


def _unread(said: Mapping[str, str], person: Person) -> Iterator[str]:
    """Say what was given and could not be used, since the row lacks just that; never the value itself."""
    if said.get("email") and not person.email:
        yield "what stands under e-mail is not an address"
    if said.get("linkedin_url") and not person.linkedin_url:
        yield "what stands under LinkedIn is not a person's profile (linkedin.com/in/…)"
    if said.get("domain") and not person.domain:
        yield "what stands under domain is not a company's website"


_CREDENTIALS: Final = frozenset(
    "jr sr ii iii iv phd dphil mba md jd cpa cfa cfp caia frm esq pe pmp dr dds rn llm msc bsc".split()
)


def _names(first: str, last: str, full: str) -> tuple[str, str, str]:
    """Sort out a name's parts, where the whole name may be `Okafor, Ines` or really only the family name."""
    parts = [part.strip() for part in full.split(",")]
    parts = [part for part in parts if part and fold(part).replace(" ", "") not in _CREDENTIALS]
    match parts:
        case [family, given]:
            return first or given, last or family, ""
        case [whole] if first and not last:  # `Vorname; Name` next to each other, or a first name beside a whole one
            return (first, "", whole) if _begins_with(whole, first) else (first, whole, "")
        case [whole]:
            return first, last, whole
    return first, last, full


def _begins_with(whole: str, first: str) -> bool:
    return f"{fold(whole)} ".startswith(f"{fold(first)} ")


def _email(text: str) -> str:
    """Find the first address in a cell that may hold `Ines <ines@quell.example>`, a `mailto:` link, or several."""
    words = re.split(r"[\s,;<>()\[\]\"]+|mailto:", text, flags=re.IGNORECASE)
    return next((word for word in (word.partition("?")[0].strip(".:'") for word in words) if normal_email(word)), "")


_HOST: Final = re.compile(r"[^\s@/:?#]+\.[^\s@/:?#.]{2,}")


def _domain(text: str) -> str:
    """Reduce a website or a domain to its host; nothing when it has none, or is a page on LinkedIn."""
    word = next(iter(re.split(r"[\s,;]+", text)))
    place = re.split(r"[/?#]", re.sub(r"^(\w+:)?//", "", word))[0]
    host = place.rpartition("@")[2].partition(":")[0]
    if "linkedin.com/" in word.lower() or not _HOST.fullmatch(host):
        return ""
    return normal_domain(host)
