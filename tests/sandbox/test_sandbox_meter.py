"""Whatever goes wrong on the way back, the meter knows what was spent."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st
from talk import Got, Talk

from sluiceway.sandbox.meter import Asked, Cost, DigestSet, Meter, digest_of
from sluiceway.sandbox.world import Person

Someone = Callable[..., Person]


async def _match_under(talk: Talk, person: Person, fault: str) -> Got | None:
    """Ask Apollo once while this goes wrong; None if no whole answer came."""
    await talk.play(f"[[fault]]\n{fault}")
    try:
        return await talk.match(email=person.email)
    except (aiohttp.ClientError, TimeoutError):
        return None


@pytest.mark.parametrize(
    ("fault", "answered"),
    [
        ('kind = "reset-after"', 0),
        ('kind = "truncated"', 0),
        ('kind = "malformed"', 1),
        ('kind = "not-utf8"', 1),
        ('kind = "html"', 1),
        ('kind = "huge"\nmegabytes = 1', 1),
        ('kind = "time-out"\nhold_s = 0.05', 1),
        ('kind = "status"\nstatus = 504\nbilled_chance = 1', 1),
    ],
)
async def test_what_fails_after_the_work_is_billed(talk: Talk, someone: Someone, fault: str, answered: int) -> None:
    await _match_under(talk, someone(), fault)
    meter = await talk.meter("apollo")
    assert (meter["requests"], meter["answered"], meter["billed"], meter["credits"]) == (1, answered, 1, 1000)


@pytest.mark.parametrize(
    ("fault", "status"),
    [
        ('kind = "reset-before"', None),
        ('kind = "rate-limited"', 429),
        ('kind = "status"\nstatus = 500', 500),
        ('kind = "status"\nstatus = 503', 503),
        ('kind = "status"\nstatus = 504\nbilled_chance = 0', 504),
        ('kind = "revoked"', 401),
        ('kind = "no-scope"', 403),
        ('kind = "out-of-credits"', 422),
    ],
)
async def test_what_fails_before_the_work_is_not(talk: Talk, someone: Someone, fault: str, status: int | None) -> None:
    got = await _match_under(talk, someone(), fault)
    meter = await talk.meter("apollo")
    assert (got and got.status) == status
    assert (meter["requests"], meter["billed"], meter["usd_micros"]) == (1, 0, 0)
    assert meter["by_status"] == ({} if status is None else {str(status): 1})


async def test_an_answer_held_for_ever_is_billed_though_the_client_gives_up(talk: Talk, someone: Someone) -> None:
    await talk.play('[[fault]]\nkind = "time-out"')
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(talk.match(email=someone().email), 0.2)
    meter = await talk.meter("apollo")
    assert (meter["requests"], meter["answered"], meter["billed"]) == (1, 0, 1)


async def test_a_miss_that_is_truncated_costs_as_little_as_a_whole_one(talk: Talk, someone: Someone) -> None:
    await _match_under(talk, someone(in_apollo=False), 'kind = "truncated"')
    assert (await talk.meter("apollo"))["billed"] == 0


async def test_damaged_bodies_are_damaged_in_the_way_they_say(talk: Talk, someone: Someone) -> None:
    malformed = await _match_under(talk, someone(), 'kind = "malformed"')
    assert malformed is not None
    with pytest.raises(json.JSONDecodeError):
        json.loads(malformed.body)
    foreign = await _match_under(talk, someone(), 'kind = "not-utf8"')
    assert foreign is not None
    with pytest.raises(UnicodeDecodeError):
        foreign.body.decode()
    page = await _match_under(talk, someone(), 'kind = "html"')
    assert page is not None
    assert (page.status, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    huge = await _match_under(talk, someone(), 'kind = "huge"\nmegabytes = 3')
    assert huge is not None
    assert len(huge.body) > 3 << 20


async def test_the_same_paid_request_again_is_a_repeat_and_a_different_one_is_not(talk: Talk, someone: Someone) -> None:
    person = someone()
    await talk.match(email=person.email, domain=person.company.domain)
    await talk.match(domain=person.company.domain, email=person.email)  # the order is no difference
    await talk.match(email=person.email)
    await talk.match(key="sandbox-other", email=person.email)
    unknown = someone(in_apollo=False)
    await talk.match(email=unknown.email)
    await talk.match(email=unknown.email)  # never billed, so never repeated
    reading = await talk.meter()
    assert (reading["repeated_requests"], reading["repeated_billed"]) == (1, 1)
    await talk.exa("/search", {"query": "x", "type": "auto"})
    await talk.exa("/search", {"type": "auto", "query": "x"})
    assert (await talk.meter("exa"))["repeated_requests"] == 1


async def test_free_and_public_requests_are_never_repeats(talk: Talk) -> None:
    for _ in range(3):
        await talk.edgar("/www/files/company_tickers.json")
        await talk.apollo("/usage_stats/api_usage_stats")
    assert (await talk.meter())["repeated_requests"] == 0


async def test_a_reset_meter_has_forgotten_everything(talk: Talk, someone: Someone) -> None:
    await talk.match(email=someone().email)
    await talk.send("POST", "/_meter/reset")
    await talk.match(email=someone().email)
    reading = await talk.meter()
    assert reading["repeated_requests"] == 0
    assert reading["providers"]["apollo"]["requests"] == 1


async def test_the_meter_shows_all_five_providers_from_the_start(talk: Talk) -> None:
    reading = await talk.meter()
    assert list(reading["providers"]) == ["apollo", "contactout", "exa", "edgar", "claude"]
    assert reading["providers"]["contactout"]["pools"] == {"search": 0, "email": 0, "phone": 0}


@given(st.lists(st.integers(0, 2**64 - 1)), st.integers(0, 2**64 - 1))
def test_the_compact_set_remembers_exactly_what_was_added(digests: list[int], other: int) -> None:
    compact = DigestSet()
    for digest in [*digests, *digests]:
        compact.add(digest)
    assert all(digest in compact for digest in digests)
    assert (other in compact) == (other in digests)


@given(st.dictionaries(st.text(), st.integers() | st.text()))
def test_a_request_is_the_same_whatever_the_order_of_its_keys(body: dict[str, object]) -> None:
    forward = json.dumps(body).encode()
    backward = json.dumps(dict(reversed(body.items())), indent=2).encode()
    one, other = (Asked("POST", "/x", "a=1&b=2", text, "key") for text in (forward, backward))
    assert digest_of("exa", one) == digest_of("exa", other)


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 9000), st.integers(0, 10**6)), max_size=20))
def test_told_costs_add_up(costs: list[tuple[bool, int, int]]) -> None:
    meter = Meter()
    for index, (counted, credits_used, usd) in enumerate(costs):
        meter.received("exa")
        asked = Asked("POST", "/search", "", str(index).encode(), "key")
        meter.told("exa", asked, wrote=200, cost=Cost(counted, usd, credits_used))
    column = meter.reading()["providers"]["exa"]
    assert column["requests"] == column["answered"] == len(costs)
    assert column["billed"] == sum(counted for counted, _, _ in costs)
    assert column["credits"] == sum(credits_used for _, credits_used, _ in costs)
    assert column["usd_micros"] == sum(usd for _, _, usd in costs)
