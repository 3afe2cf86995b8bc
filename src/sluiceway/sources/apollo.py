"""Apollo's `people/match`: title, work e-mail and employer of one person, for one credit when somebody is found.

Wire format: https://docs.apollo.io/reference/people-enrichment. All inputs travel in the query string, so URLs are
never logged with it. A miss is a 200 whose `person` is null or absent, and costs nothing. Phones would arrive by
webhook and are not asked for. Every answer but a 401 and a 403 tells in its headers how many requests are left; a key
with the scope, or a master key, may also ask for all endpoints' requests and for the account's credits. Searching for
people is in `_apollo_search`; the id it finds somebody by is the surest thing to match with.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import date
from typing import Any, ClassVar

import msgspec

from sluiceway.outcome import FREE, Status, billed
from sluiceway.prospect import Field, Found, Match, Person, Want, match
from sluiceway.sources._apollo_search import ENDPOINT as _SEARCH
from sluiceway.sources._apollo_search import people_found, search_parameters
from sluiceway.sources._contract import (
    METER,
    SEARCH,
    Credential,
    MeterReading,
    Price,
    Reading,
    Request,
    Response,
    Retry,
    Search,
    Skip,
    Source,
    Subject,
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

CREDIT = {"lead": 1000}
_HEALTH = "auth/health"
_REQUESTS_LEFT = Request("usage_stats/api_usage_stats", "POST", "/usage_stats/api_usage_stats", role=METER)
_CREDITS_LEFT = Request("usage_stats/credit_usage_stats", "POST", "/usage_stats/credit_usage_stats", role=METER)
# Of each window: its limit, what was used of it, and what is left.
_WINDOWS = {
    "minute": ("x-rate-limit-minute", "x-minute-usage", "x-minute-requests-left"),
    "hour": ("x-rate-limit-hourly", "x-hourly-usage", "x-hourly-requests-left"),
    "day": ("x-rate-limit-24-hour", "x-24-hour-usage", "x-24-hour-requests-left"),
}
_PLACEHOLDER = "email_not_unlocked@domain.com"
_USD_MICROS_PER_CREDIT = 26_000  # what one integrator computes from list prices


class Organization(msgspec.Struct):
    """The employer, as far as we read it. Leaves are untyped: one odd leaf must not lose a paid answer."""

    name: Any = None
    primary_domain: Any = None
    industry: Any = None
    estimated_num_employees: Any = None
    annual_revenue: Any = None
    publicly_traded_symbol: Any = None


class ApolloPerson(msgspec.Struct):
    """The person Apollo matched."""

    id: Any = None
    first_name: Any = None
    last_name: Any = None
    name: Any = None
    linkedin_url: Any = None
    title: Any = None
    email: Any = None
    email_status: Any = None
    seniority: Any = None
    city: Any = None
    state: Any = None
    country: Any = None
    personal_emails: Any = None
    organization: Any = None


class Matched(msgspec.Struct):
    """The body of a 200."""

    person: ApolloPerson | None = None
    request_id: Any = None


class Health(msgspec.Struct):
    """The body of `auth/health`, which answers 200 to a bad key as well."""

    is_logged_in: Any = None


class CreditUsage(msgspec.Struct):
    """The body of `credit_usage_stats`."""

    credit_usage_stats: Any = None
    current_credit_cycle: Any = None


class Cycle(msgspec.Struct):
    """The credits' billing cycle."""

    end_date: Any = None


class Usage(msgspec.Struct):
    """One window's requests, or one pool's credits."""

    limit: Any = None
    consumed: Any = None
    left_over: Any = None


class Complaint(msgspec.Struct):
    """The body of a refusal, in any of Apollo's three envelopes."""

    error: Any = None
    message: Any = None
    error_message: Any = None

    @property
    def words(self) -> str:
        """What it says, whichever envelope it came in."""
        return text(self.error or self.message or self.error_message)


class Apollo(Source):
    """Ask Apollo who this person is and where they work."""

    name = "apollo"
    provider = "apollo"
    title = "Apollo"
    needs = Credential("APOLLO_API_KEY", "Apollo > Settings > Integrations > API keys")
    finds = (
        Field.FULL_NAME,
        Field.TITLE,
        Field.SENIORITY,
        Field.WORK_EMAIL,
        Field.PERSONAL_EMAIL,
        Field.LINKEDIN_URL,
        Field.LOCATION,
        Field.COMPANY,
        Field.COMPANY_DOMAIN,
        Field.INDUSTRY,
        Field.EMPLOYEES,
        Field.REVENUE_USD,
        Field.TICKER,
    )
    pace = 3.0  # 200 a minute, the lower of the paid plans
    hosts: ClassVar[Mapping[str, str]] = {"": "https://api.apollo.io/api/v1"}
    sandbox: ClassVar[Mapping[str, str]] = {"": "/apollo/api/v1"}
    meter_headers = tuple(name for window in _WINDOWS.values() for name in window)
    docs_url = "https://docs.apollo.io/reference/people-enrichment"

    def headers(self) -> Mapping[str, str]:
        return {"x-api-key": self.credential, "accept": "application/json", "cache-control": "no-cache"}

    def price(self, want: tuple[Want, ...]) -> Price:
        return Price(CREDIT, _USD_MICROS_PER_CREDIT)

    def request(self, subject: Subject) -> Request | Skip:
        query = tuple(_parameters(subject.person))
        if Want.PERSONAL_EMAIL in subject.want:
            query += (("reveal_personal_emails", "true"),)
        return Request("people/match", "POST", "/people/match", query, price=self.price(subject.want))

    def read(self, subject: Subject, request: Request, response: Response) -> Reading:
        if response.status != 200:
            return trouble(response, _complaint(response)) or _refusal(response)
        if request.endpoint == _HEALTH:
            return _health(msgspec.json.decode(response.body, type=Health))
        answer = msgspec.json.decode(response.body, type=Matched)
        request_id = text(answer.request_id) or None
        if answer.person is None:
            return Reading(Status.NO_DATA, FREE, request_id=request_id)
        sure = match(subject.person, _person(answer.person))
        return Reading(
            Status.NO_DATA if sure is Match.WEAK else Status.COMPLETE,
            billed(credits=CREDIT, usd_micros=_USD_MICROS_PER_CREDIT),
            found=tuple(_found(subject.person, answer.person)),
            match=sure,
            request_id=request_id,
        )

    def search_request(self, search: Search) -> Request:
        return Request(_SEARCH, "POST", f"/{_SEARCH}", tuple(search_parameters(search)), role=SEARCH)

    def read_search(self, request: Request, response: Response) -> Reading:
        if response.status == 200:
            return people_found(response)
        reading = trouble(response, _complaint(response)) or _refusal(response)
        if response.status == 403:  # scopes are an endpoint's: such a key may well match people
            return msgspec.structs.replace(reading, retry=Retry.NEVER)
        return reading

    def check(self) -> Request:
        return Request(_HEALTH, "GET", "/auth/health")

    def meters(self, request: Request, response: Response) -> tuple[MeterReading, ...]:
        """Read the windows of the endpoint that answered; one without a limit has an empty header, and no figures."""
        said = response.headers
        return tuple(
            MeterReading(
                f"{request.endpoint} per {window}",
                "requests",
                used=quantity(said.get(used)),
                amount=quantity(said.get(limit)),
                remaining=quantity(said.get(left)),
            )
            for window, (limit, used, left) in _WINDOWS.items()
            if limit in said
        )

    def meter_requests(self, today: date) -> tuple[Request, ...]:
        return _CREDITS_LEFT, _REQUESTS_LEFT

    def read_meter(self, request: Request, response: Response) -> tuple[MeterReading, ...]:
        """Read credits and requests. A key that may not see the credits is told so; requests are in every header."""
        if response.status == 200:
            is_credits = request.endpoint == _CREDITS_LEFT.endpoint
            return tuple(_credit_meters(response) if is_credits else _request_meters(response))
        if request.endpoint == _REQUESTS_LEFT.endpoint or response.status == 429 or response.status >= 500:
            return ()
        error = f"HTTP {response.status}: {_complaint(response) or 'no reason given'}"
        return (MeterReading("lead credits", "credits", error=error),)


def _parameters(person: Person) -> Iterator[tuple[str, str]]:
    named = {
        "id": person.apollo_id,
        "first_name": person.first_name,
        "last_name": person.last_name,
        "name": "" if person.first_name and person.last_name else person.full_name,
        "email": person.email,
        "organization_name": person.company,
        "domain": person.domain,
        "linkedin_url": person.linkedin_url,
    }
    return ((name, value) for name, value in named.items() if value)


def _credit_meters(response: Response) -> Iterator[MeterReading]:
    """Yield the account's pools; a pool with nothing in it that nothing was taken from is not part of the plan."""
    answer = decoded(response, CreditUsage) or CreditUsage()
    resets_at = reset_after(record(answer.current_credit_cycle, Cycle).end_date)
    for name, said in _members(answer.credit_usage_stats):
        pool, figures = name.removesuffix("_credit"), _figures(said, 1000)
        if pool == "lead" or (pool and any(figures)):
            yield MeterReading(f"{pool} credits", "credits", *figures, resets_at=resets_at)


def _request_meters(response: Response) -> Iterator[MeterReading]:
    """Yield the windows of every endpoint of the account, but not those that only questions like this one use."""
    for said, windows in _members(decoded(response, dict[str, Any])):
        endpoint = _endpoint(said)
        for window, figures in _members(windows):
            if endpoint and not endpoint.startswith("usage_stats/") and window in _WINDOWS:
                yield MeterReading(f"{endpoint} per {window}", "requests", *_figures(figures, 1))


def _members(said: Any) -> list[tuple[str, Any]]:
    return list(said.items()) if isinstance(said, dict) else []


def _endpoint(said: str) -> str:
    """Return an endpoint as requests name it, from a JSON list in a text: `["api/v1/people", "match"]`."""
    try:
        parts = msgspec.json.decode(said, type=list[Any])
    except ValueError:
        return ""
    return "/".join(map(text, parts)).removeprefix("api/v1/")


def _figures(said: Any, scale: int) -> tuple[int | None, int | None, int | None]:
    """Return what was used of how much, and what is left: the smaller figure where `left_over` does not add up."""
    usage = record(said, Usage)
    used, amount = quantity(usage.consumed, scale), quantity(usage.limit, scale)
    reckoned = None if used is None or amount is None else max(0, amount - used)
    left = [figure for figure in (quantity(usage.left_over, scale), reckoned) if figure is not None]
    return used, amount, min(left, default=None)


def _health(said: Health) -> Reading:
    if said.is_logged_in is True:
        return Reading(Status.COMPLETE, FREE)
    return refused(Status.UNAUTHORIZED, "Apollo does not know this key (auth/health: not logged in)", Retry.STOP)


def _refusal(response: Response) -> Reading:
    said = _complaint(response)
    error = f"HTTP {response.status}: {said or 'no reason given'}"
    match response.status:
        case 401:
            return refused(Status.UNAUTHORIZED, error, Retry.STOP)
        case 403:
            return refused(Status.UNAUTHORIZED, error, Retry.STOP)
        case 422 if "insufficient credits" in said.lower():
            return refused(Status.QUOTA_EXCEEDED, error, Retry.STOP)
        case status if 400 <= status < 500:
            return refused(Status.FAILED, error)
    return unreadable(error)


def _complaint(response: Response) -> str:
    """Return what a refusal says; a bad key is refused in plain text."""
    said = decoded(response, Complaint)
    return response.text().strip() if said is None else said.words


def _person(said: ApolloPerson) -> Person:
    employer = record(said.organization, Organization)
    return Person(
        first_name=text(said.first_name),
        last_name=text(said.last_name),
        full_name=text(said.name),
        company=text(employer.name),
        domain=text(employer.primary_domain),
        email=text(said.email),
        linkedin_url=text(said.linkedin_url),
        apollo_id=text(said.id),
    )


def _found(asked: Person, said: ApolloPerson) -> Iterator[Found]:
    """Yield what may be stored; an address that Apollo guessed rather than verified is not one.

    The name is stored only of somebody whom a search found, of whom it showed half; others were asked about by it.
    """
    if said.email_status == "verified" and text(said.email) not in ("", _PLACEHOLDER):
        yield Found(Field.WORK_EMAIL, text(said.email), 90)
    employer = record(said.organization, Organization)
    plain = {
        Field.FULL_NAME: text(said.name) if asked.is_half_named else "",
        Field.TITLE: text(said.title),
        Field.SENIORITY: text(said.seniority),
        Field.LINKEDIN_URL: text(said.linkedin_url),
        Field.LOCATION: ", ".join(filter(None, map(text, (said.city, said.state, said.country)))),
        Field.COMPANY: text(employer.name),
        Field.COMPANY_DOMAIN: text(employer.primary_domain),
        Field.INDUSTRY: text(employer.industry),
        Field.EMPLOYEES: number(employer.estimated_num_employees),
        Field.REVENUE_USD: number(employer.annual_revenue),
        Field.TICKER: text(employer.publicly_traded_symbol),
        Field.PERSONAL_EMAIL: first_text(said.personal_emails),
    }
    yield from (Found(field, value, 70) for field, value in plain.items() if value not in ("", None))
