"""What holds for every source, ours and anyone's: the contract, checked on samples and on whatever Hypothesis finds."""

from __future__ import annotations

import subprocess
import sys
from datetime import date
from typing import Any, ClassVar

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sluiceway.outcome import UNKNOWN_CHARGE, Charge, ChargeKind, Status, billed
from sluiceway.prospect import Field, Found, Match, Person, Want
from sluiceway.sources import all_sources
from sluiceway.sources._contract import (
    METER,
    MeterReading,
    Price,
    Reading,
    Request,
    Response,
    Retry,
    Skip,
    Source,
    Subject,
    understand,
)
from sluiceway.sources.testing import (
    BrokenContract,
    check_asking,
    check_conversation,
    check_manifest,
    check_meter_reading,
    check_source,
    sample_responses,
    sample_subjects,
)

SOURCES = list(all_sources().values())
TEXTS = st.text(max_size=40) | st.sampled_from(
    ["Ines Okafor-Lind", "Harbourline Robotics, Inc.", "王 小明", "a@b.example"]
)
PEOPLE = st.builds(
    Person,
    first_name=TEXTS,
    last_name=TEXTS,
    full_name=TEXTS,
    company=TEXTS,
    domain=TEXTS | st.sampled_from(["harbourline.example", "https://www.x.example/a?b=c#d", "..", "//"]),
    email=TEXTS | st.emails(),
    linkedin_url=TEXTS | st.sampled_from(["https://linkedin.com/in/ines", "linkedin.com/in/%F0%9F%98%80", "in/"]),
    title=TEXTS,
    apollo_id=TEXTS | st.sampled_from(["66f0a1b2c3d4e5f60718293a", "../match?id=1"]),
)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)
SUBJECTS = st.builds(
    Subject,
    person=PEOPLE,
    want=st.lists(st.sampled_from(Want), unique=True).map(tuple),
    today=st.dates(date(2020, 1, 1), date(2040, 1, 1)),
    findings=st.dictionaries(
        st.sampled_from(["apollo", "exa", "edgar"]), st.dictionaries(st.sampled_from(Field), JSON)
    ),
)
# Bodies with the names that readers look for, and anything at all behind them.
NAMES = """
person organization name title email email_status personal_emails profile company status_code message experience phone
work_email url results text highlights publishedDate costDollars total requestId content type stop_reason usage
input_tokens output_tokens error details filings recent hits 0 ticker cik_str usage period end count quota remaining
credit_usage_stats lead_credit _credit limit consumed left_over current_credit_cycle end_date day minute
["api/v1/people","match"]
""".split()
SHAPED = st.dictionaries(
    st.sampled_from(NAMES),
    st.recursive(
        JSON, lambda inner: st.dictionaries(st.sampled_from(NAMES), inner, max_size=5) | st.lists(inner, max_size=3)
    ),
    max_size=6,
)
BODIES = st.binary(max_size=80) | JSON.map(msgspec.json.encode) | SHAPED.map(msgspec.json.encode)
RESPONSES = st.builds(
    Response,
    status=st.sampled_from([200, 404, 429]) | st.integers(200, 599),
    headers=st.dictionaries(st.sampled_from(["content-type", "retry-after", "request-id"]), st.text(max_size=12)),
    body=BODIES,
)

everyone = pytest.mark.parametrize("source_class", SOURCES, ids=[source.name for source in SOURCES])
thorough = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])


@everyone
def test_every_source_keeps_the_contract(source_class: type[Source]) -> None:
    check_source(source_class)


@everyone
def test_every_source_of_ours_can_be_played_by_the_sandbox(source_class: type[Source]) -> None:
    assert source_class.sandbox.keys() == source_class.hosts.keys()
    assert all(path.startswith(f"/{source_class.provider}") for path in source_class.sandbox.values())


@everyone
def test_wanting_what_a_source_cannot_find_does_not_make_it_be_asked_again(source_class: type[Source]) -> None:
    source, subject = source_class("key"), next(sample_subjects())
    wants = [Want.PHONE] if Field.PHONE not in source_class.finds else []
    other = msgspec.structs.replace(subject, want=(*subject.want, *wants))
    assert source.subject_key(subject) == source.subject_key(other)


@everyone
@thorough
@given(SUBJECTS)
def test_every_source_asks_or_skips_whoever_the_person_is(source_class: type[Source], subject: Subject) -> None:
    check_asking(source_class, subject)


@everyone
@thorough
@given(SUBJECTS, RESPONSES)
def test_every_source_reads_or_refuses_whatever_it_is_sent(
    source_class: type[Source], subject: Subject, response: Response
) -> None:
    check_conversation(source_class, subject, response)


@everyone
@thorough
@given(data=st.data(), status=st.integers(200, 599), body=BODIES)
def test_every_source_reads_meters_off_anything_and_never_raises(
    source_class: type[Source], data: st.DataObject, status: int, body: bytes
) -> None:
    values = st.text(max_size=12) | st.integers(-5, 10**20).map(str) | st.datetimes().map(str)
    headers = data.draw(st.dictionaries(st.sampled_from(source_class.meter_headers or ("x",)), values))
    source, response = source_class("key"), Response(status, headers, body)
    for request in (Request("people", "GET", "/people"), *source.meter_requests(date(2026, 11, 24))):
        readings = source.read_meter(request, response) if request.role == METER else source.meters(request, response)
        for reading in readings:
            check_meter_reading(source.name, reading)


class Tidy(Source):
    """A source that keeps the contract, for the tests below to spoil."""

    name: ClassVar[str] = "tidy"
    provider = "tidy"
    title = "Tidy"
    finds = (Field.TITLE,)
    hosts: ClassVar = {"": "https://api.tidy.example"}
    docs_url = "https://tidy.example/docs"
    reading: ClassVar[Reading] = Reading(Status.NO_DATA, billed(usd_micros=5))
    asked: ClassVar[Request | Skip] = Request("people", "GET", "/people", price=Price(usd_micros=5))

    def headers(self) -> dict[str, str]:
        return {"x-api-key": self.credential}

    def price(self, want: tuple[Want, ...]) -> Price:
        return Price(usd_micros=5)

    def request(self, subject: Subject) -> Request | Skip:
        return self.asked

    def read(self, subject: Subject, request: Request, response: Response) -> Reading:
        if response.status != 200:
            raise ValueError("no idea")
        return self.reading


A_METER_THAT_COSTS = Request("usage", "GET", "/usage", price=Price(usd_micros=5), role=METER)


def shows(reading: MeterReading) -> Any:
    """A source's `meters` that says this of whatever it is sent."""
    return lambda self, request, response: (reading,)


def test_a_source_that_keeps_the_contract_is_not_complained_about() -> None:
    check_source(Tidy)


@pytest.mark.parametrize(
    ("spoilt", "complaint"),
    [
        ({"name": "Not A Word"}, "lower-case word"),
        ({"title": ""}, "title is missing"),
        ({"docs_url": "http://tidy.example"}, "docs_url"),
        ({"finds": ("shoe_size",)}, "shoe_size"),
        ({"finds": ()}, "finds"),
        ({"pace": 0.0}, "pace"),
        ({"hosts": {"": "http://api.tidy.example"}}, "https"),
        ({"sandbox": {"other": "/tidy"}}, "hosts' names"),
        ({"sandbox": {"": "tidy/"}}, "sandbox path"),
        ({"asked": Skip(" ")}, "why"),
        ({"asked": Request("people", "DELETE", "/people")}, "DELETE"),
        ({"asked": Request("people", "GET", "people")}, "slash"),
        ({"asked": Request("people", "GET", "/people", host="elsewhere")}, "elsewhere"),
        ({"asked": Request("", "GET", "/people")}, "endpoint"),
        ({"asked": Request("people", "GET", "/people", price=Price(usd_micros=-1))}, "micro-dollars"),
        ({"reading": Reading(Status.FAILED, billed())}, "without an error"),
        ({"reading": Reading(Status.CACHED, billed())}, "not how an answer can end"),
        ({"reading": Reading(Status.FAILED, billed(), "no", retry=Retry.BACKOFF)}, "retried, not free"),
        ({"reading": Reading(Status.COMPLETE, billed(), retry=Retry.STOP)}, "stopped"),
        ({"reading": Reading(Status.COMPLETE, billed(), match=Match.WEAK)}, "weak"),
        ({"reading": Reading(Status.COMPLETE, Charge(ChargeKind.FREE))}, "free"),
        ({"reading": Reading(Status.COMPLETE, Charge(ChargeKind.UNKNOWN, {}, 0))}, "not zero"),
        ({"reading": Reading(Status.COMPLETE, billed(usd_micros=-1))}, "not negative"),
        ({"reading": Reading(Status.COMPLETE, billed(), found=(Found(Field.PHONE, "1"),))}, "not in finds"),
        ({"reading": Reading(Status.COMPLETE, billed(), found=(Found(Field.TITLE, ""),))}, "found nothing"),
        ({"reading": Reading(Status.COMPLETE, billed(), found=(Found(Field.TITLE, "x", 101),))}, "confidence"),
        ({"reading": Reading(Status.COMPLETE, billed(), data=object())}, "plain JSON"),
        ({"meter_headers": ("X-Left",)}, "lower case"),
        ({"meter_requests": lambda self, today: (Request("usage", "GET", "/usage"),)}, "role METER"),
        ({"meter_requests": lambda self, today: (A_METER_THAT_COSTS,)}, "is free"),
        ({"meters": lambda self, request, response: 1 / 0}, "meters must not raise"),
        ({"meters": shows(MeterReading("", "usd"))}, "without a name"),
        ({"meters": shows(MeterReading("calls", "calls"))}, "a meter's unit"),
        ({"meters": shows(MeterReading("calls", "requests"))}, "not how a meter of requests is called"),
        ({"meters": shows(MeterReading("lead", "credits"))}, "not how a meter of credits is called"),
        ({"meters": shows(MeterReading("cost", "usd", used=-1))}, "whole and not negative"),
        ({"meters": shows(MeterReading("cost", "usd", used=1, error="no"))}, "has no figures"),
        ({"meters": shows(MeterReading("cost", "usd", error=" "))}, "must say why"),
        ({"meters": shows(MeterReading("cost", "usd", resets_at="tomorrow"))}, "not a moment"),
        ({"meters": shows(MeterReading("cost", "usd", summed=True))}, "needs `used`"),
    ],
)
def test_a_broken_contract_is_told_in_a_sentence(spoilt: dict[str, Any], complaint: str) -> None:
    with pytest.raises(BrokenContract, match=complaint):
        check_source(type("Spoilt", (Tidy,), spoilt))


def test_a_credential_in_a_request_is_found() -> None:
    class Leaky(Tidy):
        def request(self, subject: Subject) -> Request:
            return Request("people", "GET", "/people", (("api_key", self.credential),))

    with pytest.raises(BrokenContract, match="credential"):
        check_asking(Leaky, next(sample_subjects()))


def test_a_bill_for_a_refusal_is_found() -> None:
    class Greedy(Tidy):
        def read(self, subject: Subject, request: Request, response: Response) -> Reading:
            return self.reading

    with pytest.raises(BrokenContract, match="billed without a confirmed answer"):
        check_source(Greedy)


def test_a_source_that_never_comes_to_an_end_is_found() -> None:
    class Endless(Tidy):
        def ask(self, subject: Subject) -> Any:
            while True:
                yield self.asked

    with pytest.raises(BrokenContract, match="more than"):
        check_conversation(Endless, next(sample_subjects()), next(sample_responses()))


@pytest.mark.parametrize(
    ("status", "charge", "retry"),
    [
        (200, ChargeKind.UNKNOWN, Retry.NEVER),
        (302, ChargeKind.UNKNOWN, Retry.NEVER),
        (418, ChargeKind.FREE, Retry.NEVER),
        (429, ChargeKind.FREE, Retry.BACKOFF),
        (503, ChargeKind.FREE, Retry.BACKOFF),
        (504, ChargeKind.UNKNOWN, Retry.NEVER),
        (599, ChargeKind.UNKNOWN, Retry.NEVER),
    ],
)
def test_an_answer_that_makes_a_source_raise_is_one_that_cannot_be_read(
    status: int, charge: ChargeKind, retry: Retry
) -> None:
    class Confused(Tidy):
        def read(self, subject: Subject, request: Request, response: Response) -> Reading:
            raise RecursionError("too deep")

    subject = next(sample_subjects())
    reading = understand(Confused(), subject, Request("people", "GET", "/people"), Response(status, {}, b"?"))
    assert (reading.charge.kind, reading.retry) == (charge, retry)
    assert "RecursionError: too deep" in (reading.error or "")
    assert charge is not ChargeKind.UNKNOWN or reading.charge == UNKNOWN_CHARGE


def test_checking_a_source_needs_no_test_framework() -> None:
    program = (
        "import sys, sluiceway.sources.testing; sys.exit(any(name in sys.modules for name in ('pytest', 'hypothesis')))"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_a_manifest_is_checked_alone() -> None:
    check_manifest(Tidy)
