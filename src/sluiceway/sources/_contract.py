"""What a source is: a manifest, a way to ask, and a way to read the answer, with no I/O of its own.

Most sources need one answer and write two methods, `request` and `read`. A source that needs several (EDGAR) writes
`ask`, a generator that yields each `Request` (or several at once) and is sent the `Reading` of its answer. Sending,
pacing, recording and retrying belong to the pipeline; a source that was interrupted is simply asked again, and
requests whose answers are already in the ledger are not sent a second time.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Mapping
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import StrEnum
from functools import lru_cache
from hashlib import blake2b
from traceback import format_exception_only
from typing import Any, ClassVar, Final, TypeVar

import msgspec

from sluiceway.outcome import FREE, UNKNOWN_CHARGE, Charge, Status, timestamp
from sluiceway.prospect import Found, Match, Person, Want

T = TypeVar("T")
_LONGEST_WAIT: Final = 366 * 86_400.0  # seconds; a provider that names a longer one has sent nonsense
_MOST_ON_A_METER: Final = 10**15

METER: Final = "meter"
"""The role of a request for a provider's own meter; it costs nothing, and is about nobody."""

SEARCH: Final = "people_search"
"""The role of a search for people; it belongs to no prospect."""


class Retry(StrEnum):
    """What may be done after an answer that did not help.

    `STOP` condemns the key or the account: no more requests go to the provider until someone mends it.
    """

    NEVER = "never"
    BACKOFF = "backoff"
    STOP = "stop"


class Price(msgspec.Struct, frozen=True, gc=False):
    """The most one request can cost: milli-credits by pool, and micro-dollars (`None` where unknown)."""

    credits: dict[str, int] = {}
    usd_micros: int | None = 0

    @property
    def paid(self) -> bool:
        """Whether asking can cost anything at all."""
        return bool(self.credits) or self.usd_micros != 0


class Credential(msgspec.Struct, frozen=True):
    """What a source needs to be allowed to ask: an environment variable, and where to get it."""

    variable: str
    hint: str
    secret: bool = True


class Request(msgspec.Struct, frozen=True, gc=False):
    """One request, without its credential.

    `endpoint` names it in the ledger; `path` is appended to the base URL of `host`. A `shared` request is about
    nobody in particular: its answer is kept for everyone and is not asked again for `fresh_for` seconds (`None`:
    the document never changes). `role` tells a source that makes several kinds of request which one this is.
    """

    endpoint: str
    method: str
    path: str
    query: tuple[tuple[str, str], ...] = ()
    body: bytes | None = None
    headers: Mapping[str, str] = {}
    host: str = ""
    price: Price = Price()
    shared: bool = False
    fresh_for: float | None = None
    role: str = ""

    def key(self, provider: str) -> str:
        """Return the digest that makes two requests the same: provider, method, host, path and parameters."""
        parameters = msgspec.msgpack.encode(
            (provider, self.method, self.host, self.path, sorted(self.query), self.body)
        )
        return blake2b(parameters, digest_size=16).hexdigest()


class Response(msgspec.Struct, frozen=True, gc=False):
    """A complete answer: status, headers (names in lower case) and the whole body."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """Decode the body; raises `msgspec.DecodeError` when it is not JSON."""
        return msgspec.json.decode(self.body)

    def text(self) -> str:
        """Return the start of the body as text, for an error message; more of it than is ever kept.

        What is hidden in a message is hidden whole, so the cut that matters is made after that, by `describe`.
        """
        return self.body[:20_000].decode("utf-8", "replace")

    @property
    def retry_after(self) -> float | None:
        """Seconds the provider asks us to wait, where it says so in seconds."""
        try:
            return min(max(0.0, float(self.headers["retry-after"])), _LONGEST_WAIT)
        except (KeyError, ValueError):
            return None


class Reading(msgspec.Struct, frozen=True, gc=False):
    """What one answer said: its outcome, its charge, and what may be done next.

    `found` fills fields when `match` is sure; `data` is whatever the source itself needs to go on, or what a person
    would want to read later, as plain JSON. `error` is the provider's own words, redacted later at one place.
    """

    status: Status
    charge: Charge
    error: str | None = None
    found: tuple[Found, ...] = ()
    match: Match = Match.EXACT
    data: Any = None
    retry: Retry = Retry.NEVER
    retry_after: float | None = None
    request_id: str | None = None


class MeterReading(msgspec.Struct, frozen=True, gc=False):
    """What a provider says of one of its own meters; `None` where it does not say.

    `unit` is `requests`, `credits`, `usd` or `tokens`: requests and tokens are counted, credits are milli-credits,
    dollars micro-dollars. A meter of credits is called `<pool> credits`, the pool as charges name it; one of requests
    `<endpoint> per <window>`, the endpoint as requests name it, or `requests per <window>` where all count together.
    `used` of `amount` leaves `remaining`, until `resets_at` (a stored moment). One that is `summed` is this answer's
    alone, and the answers of a UTC day are added up. `error` says why the meter may not be read.
    """

    meter: str
    unit: str
    used: int | None = None
    amount: int | None = None
    remaining: int | None = None
    resets_at: str | None = None
    error: str | None = None
    summed: bool = False


class Subject(msgspec.Struct, frozen=True, gc=False):
    """What a source is told: the person, what may be bought, today's UTC date, and what other sources found."""

    person: Person
    want: tuple[Want, ...]
    today: date
    findings: Mapping[str, Any] = {}


class EmployeeRange(msgspec.Struct, frozen=True):
    """How many people an employer has: from `least` to `most`, both included."""

    least: int
    most: int


class Search(msgspec.Struct, frozen=True):
    """Whom to look for: people who are everything that is said here, and of each list at least one.

    `keywords` may be anywhere in what is known of them. Pages are counted from 1.
    """

    titles: tuple[str, ...] = ()
    similar_titles: bool = True
    keywords: str = ""
    locations: tuple[str, ...] = ()
    seniorities: tuple[str, ...] = ()
    organization_locations: tuple[str, ...] = ()
    organization_domains: tuple[str, ...] = ()
    employees: tuple[EmployeeRange, ...] = ()
    page: int = 1
    per_page: int = 25


class FoundPerson(msgspec.Struct, frozen=True):
    """Somebody a search found, without contact data; `None` is what was not said.

    `last_name_obfuscated` (`Ok***d`) is only to be looked at: it names nobody.
    """

    apollo_id: str
    first_name: str = ""
    last_name_obfuscated: str = ""
    title: str = ""
    company: str = ""
    has_email: bool | None = None
    has_direct_phone: bool | None = None
    refreshed_at: str | None = None


class FoundPage(msgspec.Struct, frozen=True):
    """One page of a search, and how many people there are on all of them."""

    total: int | None
    people: tuple[FoundPerson, ...]


class Skip(msgspec.Struct, frozen=True):
    """Nothing is asked, and why; shown to a person, so a short phrase."""

    reason: str


Asked = Request | tuple[Request, ...]
"""One request, or several that may be sent at once."""

Asking = Generator[Asked, Any, Reading | Skip]
"""A source's side of a conversation: it yields what it asks and is sent the reading, or for several a tuple of their
readings in the same order; it returns its last word."""


def converse(asking: Asking, answer: Callable[[Request], Reading]) -> Reading | Skip:
    """Hold a conversation in which every request is answered on the spot, as tests do; returns the last word."""
    try:
        asked = next(asking)
        while True:
            said = tuple(map(answer, asked)) if isinstance(asked, tuple) else answer(asked)
            asked = asking.send(said)
    except StopIteration as stop:
        last: Reading | Skip = stop.value
        return last


class Source(ABC):
    """A provider's data about people. Subclasses fill in the manifest and write `request` and `read`.

    Manifest, all class attributes: `name` (in columns and the ledger), `provider` (whose meter counts), `title`,
    `needs`, `finds`, `pace` (requests per second over all hosts), `timeout_s`, `hosts` (base URL by host name, `""`
    where there is only one), `sandbox` (the same hosts' paths below a sandbox's URL), `after_others` (asked when the
    other sources have closed), `docs_url`; `meter_headers` (in lower case) are kept for `meters` beside the few that
    every answer brings.
    """

    name: ClassVar[str]
    provider: ClassVar[str]
    title: ClassVar[str]
    needs: ClassVar[Credential | None] = None
    finds: ClassVar[tuple[str, ...]] = ()
    pace: ClassVar[float] = 10.0
    timeout_s: ClassVar[float] = 20.0
    hosts: ClassVar[Mapping[str, str]]
    sandbox: ClassVar[Mapping[str, str]] = {}
    after_others: ClassVar[bool] = False
    meter_headers: ClassVar[tuple[str, ...]] = ()
    docs_url: ClassVar[str] = ""

    credential_id: str | None = None
    """Which tenant's own credential this is asked with; `None` for the platform's."""

    def __init__(self, credential: str = "", options: Mapping[str, str] | None = None) -> None:
        self.credential = credential
        self.options = options or {}

    @property
    def account(self) -> str:
        """With whom we speak: the provider; for a tenant's own credential, the provider and that credential."""
        return f"{self.provider}/{self.credential_id}" if self.credential_id else self.provider

    @property
    def asked_as(self) -> str:
        """The source's name; for a tenant's own credential, with that credential."""
        return f"{self.name}/{self.credential_id}" if self.credential_id else self.name

    @abstractmethod
    def headers(self) -> Mapping[str, str]:
        """Return the headers every request carries, the credential among them."""

    @abstractmethod
    def price(self, want: tuple[Want, ...]) -> Price:
        """Return the most that one prospect can cost."""

    def request(self, subject: Subject) -> Request | Skip:
        """Build the one request about this person, or say why nothing is asked."""
        # Not abstract: a source that writes `ask` has no one request, and is never asked for it.
        raise NotImplementedError(f"{type(self).__name__} must define request(), or ask() if it needs several answers")

    @abstractmethod
    def read(self, subject: Subject, request: Request, response: Response) -> Reading:
        """Read an answer. Anything this raises is taken as an answer that cannot be read."""

    def ask(self, subject: Subject) -> Asking:
        """Yield each request, receive each reading, return the last word. The default asks once."""
        request = self.request(subject)
        if isinstance(request, Skip):
            return request
        reading: Reading = yield request
        return reading

    def subject_key(self, subject: Subject) -> str:
        """Return what makes two askings the same: `what is wanted|who is asked about`.

        Only what this source can find counts as wanted from it.
        A complete answer is not bought again while the first part is the same; that nothing was found holds only for
        exactly the same person, because one more known fact may find them.
        """
        wanted = "+".join(sorted(want for want in subject.want if want.value in self.finds))
        return f"{wanted}|{_digest(subject.person)}"

    def read_file(self, document: bytes, status: int = 200) -> Any:
        """Read a saved answer, as JSON, the way `read` would have; for a person who looks at a changed payload."""
        subject = Subject(Person(), tuple(Want), datetime.now(UTC).date(), {"saved": {"answer": True}})
        return self.read(subject, Request("saved", "GET", ""), Response(status, {}, document))

    def search_request(self, search: Search) -> Request | None:
        """Return a request of the role `SEARCH` that looks for people, or `None` where the provider has none."""
        return None

    def read_search(self, request: Request, response: Response) -> Reading:
        """Read the answer to a search: like `read`, with a `FoundPage` as its `data`, in plain JSON."""
        # Not abstract: most sources have no search, and only one that has is ever asked to read its answer.
        raise NotImplementedError(f"{type(self).__name__} must define read_search(), for it has a search_request()")

    def check(self) -> Request | None:
        """Return a request that proves the credential and costs nothing, or `None` where the provider has none.

        Its answer is read by `read` like any other: `complete` and free when the credential works.
        """
        return None

    def meters(self, request: Request, response: Response) -> tuple[MeterReading, ...]:
        """Return what an answer to an ordinary request says of the provider's own meters; called for every answer."""
        return ()

    def meter_requests(self, today: date) -> tuple[Request, ...]:
        """Return requests of the role `METER`, which ask for the provider's own meters and cost nothing."""
        return ()

    def read_meter(self, request: Request, response: Response) -> tuple[MeterReading, ...]:
        """Read the answer to one of `meter_requests`; a refusal is a reading with an `error`."""
        return ()


@lru_cache(maxsize=64)  # all sources are told of a person at the same moment
def _digest(person: Person) -> str:
    return blake2b(msgspec.json.encode(person), digest_size=12).hexdigest()


def body(value: Any) -> bytes:
    """Encode a request body so that the same parameters always give the same bytes."""
    return msgspec.json.encode(value, order="sorted")


def refused(status: Status, error: str, retry: Retry = Retry.NEVER, *, retry_after: float | None = None) -> Reading:
    """Return the reading of an answer that was not counted and did not help."""
    return Reading(status, FREE, error, retry=retry, retry_after=retry_after)


def unreadable(error: str, status: Status = Status.FAILED) -> Reading:
    """Return the reading of an answer that may have been counted and cannot be read; it is never sent again blindly."""
    return Reading(status, UNKNOWN_CHARGE, error)


def understand(source: Source, subject: Subject, request: Request, response: Response) -> Reading:
    """Read an answer, whatever it is: when `read` raises, the answer is one that cannot be read.

    Never raises. A success that cannot be read may have been counted, so its charge is unknown; a refusal that
    cannot be read was still a refusal, and is free. This is how the pipeline reads every answer.
    """
    if request.role == METER:
        return _meter_answered(response, metered(source, request, response))
    try:
        if request.role == SEARCH:
            return source.read_search(request, response)
        return source.read(subject, request, response)
    except Exception as error:  # a provider may send anything, and whatever it sent has to be booked
        said = f"cannot be read: {format_exception_only(error)[-1].strip()}"
    if response.status >= 400:
        return trouble(response, said) or refused(Status.FAILED, f"HTTP {response.status}: {said}")
    return unreadable(f"HTTP {response.status}: {said}")


def metered(source: Source, request: Request, response: Response) -> tuple[MeterReading, ...]:
    """Return what an answer says of the provider's own meters. Never raises: what cannot be read says nothing."""
    try:
        read = source.read_meter if request.role == METER else source.meters
        return tuple(read(request, response))
    except Exception:  # a provider may send anything, and no call may fail for a figure beside its answer
        return ()


def _meter_answered(response: Response, readings: tuple[MeterReading, ...]) -> Reading:
    """Say how a request for a meter ended. It costs nothing, so what cannot be read is free as well."""
    if error := next((reading.error for reading in readings if reading.error), None):
        return refused(Status.UNAUTHORIZED, error)
    if readings and response.status < 300:
        return Reading(Status.COMPLETE, FREE)
    said = _words(response)
    reading = trouble(response, said) or refused(Status.FAILED, f"HTTP {response.status}: {said or 'no figures'}")
    # However long it asks us to wait, that is about this question; the provider goes on being asked about people.
    return msgspec.structs.replace(reading, retry=Retry.NEVER, retry_after=None)


class _Complaint(msgspec.Struct):
    error: Any = None
    message: Any = None


def _words(response: Response) -> str:
    """Return what a refusal says, in the envelopes that most use."""
    said = decoded(response, _Complaint)
    return (text(said.error) or text(said.message) if said else "") or response.text().strip()


def trouble(response: Response, said: str) -> Reading | None:
    """Read the statuses that mean the same at every provider: 429, and server trouble.

    429, 500, 502, 503 and 529 were answered and not counted, so they may be tried again; a gateway's 504 says
    nothing about whether the work was done. Returns `None` for any other status.
    """
    error = f"HTTP {response.status}: {said or 'no reason given'}"
    match response.status:
        case 429:
            return refused(Status.RATE_LIMITED, error, Retry.BACKOFF, retry_after=response.retry_after)
        case 500 | 502 | 503 | 529:
            return refused(Status.FAILED, error, Retry.BACKOFF, retry_after=response.retry_after)
        case 504:
            return unreadable(error, Status.TIMED_OUT)
        case status if status >= 500:
            return unreadable(error)
    return None


def decoded(response: Response, shape: type[T]) -> T | None:
    """Decode the body of a refusal, or return `None` where it is not JSON of that shape."""
    try:
        return msgspec.json.decode(response.body, type=shape)
    except (ValueError, RecursionError):  # not JSON, not UTF-8, another shape, or nested beyond reason
        return None


def record(value: Any, shape: type[T]) -> T:
    """Return a nested object as a struct of untyped leaves; an empty one where something else was sent.

    An employer that arrives as `[]` or as a bare name must not lose the rest of an answer that was paid for.
    """
    return msgspec.convert(value if isinstance(value, dict) else {}, shape)


def text(value: Any) -> str:
    """Return a leaf as text; nothing for null, and for a list or an object where text was expected."""
    if isinstance(value, str):
        return value.strip()
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else ""


def first_text(value: Any) -> str:
    """Return the first text of a list, or of a lone leaf."""
    items = value if isinstance(value, list) else [value]
    return next(filter(None, map(text, items)), "")


def number(value: Any) -> int | None:
    """Return a leaf as a whole number where it is one, written as a number or as text; else `None`."""
    try:
        return int(float(value)) if isinstance(value, int | float | str) and not isinstance(value, bool) else None
    except (ValueError, OverflowError):
        return None


def quantity(value: Any, scale: int = 1) -> int | None:
    """Return what a meter shows, times `scale`, as a whole number; `None` where it is none that a meter can show."""
    try:
        amount = Decimal(text(value)) * scale
        return int(amount.to_integral_value()) if 0 <= amount <= _MOST_ON_A_METER else None
    except ArithmeticError:  # not a number, `NaN`, which cannot be compared, or beyond reason
        return None


def reset_after(last_day: Any) -> str | None:
    """Return the moment at which a period ends whose last day is named; `None` where it is no day."""
    try:
        day = date.fromisoformat(text(last_day)[:10]) + timedelta(days=1)
        return timestamp(datetime.combine(day, time(), UTC))
    except (ValueError, OverflowError):
        return None
