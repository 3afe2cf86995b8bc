"""What each provider's answers must mean: a table of cases, and two ways to run one.

A case is an answer (status, headers, body) and what must be made of it (outcome, charge, what may be done next). It is
run as a value, and again over real HTTP, given by the sandbox exactly as written.
"""

from __future__ import annotations

import base64
import csv
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date
from operator import le
from typing import TYPE_CHECKING, Any

import msgspec

from sluiceway.errors import LostAnswer, ProviderChanged
from sluiceway.outcome import FAILURES, UNKNOWN_CHARGE, ChargeKind, Status
from sluiceway.prospect import Match, Person, Want
from sluiceway.sandbox.people import people_csv
from sluiceway.sandbox.scenario import SHIPPED
from sluiceway.sources._contract import Reading, Request, Response, Retry, Skip, Source, Subject, understand
from sluiceway.sources._http import Door
from sluiceway.sources.testing import check_reading

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sluiceway.sandbox.process import SandboxProcess

INES = Person(
    first_name="Ines", last_name="Okafor-Lind", company="Harbourline Robotics", domain="harbourline.example",
    email="ines@harbourline.example",
)  # fmt: skip


def about(person: Person = INES, *, want: tuple[Want, ...] = (Want.WORK_EMAIL,), **findings: Any) -> Subject:
    """Somebody to ask about."""
    return Subject(person, want, date(2026, 11, 24), findings)


@dataclass(frozen=True)
class Means:
    """What an answer must be taken to mean; `None` for credits and usd means unknown, as it does everywhere."""

    status: Status
    charge: ChargeKind
    credits: dict[str, int] | None
    usd: int | None
    retry: Retry = Retry.NEVER
    retry_after: float | None = None
    says: str = ""
    match: Match = Match.EXACT
    fields: dict[str, Any] = field(default_factory=dict)
    without: tuple[str, ...] = ()
    tokens: tuple[int | None, int | None] = (None, None)
    data: Any = None


def free(status: Status, retry: Retry = Retry.NEVER, **more: Any) -> Means:
    """An answer that was not counted."""
    return Means(status, ChargeKind.FREE, {}, 0, retry, **more)


def paid(status: Status, *, usd: int | None, pools: dict[str, int] | None = None, **more: Any) -> Means:
    """An answer that was counted."""
    return Means(status, ChargeKind.BILLED, pools or {}, usd, **more)


def unknown(status: Status = Status.FAILED, **more: Any) -> Means:
    """An answer that may have been counted."""
    return Means(status, ChargeKind.UNKNOWN, None, None, **more)


@dataclass(frozen=True)
class Case:
    """One answer, and what it means. `subject` is for answers whose meaning depends on what was asked."""

    name: str
    status: int
    body: Any
    means: Means
    headers: dict[str, str] = field(default_factory=dict)
    subject: Subject | None = None

    @property
    def content(self) -> bytes:
        """The body's bytes: as they are, a text in UTF-8, anything else as JSON."""
        match self.body:
            case bytes():
                return self.body
            case str():
                return self.body.encode()
        return msgspec.json.encode(self.body)

    def __str__(self) -> str:
        return self.name


HTML = "<!DOCTYPE html><html><head><title>Welcome</title></head><body>It works!</body></html>"


def unreadable(whole: bytes) -> list[Case]:
    """A 200 that cannot be read may have been counted, whoever sent it. `whole` is a good answer, to be broken."""
    half = len(whole) // 2
    bodies: dict[str, bytes] = {
        "malformed JSON": b"{'not': JSON}",
        "a truncated body": whole[:half],
        "a web page": HTML.encode(),
        "bytes that are not UTF-8": whole.replace(b"Harbourline", b"\xff\xfe\xff"),
        "an empty body": b"",
        "a list": b"[]",
        "null": b"null",
        "a bare text": b'"OK"',
        "JSON nested beyond reason": b'{"person": ' + b"[" * 3_000,
    }
    return [Case(f"200 with {what}", 200, content, unknown()) for what, content in bodies.items()]


def anywhere(*, but: Iterable[int] = ()) -> list[Case]:
    """Statuses that mean the same at every provider; `but` leaves some to the provider's own table."""
    waits = free(Status.RATE_LIMITED, Retry.BACKOFF, retry_after=7.0)
    passes = free(Status.FAILED, Retry.BACKOFF)
    cases = [
        Case("429 with a wait", 429, "{}", waits, {"retry-after": "7"}),
        Case("429 without a wait", 429, HTML, free(Status.RATE_LIMITED, Retry.BACKOFF)),
        Case("500", 500, "{}", passes),
        Case("502 from a gateway", 502, HTML, passes),
        Case("503 with a wait", 503, "", free(Status.FAILED, Retry.BACKOFF, retry_after=30.0), {"retry-after": "30"}),
        Case("504 says nothing about the work", 504, HTML, unknown(Status.TIMED_OUT)),
        Case("529", 529, b"\xff\xfe", passes),
        Case("599", 599, "{}", unknown()),
        Case("204 is no answer we know", 204, "", unknown()),
        Case("302 is not followed", 302, "", unknown(), {"location": "https://login.example/"}),
        Case("404 from somewhere else", 404, HTML, free(Status.FAILED)),
        Case("418", 418, "{}", free(Status.FAILED)),
        Case("a refusal that is not UTF-8", 451, b"\xff\xfe\xff", free(Status.FAILED)),
    ]
    return [case for case in cases if case.status not in but]


def confirmed(cases: Iterable[Case]) -> list[Case]:
    """The cases a provider counts."""
    return [case for case in cases if case.means.charge is ChargeKind.BILLED]


def names(cases: list[Case]) -> list[str]:
    """Test ids; a table may not hold two cases of one name."""
    ids = [case.name for case in cases]
    assert len(ids) == len(set(ids)), "two cases have the same name"
    return ids


def asked(source: Source, subject: Subject) -> Request:
    """The request a source makes about somebody it does not skip."""
    request = source.request(subject)
    assert not isinstance(request, Skip), request
    return request


def read(source: Source, case: Case, subject: Subject) -> Reading:
    """Read a case's answer as the pipeline would."""
    subject = case.subject or subject
    request = asked(source, subject)
    response = Response(case.status, case.headers, case.content)
    check_reading(source, subject, request, response)
    reading = understand(source, subject, request, response)
    within(reading, request)
    return reading


async def read_over_http(source: Source, case: Case, subject: Subject, sandbox: SandboxProcess) -> Reading:
    """Have the sandbox give a case's answer, and read what arrives."""
    subject = case.subject or subject
    request = asked(source, subject)
    sandbox.post("/_answer", {
        "provider": source.provider,
        "status": case.status,
        "headers": case.headers,
        "body_base64": base64.b64encode(case.content).decode(),
    })  # fmt: skip
    async with Door() as door:
        response = await door.send(source, request, sandbox.url + source.sandbox[request.host], 10.0)
    assert (response.status, response.body) == (case.status, case.content)
    return understand(source, subject, request, response)


def somebody(count: int, **findings: Any) -> list[Subject]:
    """So many people of the sandbox's world, spelled as unevenly as real lists are."""
    rows = csv.DictReader(people_csv(count))
    return [about(Person(**{name: row[name] for name in row if name != "tenant"}), **findings) for row in rows]


async def ask_all(source: Source, subjects: list[Subject], sandbox: SandboxProcess) -> list[Reading]:
    """Ask the sandbox about everybody the source does not skip; an answer that is lost may have been counted."""
    readings = []
    async with Door() as door:
        for subject in subjects:
            request = source.request(subject)
            if isinstance(request, Skip):
                continue
            try:
                response = await door.send(source, request, sandbox.url + source.sandbox[request.host], 5.0)
            except (LostAnswer, ProviderChanged) as error:
                readings.append(Reading(Status.UNKNOWN, UNKNOWN_CHARGE, str(error)))
            else:
                readings.append(check_reading(source, subject, request, response))
    return readings


BAD_DAY = """
description = "Everything that can go wrong with an answer, often."
[edgar]
limit = 0
""" + "".join(f"[[fault]]\nkind = '{kind}'\nchance = 0.06\n{more}\n" for kind, more in (
    ("rate-limited", "retry_after_s = 1"), ("status", "status = 500"), ("status", "status = 503"),
    ("status", "status = 504"), ("reset-before", ""), ("reset-after", ""), ("truncated", ""), ("malformed", ""),
    ("not-utf8", ""), ("html", ""),
))  # fmt: skip


@contextmanager
def a_bad_day(sandbox: SandboxProcess) -> Iterator[None]:
    """Let the sandbox's answers go wrong for a while."""
    sandbox.post("/_scenario", BAD_DAY)
    try:
        yield
    finally:
        sandbox.post("/_scenario", (SHIPPED / "calm.toml").read_text())


def agrees_with_meter(source: Source, readings: list[Reading], sandbox: SandboxProcess) -> None:
    """Hold the provider's own meter against what we counted: between what is sure and what may be."""
    meter = sandbox.meter()["providers"][source.provider]
    billed = [reading.charge for reading in readings if reading.charge.kind is ChargeKind.BILLED]
    unclear = sum(reading.charge.kind is ChargeKind.UNKNOWN for reading in readings)
    assert meter["requests"] == len(readings)
    assert len(billed) <= meter["billed"] <= len(billed) + unclear
    counted = (
        len(billed),
        sum(charge.milli_credits or 0 for charge in billed),
        sum(charge.usd_micros or 0 for charge in billed),
    )
    metered = (meter["billed"], meter["credits"], meter["usd_micros"])
    assert counted == metered if not unclear else all(map(le, counted, metered))


def within(reading: Reading, request: Request) -> None:
    """What an answer cost is never more than what was reserved for its request."""
    for pool, milli_credits in (reading.charge.credits or {}).items():
        assert milli_credits <= request.price.credits[pool]
    if reading.charge.usd_micros is not None and request.price.usd_micros is not None:
        assert reading.charge.usd_micros <= request.price.usd_micros


def agrees(reading: Reading, means: Means) -> None:
    """Compare what was made of an answer with what it means."""
    found = {item.field.value: item.value for item in reading.found}
    assert (reading.status, reading.charge.kind) == (means.status, means.charge), reading.error
    assert (reading.charge.credits, reading.charge.usd_micros) == (means.credits, means.usd)
    assert (reading.charge.tokens_in, reading.charge.tokens_out) == means.tokens
    assert (reading.retry, reading.retry_after) == (means.retry, means.retry_after)
    assert reading.match is means.match
    assert bool(reading.error) == (reading.status in FAILURES)
    assert means.says in (reading.error or "")
    assert {name: found.get(name) for name in means.fields} == means.fields
    assert not found.keys() & set(means.without)
    if means.data is not None:
        assert reading.data == means.data
