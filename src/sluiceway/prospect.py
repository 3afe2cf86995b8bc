"""Who we were asked about, the fields a source can fill, and whether an answer is about that person.

A prospect's identity key is, in order, its normalised LinkedIn URL, its e-mail, its id at Apollo, or its name and
company. The store makes it unique per tenant.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping
from enum import StrEnum
from functools import lru_cache
from typing import Any, Final
from urllib.parse import unquote

import msgspec

from sluiceway.errors import BadInput

EVERYBODY: Final = "*"
"""What stands for all tenants, in the suppression list; so no tenant can be called that."""


class Field(StrEnum):
    """What a source can fill in about a prospect; also the column names of the enriched file."""

    TITLE = "title"
    SENIORITY = "seniority"
    WORK_EMAIL = "work_email"
    PERSONAL_EMAIL = "personal_email"
    PHONE = "phone"
    LINKEDIN_URL = "linkedin_url"
    LOCATION = "location"
    COMPANY = "company"
    COMPANY_DOMAIN = "company_domain"
    INDUSTRY = "industry"
    EMPLOYEES = "employees"
    REVENUE_USD = "revenue_usd"
    TICKER = "ticker"
    ARTICLES = "articles"
    INSIDER_TRADES = "insider_trades"
    SUMMARY = "summary"
    WEALTH_SIGNALS = "wealth_signals"
    FULL_NAME = "full_name"


class Want(StrEnum):
    """The contact data that may be bought; each has a price, so only the first is bought unasked."""

    WORK_EMAIL = "work_email"
    PERSONAL_EMAIL = "personal_email"
    PHONE = "phone"


class Person(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """The few facts that tell one person from another, as asked by a caller or as said by a provider.

    `apollo_id` is by what Apollo knows them; whoever was found by a search may have little else.
    """

    first_name: str = ""
    last_name: str = ""
    full_name: str = ""
    company: str = ""
    domain: str = ""
    email: str = ""
    linkedin_url: str = ""
    title: str = ""
    apollo_id: str = ""

    @property
    def name(self) -> str:
        """The whole name, however it was given."""
        return self.full_name or f"{self.first_name} {self.last_name}".strip()

    @property
    def is_half_named(self) -> bool:
        """Whether only a first name is known, as a search shows it; a colleague may well have the same."""
        return bool(self.apollo_id) and not (self.full_name or self.last_name)


class Prospect(msgspec.Struct, frozen=True, gc=False):
    """One person a tenant asked about."""

    id: str
    tenant_id: str
    person: Person


class Found(msgspec.Struct, frozen=True, gc=False):
    """A value a source found for a field; `confidence` (0 to 100) decides between sources."""

    field: Field
    value: Any
    confidence: int = 50


class Held(msgspec.Struct, frozen=True, gc=False):
    """A value a prospect holds, with its provenance: which source, when, and from which attempt."""

    value: Any
    source: str
    at: str
    attempt_id: str | None
    confidence: int


class Match(StrEnum):
    """How surely an answer is about the person asked."""

    EXACT = "exact"
    AGREES = "agrees"
    WEAK = "weak"


def held_key(field: str, source: str) -> str:
    """Return the key under which a prospect keeps what one source said of one field.

    Each source has its own place, so two sources never overwrite each other and merging commutes.
    """
    return f"{field}:{source}"


def hold(found: Found, at: str, attempt_id: str | None) -> list[Any]:
    """Return a found value as it is stored: value, when, from which attempt, how sure.

    An array, because merging stored objects would mix the insides of an old value with a new one's.
    """
    return [found.value, at, attempt_id, found.confidence]


def best(fields: Mapping[str, list[Any]]) -> dict[str, Held]:
    """Choose, for each field, the value to show: the surest, and among equals the newest."""
    chosen: dict[str, Held] = {}
    for key, stored in sorted(fields.items()):
        field, _, source = key.partition(":")
        value, at, attempt_id, confidence = stored
        held = Held(value, source, at, attempt_id, confidence)
        shown = chosen.get(field)
        if shown is None or (held.confidence, held.at) > (shown.confidence, shown.at):
            chosen[field] = held
    return chosen


def identity_key(person: Person) -> str:
    """Return the key that makes two requests the same prospect.

    Raises `BadInput` when there is none of these: LinkedIn URL, e-mail, id at Apollo, name with a company.
    """
    if linkedin := normal_linkedin(person.linkedin_url):
        return f"linkedin:{linkedin}"
    if email := normal_email(person.email):
        return f"email:{email}"
    if apollo_id := normal_apollo_id(person.apollo_id):
        return f"apollo:{apollo_id}"  # before the name, of which a search shows the first half alone
    name, company = fold(person.name), normal_company(person.company) or normal_domain(person.domain)
    if name and company:
        return f"name:{name}|{company}"
    raise BadInput("needs a LinkedIn URL, an e-mail, or a name together with a company")


def match(asked: Person, said: Person) -> Match:
    """Decide whether an answer is about the person asked; anything that is not sure is weak."""
    if _same(normal_linkedin(asked.linkedin_url), normal_linkedin(said.linkedin_url)):
        return Match.EXACT
    if _same(normal_email(asked.email), normal_email(said.email)):
        return Match.EXACT
    if _same(normal_apollo_id(asked.apollo_id), normal_apollo_id(said.apollo_id)):
        return Match.EXACT
    if same_name(asked.name, said.name) and same_employer(asked, said):
        return Match.AGREES
    return Match.WEAK


def _same(one: str, other: str) -> bool:
    return bool(one) and one == other


def same_employer(one: Person, other: Person) -> bool:
    """Tell whether two people have the same employer, by domain or by name without its legal suffix."""
    return _same(normal_domain(one.domain), normal_domain(other.domain)) or _same(
        normal_company(one.company), normal_company(other.company)
    )


@lru_cache(maxsize=4096)
def same_name(one: str, other: str) -> bool:
    """Tell whether two whole names can be one person's: family names agree, given names agree or are nicknames."""
    mine, theirs = _name_words(one), _name_words(other)
    if len(mine) < 2 or len(theirs) < 2:
        return bool(mine) and mine == theirs
    # Middle names come and go, and a double-barrelled name may lose its first half; the last word stays.
    return mine[-1] == theirs[-1] and same_given_name(mine[0], theirs[0])


@lru_cache(maxsize=4096)
def same_given_name(one: str, other: str) -> bool:
    """Tell whether two given names can be one person's: equal, an initial, or a known nickname."""
    one, other = fold(one), fold(other)
    if not one or not other:
        return False
    if one == other or (min(len(one), len(other)) == 1 and one[0] == other[0]):
        return True
    return other in _nicknames(one) or one in _nicknames(other)


@lru_cache(maxsize=1)
def _nicknamer() -> Any:
    from nicknames import NickNamer  # loads a table of names, so only when a comparison needs it

    return NickNamer()


def _nicknames(name: str) -> set[str]:
    names: set[str] = _nicknamer().nicknames_of(name)
    return names


_HONORIFICS: Final = frozenset("mr mrs ms miss dr prof sir dame jr sr ii iii iv phd md mba cpa cfa esq".split())
_WORD_BYTES: Final = bytes(bytes([byte]).lower()[0] if bytes([byte]).isalnum() else 0x20 for byte in range(256))
"""What each byte of ASCII is folded to: a letter or digit, or else a space."""


def fold(text: str) -> str:
    """Fold accents, case and punctuation away: `Inès Okafor-Lind` becomes `ines okafor lind`."""
    return _folded_name(text) if len(text) <= _LONGEST_NAME else _folded(text)


@lru_cache(maxsize=16_384)
def _folded_name(name: str) -> str:
    return _folded(name)


_LONGEST_NAME: Final = 80
"""Characters of a text that comes again and is worth remembering; prose is not."""


def _folded(text: str) -> str:
    if not text.isascii():
        text = _NOT_ASCII.sub(_in_latin_letters, text)  # a long text has few such letters, and each is slow
    # A table and a split take an eighth of the time of a regular expression, and pages of prose come this way.
    return " ".join(text.encode("ascii", "replace").translate(_WORD_BYTES).decode("ascii").split())


_NOT_ASCII: Final = re.compile(r"[^\x00-\x7f]+")


def _in_latin_letters(letters: re.Match[str]) -> str:
    return _latin_letters(letters[0])


@lru_cache(maxsize=4096)
def _latin_letters(letters: str) -> str:
    from anyascii import anyascii  # a table of every script; most names never need it

    return anyascii(letters)


def _name_words(name: str) -> list[str]:
    return [word for word in fold(name).split() if word not in _HONORIFICS]


_LONGEST_COMPANY: Final = 200
"""Characters of a company's name that are compared; looking for legal suffixes takes the square of the length."""


@lru_cache(maxsize=32_768)
def normal_company(name: str) -> str:
    """Fold a company's name and drop its legal suffix: `Quell Holdings, Inc.` becomes `quell holdings`."""
    name = " ".join(name.split())[:_LONGEST_COMPANY]
    if _bare_word(name.rpartition(" ")[2]) not in _last_words_of_legal_suffixes():
        return fold(name)  # most names; looking through hundreds of suffixes for nothing is slow
    return fold(_without_legal_suffix(name)) or fold(name)


def _without_legal_suffix(name: str) -> str:
    """Do what cleanco's `basename` does, but try only the suffixes that end in one of the name's words."""
    from cleanco.clean import normalized, strip_punct, strip_tail

    name = strip_tail(name)
    words = name.split()
    bare = [strip_punct(word) for word in (name.lower() if name.isascii() else normalized(name)).split()]
    for _, (size, suffix) in sorted(found for word in set(bare) for found in _legal_suffixes().get(word, ())):
        if bare[-size:] == suffix:
            del words[-size:], bare[-size:]
    left: str = strip_tail(" ".join(words))
    return left


@lru_cache(maxsize=1)
def _legal_suffixes() -> dict[str, list[tuple[int, Any]]]:
    """Return cleanco's suffixes by their last word, each with its place in the order in which they are tried."""
    from cleanco import prepare_default_terms

    by_last_word: dict[str, list[tuple[int, Any]]] = {}
    for place, suffix in enumerate(prepare_default_terms()):
        by_last_word.setdefault(suffix[1][-1], []).append((place, suffix))
    return by_last_word


@lru_cache(maxsize=1)
def _last_words_of_legal_suffixes() -> frozenset[str]:
    """Return the words that may end a name with a legal suffix; the empty one stands for what cannot be told."""
    return frozenset({"", *map(_bare_word, _legal_suffixes())})


def _bare_word(word: str) -> str:
    letters = unicodedata.normalize("NFKD", word).casefold()
    return "".join(letter for letter in letters if letter.isalnum())


_HOST: Final = re.compile(r"^(?:[a-z][a-z0-9+.-]*:)?(?://)?(?:[^/?#@]*@)?([^/?#:]*)")


def normal_domain(domain: str) -> str:
    """Reduce a domain or web address to its bare host: `https://www.quell.example/x` becomes `quell.example`."""
    host = _HOST.match(domain.strip().lower())
    return host[1].removeprefix("www.").rstrip(".") if host else ""


def normal_email(email: str) -> str:
    """Return an e-mail in lower case, or nothing when it cannot be one."""
    email = email.strip().lower()
    local, at, domain = email.rpartition("@")
    return email if at and local and "." in domain and not re.search(r"\s", email) else ""


_PROFILE: Final = re.compile(r"(?:^|\.)linkedin\.com/(in|pub)/([^/?#\s]+)")


@lru_cache(maxsize=8192)
def normal_linkedin(url: str) -> str:
    """Reduce a LinkedIn profile's URL to `in/<name>`; nothing when it is not a profile."""
    text = unquote(url.strip()).lower()
    found = _PROFILE.search(text.partition("//")[2] or text)
    return f"{found[1]}/{found[2]}" if found else ""


_APOLLO_ID: Final = re.compile(r"[0-9a-z_-]{1,64}")


def normal_apollo_id(apollo_id: str) -> str:
    """Return a person's id at Apollo in lower case, or nothing when it cannot be one."""
    text = apollo_id.strip().lower()
    return text if _APOLLO_ID.fullmatch(text) else ""


def merged(people: Iterable[Person]) -> Person:
    """Combine several rows about one person: the first non-empty value of each column stands."""
    rows = list(people)
    return Person(
        **{
            column: next(filter(None, (getattr(row, column) for row in rows)), "")
            for column in Person.__struct_fields__
        }
    )
