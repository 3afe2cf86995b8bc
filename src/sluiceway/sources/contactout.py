"""ContactOut's `people/enrich`: profile and contact data of one person, paid by what comes back.

Wire format: https://api.contactout.com/#people-enrich. A miss is a 404 and costs nothing; a profile costs a search
credit, an e-mail of a kind that was asked for an e-mail credit, a phone a phone credit. The status in the body may
differ from HTTP's. A key without access may be answered with 200 and a canned sample, which is never stored. What is
left of the three pools is asked for at `/stats`, which costs nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import date
from functools import lru_cache
from typing import Any, ClassVar

import msgspec

from sluiceway.outcome import FREE, Charge, Status, billed
from sluiceway.prospect import Field, Found, Match, Person, Want, match, normal_domain, normal_email, normal_linkedin
from sluiceway.sources._contract import (
    METER,
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
    first_text,
    number,
    quantity,
    record,
    refused,
    reset_after,
    text,
    trouble,
    unreadable,
)

CREDIT = 1000
# What a reseller lists. One e-mail credit, whichever kinds of address it brought.
_SEARCH_USD_MICROS = 20_000
_USD_MICROS = {Want.WORK_EMAIL: 150_000, Want.PERSONAL_EMAIL: 250_000, Want.PHONE: 250_000}
_POOL = {Want.WORK_EMAIL: "email", Want.PERSONAL_EMAIL: "email", Want.PHONE: "phone"}
_FIELD = {
    Want.WORK_EMAIL: Field.WORK_EMAIL,
    Want.PERSONAL_EMAIL: Field.PERSONAL_EMAIL,
    Want.PHONE: Field.PHONE,
}
_STATS = "stats"
_POOLS = {"search": "search_", "email": "", "phone": "phone_"}
"""The pools of credits, and how the usage figures of each begin."""
_SAMPLE_PERIOD = "2023-04"  # the month that canned usage figures are always from
_CANNED_FIGURES = "canned usage figures"
_SAMPLE_ADDRESS = re.compile(r"@example\.(com|org|net)$", re.IGNORECASE)
_ABOUT_CREDENTIALS = re.compile(r"credential|token|header|api.?key|unauthori[sz]ed|authenticat", re.IGNORECASE)
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


class Answer(msgspec.Struct):
    """Any body ContactOut sends. Leaves are untyped: one odd leaf must not lose a paid answer."""

    status_code: Any = None
    message: Any = None
    profile: Any = msgspec.UNSET
    period: Any = None
    usage: Any = None


class Employer(msgspec.Struct):
    """The employer, as far as we read it."""

    name: Any = None
    domain: Any = None
    industry: Any = None
    size: Any = None
    revenue: Any = None


class Profile(msgspec.Struct):
    """The person ContactOut found."""

    url: Any = None
    email: Any = None
    work_email: Any = None
    personal_email: Any = None
    phone: Any = None
    full_name: Any = None
    industry: Any = None
    company: Any = None
    location: Any = None
    experience: Any = None
    seniority: Any = None

    def texts(self, *names: str) -> list[str]:
        """Return every text in these lists, or lone leaves."""
        return [said for name in names for said in _texts(getattr(self, name))]


class Job(msgspec.Struct):
    """One line of the person's experience."""

    title: Any = None
    company_name: Any = None
    is_current: Any = None


class Period(msgspec.Struct):
    """The month that usage figures are about."""

    start: Any = None
    end: Any = None


class ContactOut(Source):
    """Ask ContactOut how this person is reached."""

    name = "contactout"
    provider = "contactout"
    title = "ContactOut"
    needs = Credential("CONTACTOUT_API_KEY", "ContactOut > Dashboard > API > your token")
    finds = (
        Field.TITLE,
        Field.SENIORITY,
        Field.WORK_EMAIL,
        Field.PERSONAL_EMAIL,
        Field.PHONE,
        Field.LINKEDIN_URL,
        Field.LOCATION,
        Field.COMPANY,
        Field.COMPANY_DOMAIN,
        Field.INDUSTRY,
        Field.EMPLOYEES,
        Field.REVENUE_USD,
    )
    pace = 15.0  # 1000 a minute, less a margin
    timeout_s = 60.0  # a work address is verified while we wait
    hosts: ClassVar[Mapping[str, str]] = {"": "https://api.contactout.com/v1"}
    sandbox: ClassVar[Mapping[str, str]] = {"": "/contactout/v1"}
    docs_url = "https://api.contactout.com/"

    def headers(self) -> Mapping[str, str]:
        return {
            "token": self.credential,
            "authorization": "basic",  # the bare word, as the documentation shows it; the token is what counts
            "accept": "application/json",
            "content-type": "application/json",
        }

    def price(self, want: tuple[Want, ...]) -> Price:
        return Price(*_cost(want))

    def request(self, subject: Subject) -> Request | Skip:
        asked = {name: value for name, value in _keys(subject.person) if value}
        if not asked.keys() & {"linkedin_url", "email"} and not _name_and_employer(asked):
            return Skip("needs a LinkedIn URL, an e-mail, or a name with a company")
        include = [want for want in Want if want in subject.want]
        parameters = {**asked, "include": include} if include else asked
        return Request("people/enrich", "POST", "/people/enrich", body=body(parameters), price=self.price(subject.want))

    def read(self, subject: Subject, request: Request, response: Response) -> Reading:
        answer = decoded(response, Answer)
        status = _status(response.status, answer)
        if status != 200:
            said = _words(response, answer)
            response = msgspec.structs.replace(response, status=status)
            return trouble(response, said) or _refusal(status, said, own_words=answer is not None)
        if answer is None:
            answer = msgspec.json.decode(response.body, type=Answer)  # again, to raise, as it cannot be read
        return _stats(answer) if request.endpoint == _STATS else _enriched(subject, answer)

    def check(self) -> Request:
        return Request(_STATS, "GET", "/stats")

    def meter_requests(self, today: date) -> tuple[Request, ...]:
        return (Request(_STATS, "GET", "/stats", (("period", f"{today:%Y-%m}"),), role=METER),)

    def read_meter(self, request: Request, response: Response) -> tuple[MeterReading, ...]:
        answer = decoded(response, Answer)
        status = _status(response.status, answer)
        if status == 429 or status >= 500:
            return ()
        if status != 200:
            return _unread(f"HTTP {status}: {_words(response, answer) or 'no reason given'}")
        if answer is None or not isinstance(answer.usage, dict):
            return ()
        if _is_canned(answer):
            return _unread(_without_access(_CANNED_FIGURES))
        return tuple(_pool_meter(pool, answer) for pool in _POOLS)


def _cost(wants: tuple[Want, ...]) -> tuple[dict[str, int], int]:
    """Return what a profile with these kinds of contact data costs; each pool is charged once, at its dearest."""
    usd = {"search": _SEARCH_USD_MICROS}
    for want in wants:
        usd[_POOL[want]] = max(usd.get(_POOL[want], 0), _USD_MICROS[want])
    return dict.fromkeys(usd, CREDIT), sum(usd.values())


def _keys(person: Person) -> Iterator[tuple[str, Any]]:
    yield "linkedin_url", person.linkedin_url if normal_linkedin(person.linkedin_url) else ""
    yield "email", normal_email(person.email)
    if person.first_name and person.last_name:
        yield "first_name", person.first_name
        yield "last_name", person.last_name
    else:
        yield "full_name", person.full_name
    yield "company", [person.company] if person.company else []
    yield "company_domain", [normal_domain(person.domain)] if normal_domain(person.domain) else []


def _name_and_employer(asked: Mapping[str, Any]) -> bool:
    return bool(asked.keys() & {"full_name", "last_name"} and asked.keys() & {"company", "company_domain"})


def _status(http: int, answer: Answer | None) -> int:
    """Return the status that counts, where HTTP's and the body's differ.

    The body's, because the application wrote it; but a gateway's own trouble stays what it is, and an error whose
    body speaks of success is 599: nobody can say whether it was counted.
    """
    said = number(answer.status_code) if answer else None
    if said is None or not 200 <= said < 600 or said == http:
        return http
    if said < 300:
        return http if http < 300 else 599
    return http if http == 429 or http >= 500 else said


def _words(response: Response, answer: Answer | None) -> str:
    return response.text().strip() if answer is None else text(answer.message)


def _refusal(status: int, said: str, *, own_words: bool) -> Reading:
    error = f"HTTP {status}: {said or 'no reason given'}"
    match status:
        case 400 | 401 if not said or _ABOUT_CREDENTIALS.search(said):
            return refused(Status.UNAUTHORIZED, error, Retry.STOP)
        case 403 if "out of credits" in said.lower():
            return refused(Status.QUOTA_EXCEEDED, error, Retry.STOP)
        case 403:
            return refused(Status.UNAUTHORIZED, error, Retry.STOP)
        case 404 if own_words and said.lower() in ("not found", ""):  # another page says nothing about the person
            return Reading(Status.NO_DATA, FREE)
        case _ if 400 <= status < 500:
            return refused(Status.FAILED, error)
    return unreadable(error)


def _enriched(subject: Subject, answer: Answer) -> Reading:
    if answer.profile is None or answer.profile == []:
        return Reading(Status.NO_DATA, FREE)
    if not isinstance(answer.profile, dict):
        return unreadable("HTTP 200: an answer without a profile")
    profile = record(_snake(answer.profile), Profile)
    if _is_sample(profile, answer.message):
        return _no_access("a canned sample instead of a profile")
    sure = match(subject.person, _person(subject.person, profile))
    return Reading(
        Status.NO_DATA if sure is Match.WEAK else Status.COMPLETE,
        _charge(subject, profile),
        found=tuple(_found(subject, profile)),
        match=sure,
    )


def _charge(subject: Subject, profile: Profile) -> Charge:
    """Count by what came back; contact data that was not asked for is not charged."""
    milli_credits, usd_micros = _cost(tuple(want for want in subject.want if profile.texts(want)))
    return billed(credits=milli_credits, usd_micros=usd_micros)


def _is_sample(profile: Profile, message: Any) -> bool:
    addresses = profile.texts("email", "work_email", "personal_email")
    return (
        "example-person" in text(profile.url)
        or any(map(_SAMPLE_ADDRESS.search, addresses))
        or any(phone.lower().startswith("phone number") for phone in profile.texts("phone"))
        or "sample" in text(message).lower()
    )


def _no_access(what: str) -> Reading:
    return refused(Status.UNAUTHORIZED, _without_access(what), Retry.STOP)


def _without_access(what: str) -> str:
    return f"ContactOut sent {what}: the key has no access or no credits"


def _is_canned(answer: Answer) -> bool:
    return text(record(answer.period, Period).start).startswith(_SAMPLE_PERIOD)


def _stats(answer: Answer) -> Reading:
    """Read the account's own usage; pre-paid accounts have no `remaining`, and there `quota` is what is left."""
    if not isinstance(answer.usage, dict):
        return unreadable("HTTP 200: usage figures without usage")
    if _is_canned(answer):
        return _no_access(_CANNED_FIGURES)
    left = {
        pool: number(answer.usage.get(f"{prefix}remaining", answer.usage.get(f"{prefix}quota")))
        for pool, prefix in _POOLS.items()
    }
    return Reading(Status.COMPLETE, FREE, data={"credits_left": left})


def _unread(error: str) -> tuple[MeterReading, ...]:
    return tuple(MeterReading(f"{pool} credits", "credits", error=error) for pool in _POOLS)


def _pool_meter(pool: str, answer: Answer) -> MeterReading:
    """Read one pool; on a pre-paid account the month's count says nothing about the credits that were bought."""
    start = _POOLS[pool]
    figures = {name: quantity(answer.usage.get(f"{start}{name}"), 1000) for name in ("count", "quota", "remaining")}
    if figures["remaining"] is None:
        return MeterReading(f"{pool} credits", "credits", remaining=figures["quota"])
    return MeterReading(
        f"{pool} credits",
        "credits",
        used=figures["count"],
        amount=figures["quota"],
        remaining=figures["remaining"],
        resets_at=reset_after(record(answer.period, Period).end),
    )


def _snake(said: dict[str, Any]) -> dict[str, Any]:
    """Return an object with its names in snake_case; where both spellings came, the one that holds something."""
    if " ".join(said).islower():  # no other spelling is in there
        return said
    snake: dict[str, Any] = {}
    for name, value in said.items():
        plain = _snake_name(name)
        snake[plain] = snake.get(plain) or value
    return snake


@lru_cache(maxsize=1024)
def _snake_name(name: str) -> str:
    return _CAMEL.sub("_", name).lower()


def _texts(value: Any) -> list[str]:
    return list(filter(None, map(text, value if isinstance(value, list) else [value])))


def _employer(profile: Profile) -> Employer:
    said = _snake(profile.company) if isinstance(profile.company, dict) else {"name": profile.company}
    return record(said, Employer)


def _current_job(profile: Profile) -> Job:
    jobs = profile.experience if isinstance(profile.experience, list) else []
    read = (record(_snake(job), Job) for job in jobs if isinstance(job, dict))
    return next((job for job in read if job.is_current is True), Job())


def _person(asked: Person, profile: Profile) -> Person:
    addresses = map(normal_email, profile.texts("email", "work_email", "personal_email"))
    employer = _employer(profile)
    return Person(
        full_name=text(profile.full_name),
        company=text(employer.name) or text(_current_job(profile).company_name),
        domain=text(employer.domain),
        email=normal_email(asked.email) if normal_email(asked.email) in addresses else "",
        linkedin_url=text(profile.url),
    )


def _found(subject: Subject, profile: Profile) -> Iterator[Found]:
    """Yield what may be stored; of contact data only the kinds that were asked for."""
    for want in subject.want:
        if value := first_text(getattr(profile, want)):
            yield Found(_FIELD[want], value, 80)
    employer = _employer(profile)
    plain = {
        Field.TITLE: text(_current_job(profile).title),
        Field.SENIORITY: text(profile.seniority),
        Field.LINKEDIN_URL: text(profile.url),
        Field.LOCATION: text(profile.location),
        Field.COMPANY: text(employer.name),
        Field.COMPANY_DOMAIN: text(employer.domain),
        Field.INDUSTRY: text(employer.industry) or text(profile.industry),
        Field.EMPLOYEES: number(employer.size),
        Field.REVENUE_USD: number(employer.revenue),
    }
    yield from (Found(field, value, 65) for field, value in plain.items() if value not in ("", None))
