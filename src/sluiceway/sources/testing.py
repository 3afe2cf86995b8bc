"""Check that a source keeps the contract; for the tests of anyone who writes one.

`check_source(MySource)` asks about many people and answers with everything a provider has ever been seen to send. It
needs no network and no test framework, and raises `BrokenContract` with a sentence that says what to mend. It cannot
know what your provider's answers mean: a table of those, like the ones in this project's `tests/sources/`, is yours
to write.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import date
from itertools import product
from typing import Any, Final

import msgspec

from sluiceway.outcome import ANSWERED, FAILURES, Charge, ChargeKind, Status
from sluiceway.prospect import Field, Found, Match, Person, Want
from sluiceway.sources._contract import (
    METER,
    SEARCH,
    FoundPage,
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
    converse,
    understand,
)

_MARK: Final = "sluiceway-contract-7f3a9c51@key.example"
_OTHER_MARK: Final = "sluiceway-contract-0b8d2e64@key.example"
_LABEL: Final = re.compile(r"[a-z][a-z0-9_]*")
_ENDS: Final = (ANSWERED | FAILURES) - {Status.CACHED, Status.CIRCUIT_OPEN}
_LONGEST_CONVERSATION: Final = 500
_TODAY: Final = date(2026, 11, 24)
_METER_NAMES: Final = {"requests": r".+ per \w+", "credits": r".+ credits", "usd": ".+", "tokens": ".+"}
_MOMENT: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


class BrokenContract(AssertionError):  # noqa: N818 - an assertion about someone's code, and it reads as what it is
    """A source does not keep the contract; the text says which part of it."""


def check_source(source_class: type[Source]) -> None:
    """Raise `BrokenContract` if a source breaks any rule that can be checked without knowing its provider."""
    check_manifest(source_class)
    check_meters(source_class)
    check_searches(source_class)
    for subject in sample_subjects():
        check_asking(source_class, subject)
        for response in sample_responses():
            check_conversation(source_class, subject, response)


def check_manifest(source_class: type[Source]) -> None:
    """Check the class attributes that other rooms rely on."""
    name = getattr(source_class, "name", "")
    _hold(bool(_LABEL.fullmatch(name)), f"{source_class.__name__}.name must be a lower-case word, not {name!r}")
    for attribute in ("provider", "title", "hosts"):
        _hold(bool(getattr(source_class, attribute, None)), f"{name}: {attribute} is missing")
    _hold(source_class.docs_url.startswith("https://"), f"{name}: docs_url must be the https address of a page")
    _hold(bool(source_class.finds), f"{name}: finds must name the fields it can fill")
    unknown = [field for field in source_class.finds if field not in set(Field)]
    _hold(not unknown, f"{name}: finds has {unknown}, which no prospect has")
    _hold(source_class.pace > 0, f"{name}: pace must be above zero")
    _hold(source_class.timeout_s > 0, f"{name}: timeout_s must be above zero")
    _check_hosts(name, source_class)
    _check_credential(name, source_class)


def _check_hosts(name: str, source_class: type[Source]) -> None:
    for url in source_class.hosts.values():
        _hold(
            url.startswith("https://") and not url.endswith("/"), f"{name}: {url!r} must be https, without a slash last"
        )
    if source_class.sandbox:
        _hold(source_class.sandbox.keys() == source_class.hosts.keys(), f"{name}: sandbox must have the hosts' names")
    for path in source_class.sandbox.values():
        _hold(path.startswith("/") and not path.endswith("/"), f"{name}: the sandbox path {path!r} must be like /name")


def _check_credential(name: str, source_class: type[Source]) -> None:
    needs = source_class.needs
    if needs is None:
        return
    _hold(bool(re.fullmatch(r"[A-Z][A-Z0-9_]*", needs.variable)), f"{name}: {needs.variable!r} is no variable's name")
    _hold(bool(needs.hint.strip()), f"{name}: needs.hint must say where to get the credential")
    carried = " ".join(source_class(_MARK).headers().values())
    _hold(_MARK in carried, f"{name}: headers() does not carry the credential")
    _hold("\n" not in carried and "\r" not in carried, f"{name}: a header must be one line")


def check_asking(source_class: type[Source], subject: Subject) -> Request | Skip:
    """Check the first request about someone, and return it; skipping is always allowed, raising never."""
    name = source_class.name
    asked = _first(source_class(_MARK), subject)
    if isinstance(asked, Skip):
        _hold(bool(asked.reason.strip()), f"{name}: a skip must say why")
        return asked
    again = _first(source_class(_OTHER_MARK), subject)
    if not isinstance(again, Request) or again.key(source_class.provider) != asked.key(source_class.provider):
        raise BrokenContract(f"{name}: the same person must give the same request, whatever the credential")
    check_request(source_class, asked)
    return asked


def check_request(source_class: type[Source], request: Request) -> None:
    """Check one request: well-formed, priced, and without the credential, which only `headers` may carry."""
    name = source_class.name
    _hold(bool(request.endpoint.strip()), f"{name}: a request needs an endpoint, its name in the ledger")
    _hold(request.method in ("GET", "POST"), f"{name}: {request.method!r} is not a method we send")
    _hold(request.path.startswith("/"), f"{name}: the path {request.path!r} must begin with a slash")
    _hold(request.host in source_class.hosts, f"{name}: there is no host {request.host!r} in the manifest")
    everything = msgspec.json.encode((request.path, request.query, dict(request.headers), request.endpoint))
    _hold(_MARK.encode() not in everything + (request.body or b""), f"{name}: the credential is in the request itself")
    _check_price(name, request.price)


def _check_price(name: str, price: Price) -> None:
    _hold(_is_amount(price.usd_micros), f"{name}: a price is whole micro-dollars, or None where unknown")
    _hold(all(map(_is_amount, price.credits.values())), f"{name}: credits are whole milli-credits")


def check_conversation(source_class: type[Source], subject: Subject, response: Response) -> None:
    """Check that a source which is always given this one answer reads it soundly, and comes to an end."""
    source = source_class(_MARK)
    asked = 0

    def answer(request: Request) -> Reading:
        nonlocal asked
        asked += 1
        _hold(asked <= _LONGEST_CONVERSATION, f"{source.name}: asks more than {_LONGEST_CONVERSATION} times")
        check_request(source_class, request)
        return check_reading(source, subject, request, response)

    converse(source.ask(subject), answer)


def check_reading(source: Source, subject: Subject, request: Request, response: Response) -> Reading:
    """Check what is made of one answer, and return it."""
    reading = understand(source, subject, request, response)
    about = f"{source.name}, given HTTP {response.status} {response.body[:60]!r}"
    _hold(reading.status in _ENDS, f"{about}: {reading.status} is not how an answer can end")
    failed = reading.status in FAILURES
    _hold(not failed or bool((reading.error or "").strip()), f"{about}: {reading.status} without an error")
    _hold(reading.retry is not Retry.BACKOFF or reading.charge.kind is ChargeKind.FREE, f"{about}: retried, not free")
    _hold(reading.retry is Retry.NEVER or failed, f"{about}: retried or stopped, and yet {reading.status}")
    _hold(reading.status is not Status.COMPLETE or reading.match is not Match.WEAK, f"{about}: complete, and yet weak")
    _check_charge(about, reading.charge, response)
    for found in reading.found:
        _check_found(about, source, found)
    _hold(_is_json(reading.data), f"{about}: data must be plain JSON")
    return reading


def check_searches(source_class: type[Source]) -> None:
    """Check what a source makes of searches, where it offers them."""
    source, name = source_class(_MARK), source_class.name
    for search in (Search(), Search(titles=("CFO",), keywords="Žofie & Söhne", page=500, per_page=100)):
        request = source.search_request(search)
        if request is None:
            return
        check_request(source_class, request)
        _hold(request.role == SEARCH, f"{name}: a search must have the role SEARCH")
        _hold(not request.shared, f"{name}: whom a tenant looks for is not shared")
        for response in sample_responses():
            _check_search(source, request, response)


def _check_search(source: Source, request: Request, response: Response) -> None:
    reading = check_reading(source, next(sample_subjects()), request, response)
    if reading.status in (Status.COMPLETE, Status.NO_DATA):
        try:
            msgspec.convert(reading.data, FoundPage)
        except msgspec.ValidationError as error:
            raise BrokenContract(f"{source.name}: the data of a search must be a FoundPage ({error})") from error


def check_meters(source_class: type[Source]) -> None:
    """Check what a source makes of its provider's own meters: whatever it is sent, it never raises."""
    source, name = source_class(_MARK), source_class.name
    _hold(all(h == h.lower() for h in source.meter_headers), f"{name}: meter_headers must be in lower case")
    asked = source.meter_requests(_TODAY)
    for request in asked:
        check_request(source_class, request)
        _hold(request.role == METER, f"{name}: a request for a meter must have the role METER")
        _hold(not request.price.paid and not request.shared, f"{name}: a request for a meter is free, and not shared")
    ordinary = Request("people", "GET", "/people", host=next(iter(source.hosts)))
    for response in sample_responses(source.meter_headers):
        for request in (ordinary, *asked):
            _check_metered(source, request, response)


def _check_metered(source: Source, request: Request, response: Response) -> None:
    about = f"{source.name}, given HTTP {response.status} {response.body[:60]!r}"
    method = "read_meter" if request.role == METER else "meters"
    try:
        readings = getattr(source, method)(request, response)
    except Exception as error:
        raise BrokenContract(f"{about}: {method} must not raise, and raised {error!r}") from error
    for reading in readings:
        check_meter_reading(about, reading)
    if request.role == METER:
        charge = understand(source, next(sample_subjects()), request, response).charge
        _hold(charge.kind is not ChargeKind.BILLED, f"{about}: billed, and yet only for a meter")


def check_meter_reading(about: str, reading: MeterReading) -> None:
    """Check one reading of a meter: its name, its unit, and its figures. `about` begins the sentence that complains."""
    figures = (reading.used, reading.amount, reading.remaining)
    _hold(bool(reading.meter.strip()), f"{about}: a meter without a name")
    _hold(reading.unit in _METER_NAMES, f"{about}: a meter's unit is one of {', '.join(_METER_NAMES)}")
    named = re.fullmatch(_METER_NAMES.get(reading.unit, ""), reading.meter, re.DOTALL)
    _hold(bool(named), f"{about}: {reading.meter!r} is not how a meter of {reading.unit} is called")
    _hold(all(map(_is_amount, figures)), f"{about}: a meter's figures are whole and not negative, or None")
    _hold(reading.error is None or bool(reading.error.strip()), f"{about}: a meter's error must say why")
    _hold(reading.error is None or figures == (None, None, None), f"{about}: a meter that is not told has no figures")
    moment = reading.resets_at is None or bool(_MOMENT.fullmatch(reading.resets_at))
    _hold(moment, f"{about}: {reading.resets_at!r} is not a moment such as 2026-11-24T00:00:00.000Z")
    _hold(not reading.summed or reading.used is not None, f"{about}: what is summed needs `used`")


def _check_charge(about: str, charge: Charge, response: Response) -> None:
    amounts = (charge.usd_micros, charge.tokens_in, charge.tokens_out, *(charge.credits or {}).values())
    _hold(all(map(_is_amount, amounts)), f"{about}: amounts are whole and not negative, or None where unknown")
    match charge.kind:
        case ChargeKind.BILLED:
            _hold(200 <= response.status < 300, f"{about}: billed without a confirmed answer")
        case ChargeKind.FREE:
            _hold(charge.credits == {} and charge.usd_micros == 0, f"{about}: free, and yet it cost something")
        case ChargeKind.UNKNOWN:
            _hold(charge.usd_micros is None, f"{about}: an unknown charge has no amount; that is None, not zero")
        case ChargeKind.NOT_SENT:
            raise BrokenContract(f"{about}: answered, and yet not sent")


def _check_found(about: str, source: Source, found: Found) -> None:
    _hold(found.field in source.finds, f"{about}: found {found.field}, which is not in finds")
    _hold(found.value not in ("", None, [], {}), f"{about}: found nothing for {found.field}, and says it did")
    _hold(0 <= found.confidence <= 100, f"{about}: a confidence goes from 0 to 100")
    _hold(_is_json(found.value), f"{about}: what was found for {found.field} must be plain JSON")


def _first(source: Source, subject: Subject) -> Request | Skip:
    try:
        asked = next(source.ask(subject))
        return asked[0] if isinstance(asked, tuple) else asked
    except StopIteration as ended:
        if isinstance(ended.value, Skip):
            return ended.value
        raise BrokenContract(f"{source.name}: came to a result without asking anything") from None


def sample_subjects() -> Iterator[Subject]:
    """Yield people of every kind we are asked about: complete, sparse, foreign, malformed."""
    names = ("Ines Okafor-Lind", "", "Žofie Łęcka-Çelik", "Madonna", "王 小明", 'O"Brien\\ \x00& Söhne' * 20)
    employers = (("Harbourline Robotics, Inc.", "harbourline.example"), ("", ""), ("", "https://www.x.example/a?b=c"))
    keys = (("", ""), ("ines@harbourline.example", "https://linkedin.com/in/ines"), ("not an address", "/company/x"))
    for name, (company, domain), (email, linkedin) in product(names, employers, keys):
        person = Person(full_name=name, company=company, domain=domain, email=email, linkedin_url=linkedin)
        yield Subject(person, (Want.WORK_EMAIL,), _TODAY, {"apollo": {"title": name}} if name else {})
    split = Person(first_name="Ines", last_name="Okafor-Lind", company="Quell Holdings")
    yield Subject(split, tuple(Want), _TODAY)
    yield Subject(Person(first_name="Mary Ann", company="Quell", apollo_id="66f0a1b2c3d4e5f60718293a"), (), _TODAY)
    yield Subject(split, (), _TODAY, {"apollo": {"title": "CFO", "revenue_usd": 96_000_000}})


_STATUSES: Final = (200, 201, 204, 302, 400, 401, 402, 403, 404, 409, 413, 418, 422, 429, 500, 502, 503, 504, 529, 599)
_BODIES: Final = (
    b"",
    b"{}",
    b"[]",
    b"null",
    b"true",
    b'"text"',
    b"0",
    b'{"a": ',
    b'{"person": {"name": "\xff\xfe"}}',
    b'\xef\xbb\xbf{"person": null}',
    b"<!DOCTYPE html><html><body>Bad Gateway</body></html>",
    b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>',
    b"[" * 5_000,
    b'{"person": [], "profile": [], "results": {}, "content": 7, "hits": [], "filings": null}',
    b'{"person": {}, "profile": {}, "results": [{}, 7, null], "content": [{}], "hits": {"hits": [{}]}}',
    b'{"person": 1, "profile": "x", "results": null, "content": null, "costDollars": [], "usage": 3}',
    b'{"error": {"type": [], "message": {}, "details": 5}, "message": 4, "status_code": "200", "tag": []}',
    b'{"error": "no", "message": "no", "status_code": 99999999999999}',
    b'{"usage": {"count": -1, "quota": "x", "remaining": []}, "period": 7, "costDollars": {"total": 1e300}}',
    b'{"people": [{}, 7, null, {"id": []}, {"id": "66f0", "organization": 3, "title": {}}], "total_entries": "many"}',
    b'{"people": {"id": "66f0"}, "total_entries": -1}',
    b'{"credit_usage_stats": {"lead_credit": 3}, "current_credit_cycle": [], "[]": {"day": {"limit": null}}, "?": 1}',
)


def sample_responses(meter_headers: tuple[str, ...] = ()) -> Iterator[Response]:
    """Yield answers of every kind we have seen, and some nobody should send; these headers among them, if any."""
    for status, content in product(_STATUSES, _BODIES):
        yield Response(status, {"content-type": "application/json"}, content)
    for value in ("", "200", "-1", "nan", "1e999", "a few", "2026-11-24T10:00:00Z", "9" * 400) if meter_headers else ():
        yield Response(200, dict.fromkeys(meter_headers, value), b"{}")
    for wait in ("30", "-1", "nan", "1e999", "Wed, 21 Oct 2026 07:28:00 GMT"):
        yield Response(429, {"retry-after": wait}, b"{}")


def _is_amount(value: Any) -> bool:
    return value is None or (isinstance(value, int) and not isinstance(value, bool) and value >= 0)


def _is_json(value: Any) -> bool:
    match value:
        case None | bool() | int() | float() | str():
            return True
        case list() | tuple():
            return all(map(_is_json, value))
        case Mapping():
            return all(isinstance(name, str) and _is_json(held) for name, held in value.items())
    return False


def _hold(holds: bool, otherwise: str) -> None:
    if not holds:
        raise BrokenContract(otherwise)
