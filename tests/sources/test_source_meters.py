"""What providers' answers say of their own meters, source by source."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Any

import msgspec
import pytest

from sluiceway.outcome import FREE, ChargeKind, Status
from sluiceway.prospect import Person
from sluiceway.sandbox.process import SandboxProcess
from sluiceway.sources import METER, MeterReading, Request, Response, Retry, Source, Subject, quantity, reset_after
from sluiceway.sources._contract import metered, understand
from sluiceway.sources._http import Door
from sluiceway.sources.apollo import Apollo
from sluiceway.sources.claude import Claude
from sluiceway.sources.contactout import ContactOut
from sluiceway.sources.edgar import Edgar
from sluiceway.sources.exa import Exa

TODAY = date(2026, 11, 24)
NOBODY = Subject(Person(), (), TODAY)
MATCH = Request("people/match", "POST", "/people/match")
CREDITS, REQUESTS = Apollo().meter_requests(TODAY)
(STATS,) = ContactOut().meter_requests(TODAY)


def said(source: Source, request: Request, body: Any = None, *, status: int = 200, **headers: str) -> Any:
    """What an answer says of the meters, by the meter's name."""
    content = body if isinstance(body, bytes) else msgspec.json.encode(body)
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return {reading.meter: reading for reading in metered(source, request, Response(status, named, content))}


def figures(readings: Mapping[str, MeterReading]) -> dict[str, tuple[int | None, int | None, int | None]]:
    return {name: (reading.used, reading.amount, reading.remaining) for name, reading in readings.items()}


# Apollo: headers.

MINUTE = {"x_rate_limit_minute": "200", "x_minute_usage": "3", "x_minute_requests_left": "197"}
HOUR = {"x_rate_limit_hourly": "400", "x_hourly_usage": "12", "x_hourly_requests_left": "388"}
DAY = {"x_rate_limit_24_hour": "2000", "x_24_hour_usage": "41", "x_24_hour_requests_left": "1959"}


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        (
            {**MINUTE, **HOUR, **DAY},
            {
                "people/match per minute": (3, 200, 197),
                "people/match per hour": (12, 400, 388),
                "people/match per day": (41, 2000, 1959),
            },
        ),
        ({"x_rate_limit_hourly": "", **MINUTE}, {
            "people/match per minute": (3, 200, 197), "people/match per hour": (None, None, None),
        }),
        ({}, {}),
        (
            {"x_rate_limit_minute": "plenty", "x_minute_usage": "-3", "x_minute_requests_left": "1e999"},
            {"people/match per minute": (None, None, None)},
        ),
        ({"x_rate_limit_minute": "9" * 30, "x_minute_usage": "0"}, {"people/match per minute": (0, None, None)}),
    ],
    ids=["all nine", "no limit is not a limit of zero", "none, as on a 401", "nonsense", "beyond reason"],
)  # fmt: skip
def test_the_headers_of_apollo_tell_of_the_endpoint_that_answered(
    headers: dict[str, str], expected: dict[str, Any]
) -> None:
    readings = said(Apollo(), MATCH, {}, **headers)
    assert figures(readings) == expected
    assert all(reading.unit == "requests" and reading.error is None for reading in readings.values())


# Apollo: questions.

CYCLE = {"start_date": "2026-11-10", "end_date": "2026-12-09"}


def pool(limit: Any, consumed: Any, left_over: Any) -> dict[str, Any]:
    return {"limit": limit, "consumed": consumed, "left_over": left_over}


def test_the_credits_of_apollo_are_its_pools_until_the_cycle_ends() -> None:
    stats = {"lead_credit": pool(1000, 37.5, 962.5), "export_credit": pool(0, 0, 0), "ai_credit": pool(5, 1, 4)}
    readings = said(Apollo(), CREDITS, {"credit_usage_stats": stats, "current_credit_cycle": CYCLE})
    assert figures(readings) == {
        "lead credits": (37_500, 1_000_000, 962_500), "ai credits": (1000, 5000, 4000),
    }  # fmt: skip
    assert {reading.resets_at for reading in readings.values()} == {"2026-12-10T00:00:00.000Z"}


def test_the_requests_of_apollo_are_told_by_endpoint_and_the_smaller_rest_is_believed() -> None:
    windows = {"day": pool(2000, 37, 2000), "hour": pool(400, 11, 389), "century": pool(1, 1, 0)}
    usage = {'["api/v1/people", "match"]': windows, '["api/v1/usage_stats", "api_usage_stats"]': windows, "?": windows}
    assert figures(said(Apollo(), REQUESTS, usage)) == {
        "people/match per day": (37, 2000, 1963), "people/match per hour": (11, 400, 389),
    }  # fmt: skip


def test_a_key_of_apollo_that_may_not_see_the_credits_is_told_so_and_has_no_figures() -> None:
    refusal = {"error": "This API key is not authorized to access api/v1/usage_stats", "error_code": "API_INACCESSIBLE"}
    readings = said(Apollo(), CREDITS, refusal, status=403)
    assert figures(readings) == {"lead credits": (None, None, None)}
    assert "HTTP 403: This API key is not authorized" in readings["lead credits"].error
    assert said(Apollo(), REQUESTS, refusal, status=403) == {}, "its headers tell as much"


@pytest.mark.parametrize("status", [429, 500, 503, 504])
@pytest.mark.parametrize(("source", "request_"), [(Apollo(), CREDITS), (Apollo(), REQUESTS), (ContactOut(), STATS)])
def test_a_provider_in_trouble_says_nothing_of_its_meter(source: Source, request_: Request, status: int) -> None:
    assert said(source, request_, b"<html>", status=status) == {}


# ContactOut.

POST_PAID = {
    "count": 120, "quota": 1000, "remaining": 880, "over_quota": 0,
    "phone_count": 14, "phone_quota": 200, "phone_remaining": 186, "phone_over_quota": 0,
    "search_count": 310, "search_quota": 5000, "search_remaining": 4690, "search_over_quota": 0,
}  # fmt: skip
PRE_PAID = {
    "count": 120, "quota": 880, "phone_count": 14, "phone_quota": 186, "search_count": 310, "search_quota": 4690,
}  # fmt: skip
NOVEMBER = {"start": "2026-11-01", "end": "2026-11-30"}


def stats(usage: Any, period: Any = NOVEMBER, status: int = 200) -> dict[str, Any]:
    return {"status_code": status, "period": period, "usage": usage}


def test_a_post_paid_account_at_contactout_tells_what_was_used_of_how_much_this_month() -> None:
    readings = said(ContactOut(), STATS, stats(POST_PAID))
    assert figures(readings) == {
        "search credits": (310_000, 5_000_000, 4_690_000),
        "email credits": (120_000, 1_000_000, 880_000),
        "phone credits": (14_000, 200_000, 186_000),
    }
    assert {reading.resets_at for reading in readings.values()} == {"2026-12-01T00:00:00.000Z"}


def test_a_pre_paid_account_at_contactout_tells_only_what_is_left() -> None:
    readings = said(ContactOut(), STATS, stats(PRE_PAID))
    assert figures(readings) == {
        "search credits": (None, None, 4_690_000),
        "email credits": (None, None, 880_000),
        "phone credits": (None, None, 186_000),
    }
    assert {reading.resets_at for reading in readings.values()} == {None}


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (
            200,
            stats({"count": 0, "quota": 200, "remaining": 200}, {"start": "2023-04-01", "end": "2023-04-30"}),
            "canned",
        ),
        (400, {"status_code": 400, "message": "Bad credentials"}, "HTTP 400: Bad credentials"),
        (403, {"status_code": 403, "message": "No access to endpoint"}, "HTTP 403: No access"),
        (200, {"status_code": 403, "message": "No access to endpoint"}, "HTTP 403: No access"),
    ],
    ids=["the canned month", "a bad key", "no access", "no access, in the body alone"],
)
def test_a_key_of_contactout_without_access_is_told_so_for_every_pool(status: int, body: Any, error: str) -> None:
    readings = said(ContactOut(), STATS, body, status=status)
    assert set(readings) == {"search credits", "email credits", "phone credits"}
    assert all(error in reading.error and reading.remaining is None for reading in readings.values())


def test_the_question_to_contactout_names_the_month() -> None:
    assert STATS.query == (("period", "2026-11"),)


# Exa and Claude.


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (200, {"results": [], "costDollars": {"total": 0.007}}, 7000),
        (200, {"results": [], "costDollars": {"total": "0.0125"}}, 12_500),
        (200, {"results": [], "costDollars": {"total": -1}}, None),
        (200, {"results": [], "costDollars": {"total": 1e300}}, None),
        (200, {"results": [], "costDollars": 7}, None),
        (200, {"results": []}, None),
        (200, b"<html>", None),
        (402, {"costDollars": {"total": 0.007}}, None),
    ],
)
def test_an_answer_of_exa_tells_what_it_cost_alone(status: int, body: Any, expected: int | None) -> None:
    readings = said(Exa(), Request("search", "POST", "/search"), body, status=status)
    assert [(r.used, r.unit, r.summed) for r in readings.values()] == ([(expected, "usd", True)] if expected else [])


def allowances(**changed: str) -> dict[str, str]:
    """The twelve headers."""
    plain = {"limit": "50", "remaining": "49", "reset": "2026-11-24T10:00:31Z"} | changed
    names = ("requests", "tokens", "input-tokens", "output-tokens")
    return {f"anthropic-ratelimit-{name}-{figure}": value for name in names for figure, value in plain.items()}


def test_the_twelve_headers_of_claude_are_four_meters() -> None:
    readings = said(Claude(), Request("messages", "POST", "/v1/messages"), {}, status=429, **allowances())
    assert figures(readings) == dict.fromkeys(
        ("requests per minute", "tokens per minute", "input tokens per minute", "output tokens per minute"),
        (None, 50, 49),
    )
    assert [reading.unit for reading in readings.values()] == ["requests", "tokens", "tokens", "tokens"]
    assert {reading.resets_at for reading in readings.values()} == {"2026-11-24T10:00:31.000Z"}


def test_a_reset_of_claude_that_is_no_moment_is_not_told() -> None:
    readings = said(Claude(), Request("messages", "POST", "/v1/messages"), {}, **allowances(reset="soon"))
    assert {reading.resets_at for reading in readings.values()} == {None}


def test_what_has_no_meter_says_nothing() -> None:
    assert said(Edgar(), MATCH, {}) == {}
    assert Edgar().meter_requests(TODAY) == Exa().meter_requests(TODAY) == Claude().meter_requests(TODAY) == ()


# How a question ends.


@pytest.mark.parametrize(
    ("status", "body", "ends", "charge"),
    [
        (200, stats(POST_PAID), Status.COMPLETE, ChargeKind.FREE),
        (200, b"<html>", Status.FAILED, ChargeKind.FREE),
        (403, {"message": "No access to endpoint"}, Status.UNAUTHORIZED, ChargeKind.FREE),
        (429, {}, Status.RATE_LIMITED, ChargeKind.FREE),
        (500, {}, Status.FAILED, ChargeKind.FREE),
        (504, {}, Status.TIMED_OUT, ChargeKind.UNKNOWN),
    ],
)
def test_a_question_about_a_meter_costs_nothing_and_stops_nobody(
    status: int, body: Any, ends: Status, charge: ChargeKind
) -> None:
    content = body if isinstance(body, bytes) else msgspec.json.encode(body)
    reading = understand(ContactOut(), NOBODY, STATS, Response(status, {"retry-after": "3600"}, content))
    assert (reading.status, reading.charge.kind) == (ends, charge)
    assert (reading.retry, reading.retry_after) == (Retry.NEVER, None)


@pytest.mark.parametrize("source_class", [Apollo, ContactOut])
async def test_the_sandbox_answers_every_question_about_a_meter(
    source_class: type[Source], sandbox: SandboxProcess
) -> None:
    source = source_class("sandbox-key")
    async with Door() as door:
        for request in source.meter_requests(TODAY):
            response = await door.send(source, request, sandbox.url + source.sandbox[""], 5.0)
            reading = understand(source, NOBODY, request, response)
            assert (request.role, reading.status, reading.charge) == (METER, Status.COMPLETE, FREE)
    assert sandbox.meter()["providers"][source.provider]["billed"] == 0


# Figures.


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (3, 3), ("3", 3), (" 3 ", 3), (2.6, 3), (0, 0), ("", None), (None, None), (True, None), ([], None), (-1, None),
        ("nan", None), ("inf", None), ("1e999999999", None), (10**16, None), ("three", None),
    ],
)  # fmt: skip
def test_a_figure_is_whole_not_negative_and_within_reason_or_not_told(value: Any, expected: int | None) -> None:
    assert quantity(value) == expected


@pytest.mark.parametrize(
    ("last_day", "expected"),
    [
        ("2026-11-30", "2026-12-01T00:00:00.000Z"), ("2026-12-31T23:59:59Z", "2027-01-01T00:00:00.000Z"),
        ("9999-12-31", None), ("", None), (None, None), ("soon", None), (7, None),
    ],
)  # fmt: skip
def test_a_period_ends_when_its_last_day_does(last_day: Any, expected: str | None) -> None:
    assert reset_after(last_day) == expected
