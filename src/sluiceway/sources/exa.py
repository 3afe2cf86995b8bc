"""Exa's `/search`: pages that name one person together with their employer, for a fraction of a cent.

Wire format: https://docs.exa.ai/reference/search. Every answered search costs the same, whether it found anything or
not, and says what it cost in `costDollars.total`. Exa finds pages about whatever seems near, so each result passes a
gate: it counts only when it names both the person and the employer. The others are kept apart and never merged.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import date
from typing import Any, ClassVar
from urllib.parse import urlsplit

import msgspec

from sluiceway.outcome import Status, billed
from sluiceway.prospect import Field, Found, Match, Person, Want, fold, normal_company, normal_domain, same_name
from sluiceway.sources._contract import (
    Credential,
    MeterReading,
    Price,
    Reading,
    Request,
    Response,
    Retry,
    Skip,
    Source,
    Subject,
    body,
    decoded,
    quantity,
    record,
    refused,
    text,
    trouble,
    unreadable,
)

_USD_MICROS = 7_000  # one `auto` search; ten results with their text and highlights are included
_RESULTS = 10
_TEXT_CHARACTERS = 2_000  # enough to see whom a page is about
_HIGHLIGHT_CHARACTERS = 400  # what is kept of a page that offers no highlight
_PLAIN_ADDRESS = re.compile(r"https?://[a-z0-9.-]+(?:/|\Z)", re.ASCII)
_NONSENSE_USD_MICROS = 1_000_000_000  # nothing one search can cost


class Cost(msgspec.Struct):
    """What the search cost, in dollars."""

    total: Any = None


class Results(msgspec.Struct):
    """The body of a 200. Leaves are untyped: one odd leaf must not lose a paid answer."""

    results: Any
    request_id: Any = msgspec.field(default=None, name="requestId")
    cost: Any = msgspec.field(default=None, name="costDollars")


class Priced(msgspec.Struct):
    """The body of a 200, as far as its cost goes."""

    cost: Any = msgspec.field(default=None, name="costDollars")


class Result(msgspec.Struct):
    """One page."""

    url: Any = None
    title: Any = None
    published: Any = msgspec.field(default=None, name="publishedDate")
    text: Any = None
    highlights: Any = None

    @property
    def passages(self) -> list[str]:
        """The passages Exa picked out, as many as there are."""
        return [text(passage) for passage in self.highlights] if isinstance(self.highlights, list) else []

    @property
    def everything(self) -> str:
        """All that was said of the page."""
        return "\n".join([text(self.title), *self.passages, text(self.text)])


class Complaint(msgspec.Struct):
    """The body of a refusal; `tag` is for machines."""

    error: Any = None
    tag: Any = None


class Exa(Source):
    """Ask Exa what the web says about this person."""

    name = "exa"
    provider = "exa"
    title = "Exa"
    needs = Credential("EXA_API_KEY", "https://dashboard.exa.ai/api-keys")
    finds = (Field.ARTICLES,)
    pace = 8.0  # ten a second for the whole team, less a margin
    timeout_s = 30.0
    hosts: ClassVar[Mapping[str, str]] = {"": "https://api.exa.ai"}
    sandbox: ClassVar[Mapping[str, str]] = {"": "/exa"}
    docs_url = "https://docs.exa.ai/reference/search"

    def headers(self) -> Mapping[str, str]:
        return {"x-api-key": self.credential, "accept": "application/json", "content-type": "application/json"}

    def price(self, want: tuple[Want, ...]) -> Price:
        return Price(usd_micros=_USD_MICROS)

    def request(self, subject: Subject) -> Request | Skip:
        person = subject.person
        name, employer = " ".join(person.name.split()), person.company or normal_domain(person.domain)
        if person.is_half_named or len(fold(name).split()) < 2 or not fold(employer):
            return Skip("needs a whole name and a company, to tell whom a page is about")
        parameters = {
            "query": f'"{name}" {employer}',
            "type": "auto",
            "numResults": _RESULTS,
            "contents": {"highlights": True, "text": {"maxCharacters": _TEXT_CHARACTERS}},
        }
        return Request("search", "POST", "/search", body=body(parameters), price=self.price(subject.want))

    def read(self, subject: Subject, request: Request, response: Response) -> Reading:
        if response.status != 200:
            said = _complaint(response)
            return trouble(response, said) or _refusal(response, said)
        answer = msgspec.json.decode(response.body, type=Results)
        if not isinstance(answer.results, list):
            return unreadable("HTTP 200: an answer without results")
        about, apart = _sorted_out(subject.person, answer.results)
        return Reading(
            Status.COMPLETE if about else Status.NO_DATA,
            billed(usd_micros=_usd_micros(record(answer.cost, Cost).total)),
            found=(Found(Field.ARTICLES, about, 60),) if about else (),
            match=Match.AGREES if about or not apart else Match.WEAK,
            data={"weak": apart} if apart else None,
            request_id=text(answer.request_id) or response.headers.get("x-request-id"),
        )

    def meters(self, request: Request, response: Response) -> tuple[MeterReading, ...]:
        """Read what the answer cost; there is no telling what is left."""
        answer = decoded(response, Priced) if response.status == 200 else None
        cost = _usd_micros(record(answer.cost, Cost).total) if answer else None
        return () if cost is None else (MeterReading("cost per day", "usd", used=cost, summed=True),)


def _sorted_out(person: Person, results: list[Any]) -> tuple[list[dict[str, str]], list[dict[str, str]]]:
    """Return the articles about the person, and those that may be about somebody else."""
    about: list[dict[str, str]] = []
    apart: list[dict[str, str]] = []
    for result in (record(said, Result) for said in results):
        if address := _web_address(result):
            (about if _is_about(person, result) else apart).append(_article(person, result, address))
    return about, apart


def _is_about(person: Person, result: Result) -> bool:
    everything = result.everything
    if not _may_name(everything, person.name):
        return False
    said = f" {fold(everything)} "
    return _names_person(said, person.name) and _names_employer(said, person, result)


def _may_name(plain: str, name: str) -> bool:
    """Take a quick look at a text that needs no folding: without the family name it cannot name the person."""
    return not plain.isascii() or fold(name).rpartition(" ")[2] in plain.lower()


def _names_person(said: str, name: str) -> bool:
    """Tell whether a folded text names the person: as asked, or given and family name close to each other."""
    if _has_phrase(said, fold(name)):
        return True
    words = said.split()
    return any(same_name(name, spelling) for spelling in _spellings(words, name))


def _spellings(words: list[str], name: str) -> Iterator[str]:
    """Yield the words around each part of the name as whole names: `Ines M. Lind`, and `Lind, Ines` turned round.

    One word more than the name has may lie between: an initial. A lone letter never stands for a given name itself,
    because prose is full of the word `a`.
    """
    parts = fold(name).split()
    for at, word in enumerate(words):
        if word in parts:
            before = words[max(0, at - len(parts)) : at]
            yield from (f"{given} {word}" for given in before if len(given) > 1)
            yield from (f"{given} {word}" for given in words[at + 1 : at + 2] if len(given) > 1)


def _names_employer(said: str, person: Person, result: Result) -> bool:
    if _has_phrase(said, normal_company(person.company)):
        return True
    domain = normal_domain(person.domain)
    host = normal_domain(text(result.url))
    return bool(domain) and (host == domain or host.endswith(f".{domain}") or _has_phrase(said, fold(domain)))


def _has_phrase(said: str, phrase: str) -> bool:
    """Tell whether a folded text, with a space at either end, has these words in a row."""
    return bool(phrase) and f" {phrase} " in said


def _article(person: Person, result: Result, address: str) -> dict[str, str]:
    return {
        "title": text(result.title),
        "url": address,
        "published": _day(text(result.published)),
        "highlight": _highlight(person, result),
    }


def _highlight(person: Person, result: Result) -> str:
    """Choose the passage to show: the first that names the person, else the first, else how the page begins."""
    passages = list(filter(None, result.passages))
    naming = (
        passage
        for passage in passages
        if _may_name(passage, person.name) and _names_person(f" {fold(passage)} ", person.name)
    )
    return next(naming, passages[0] if passages else text(result.text)[:_HIGHLIGHT_CHARACTERS])


def _web_address(result: Result) -> str:
    """Return the page's address where it is one a person can safely open."""
    address = text(result.url)
    if _PLAIN_ADDRESS.match(address):  # most; taking addresses apart is slow
        return address
    try:
        parts = urlsplit(address)
    except ValueError:
        return ""
    return address if parts.scheme in ("http", "https") and parts.netloc else ""


def _day(moment: str) -> str:
    try:
        return date.fromisoformat(moment[:10]).isoformat()
    except ValueError:
        return ""


def _usd_micros(dollars: Any) -> int | None:
    """Return what the search cost; `None` where Exa does not say, or says what cannot be."""
    amount = quantity(dollars, 1_000_000)
    return amount if amount is not None and amount <= _NONSENSE_USD_MICROS else None


def _complaint(response: Response) -> str:
    said = decoded(response, Complaint)
    return response.text().strip() if said is None else " ".join(filter(None, (text(said.tag), text(said.error))))


def _refusal(response: Response, said: str) -> Reading:
    error = f"HTTP {response.status}: {said or 'no reason given'}"
    match response.status:
        case 401:
            return refused(Status.UNAUTHORIZED, error, Retry.STOP)
        case 402:
            return refused(Status.QUOTA_EXCEEDED, error, Retry.STOP)
        case 403 if "PROHIBITED_CONTENT" not in said:  # that one is about the question, the others about the account
            return refused(Status.UNAUTHORIZED, error, Retry.STOP)
        case status if 400 <= status < 500:
            return refused(Status.FAILED, error)
    return unreadable(error)
