"""What a person can be recognised by on a list of people who must not be asked about.

A list holds signs and a person shows signs; one in common is enough. E-mails are compared in lower case and without a
`+tag`, LinkedIn profiles by their name in the address, domains with everything below them, and a name only together
with the employer. An id at Apollo is a profile too: `apollo/` and the id.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from enum import StrEnum
from typing import Any, Final, NamedTuple

from sluiceway.errors import BadInput
from sluiceway.prospect import (
    Field,
    Person,
    fold,
    normal_apollo_id,
    normal_company,
    normal_domain,
    normal_email,
    normal_linkedin,
)


class Kind(StrEnum):
    """What a sign is. `NAME` is a name with an employer; `DOMAIN` stands for everybody there.

    `LINKEDIN` is a profile, at LinkedIn (`in/ines`) or at Apollo (`apollo/66f0…`).
    """

    EMAIL = "email"
    LINKEDIN = "linkedin"
    DOMAIN = "domain"
    NAME = "name"


class Sign(NamedTuple):
    """One sign, in the spelling that is compared."""

    kind: Kind
    value: str


_HOST: Final = re.compile(r"(?:[^\W_](?:[\w-]*[^\W_])?\.)+[^\W\d_][\w-]*[^\W_]")
_AT_APOLLO: Final = "apollo:"
_FOUND_AS: Final[dict[str, str]] = {
    Field.WORK_EMAIL: "email",
    Field.PERSONAL_EMAIL: "email",
    Field.LINKEDIN_URL: "linkedin_url",
    Field.COMPANY_DOMAIN: "domain",
}
"""Fields that a source may find a sign in, and as what of a person they are read."""


def read_sign(written: str) -> Sign:
    """Read an e-mail address, the address of a LinkedIn profile, an id at Apollo (`apollo:66f0…`), or a domain.

    Raises `BadInput` for anything else.
    """
    text = written.strip()
    if email := _bare_email(text):
        return Sign(Kind.EMAIL, email)
    if profile := normal_linkedin(text):
        return Sign(Kind.LINKEDIN, profile)
    if text.lower().startswith(_AT_APOLLO) and (apollo_id := normal_apollo_id(text[len(_AT_APOLLO) :])):
        return _at_apollo(apollo_id)
    host = normal_domain(text.removeprefix("@"))
    if "linkedin.com" in host and "/" in text.partition("//")[2]:
        raise BadInput(f"{text!r} is on LinkedIn and not a person's profile, such as linkedin.com/in/name")
    if not _HOST.fullmatch(host) or "@" in text[1:]:
        raise BadInput(f"{text!r} is no e-mail address, LinkedIn profile or domain")
    return Sign(Kind.DOMAIN, host)


def named(name: str, company: str) -> Sign:
    """Return the sign of somebody of whom only the name and the employer (or its domain) are known.

    Raises `BadInput` where either is missing.
    """
    host = normal_domain(company)
    who, employer = fold(name), host if _HOST.fullmatch(host) else normal_company(company)
    if not who or not employer:
        raise BadInput("a name is a sign only together with a company")
    return Sign(Kind.NAME, f"{who}|{employer}")


def signs_of(person: Person) -> set[Sign]:
    """Return every sign that a person shows, the domains they are at among them."""
    return {*own_signs_of(person), *_domains(person)}


def own_signs_of(person: Person) -> set[Sign]:
    """Return the signs that are this person's alone: not the domain, which is everybody's there."""
    signs = set()
    if email := _bare_email(person.email):
        signs.add(Sign(Kind.EMAIL, email))
    if profile := normal_linkedin(person.linkedin_url):
        signs.add(Sign(Kind.LINKEDIN, profile))
    if apollo_id := normal_apollo_id(person.apollo_id):
        signs.add(_at_apollo(apollo_id))
    if (who := fold(person.name)) and not person.is_half_named:
        employers = (normal_company(person.company), normal_domain(person.domain))
        signs |= {Sign(Kind.NAME, f"{who}|{employer}") for employer in employers if employer}
    return signs


def shown_with(signs: Iterable[Sign]) -> set[Sign]:
    """Return what somebody with these signs shows: an e-mail shows its domain, and a domain those above it."""
    shown = set(signs)
    for sign in list(shown):
        if sign.kind in (Kind.EMAIL, Kind.DOMAIN):
            shown |= signs_of(Person(**{sign.kind.value: sign.value}))
    return shown


def found_as(field: str, value: Any) -> Person | None:
    """Return the person that a found value alone would be, where it is one that somebody can be recognised by."""
    part = _FOUND_AS.get(field)
    return Person(**{part: value}) if part and isinstance(value, str) else None


def people_in(fields: Mapping[str, list[Any]]) -> Iterator[Person]:
    """Yield what stored fields say of who somebody is, value by value (see `prospect.hold`)."""
    for key, stored in fields.items():
        if (person := found_as(key.partition(":")[0], stored[0])) is not None:
            yield person


def all_signs(person: Person, fields: Mapping[str, list[Any]]) -> set[Sign]:
    """Return every sign of a prospect: as asked, and as sources found."""
    return signs_of(person).union(*map(signs_of, people_in(fields)))


def _at_apollo(apollo_id: str) -> Sign:
    return Sign(Kind.LINKEDIN, f"apollo/{apollo_id}")


def _bare_email(written: str) -> str:
    local, _, domain = normal_email(written).rpartition("@")
    return f"{local.partition('+')[0] or local}@{domain}" if domain else ""


def _domains(person: Person) -> Iterator[Sign]:
    """Yield the domains a person is at, each with those above it down to two labels."""
    hosts = {normal_domain(person.domain), normal_email(person.email).rpartition("@")[2]}
    for host in hosts:
        labels = host.split(".")
        for start in range(len(labels) - 1):
            yield Sign(Kind.DOMAIN, ".".join(labels[start:]))
