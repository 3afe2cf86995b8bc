"""Providers' own meters, read beside the work: from a real sandbox, over HTTP, with the ledger of it."""

from __future__ import annotations

import asyncio
import csv
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import pytest
from desk import FOUND, Desk, Open

from builders import rows, until
from sluiceway.outcome import timestamp
from sluiceway.pipeline.caller import Budget
from sluiceway.pipeline.gate import TRIPS_AFTER, Cause, Exhausted, Held, Pause
from sluiceway.pipeline.turns import Behalf
from sluiceway.prospect import Person
from sluiceway.sandbox.people import people_csv
from sluiceway.sandbox.process import SandboxProcess
from sluiceway.sandbox.scenario import SHIPPED
from sluiceway.sources import Request, Subject
from sluiceway.store.schema import provider_meters
from sluiceway.usage.provider_meter import compare, latest, side_by_side
from sluiceway.usage.quota import Quota, QuotaClock, Unit, set_quota

_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))
BOTH = ("apollo", "contactout")


def people(count: int, start: int = 0) -> list[Person]:
    """People of the sandbox's world."""
    listed = csv.DictReader(people_csv(count, start=start))
    return [Person(**{name: value for name, value in row.items() if name != "tenant"}) for row in listed]


def spend_outside(at: Desk, key: str, *, start: int = 500, billed: int) -> None:
    """Be another program with the same key at Apollo, until so many people were found for it."""
    found = 0
    for person in people(300, start=start):
        query = urllib.parse.urlencode({"name": person.name, "organization_name": person.company})
        url = f"{at.sandbox.url}/apollo/api/v1/people/match?{query}"
        asked = urllib.request.Request(url, b"", {"x-api-key": key}, method="POST")
        with _DIRECT.open(asked, timeout=5) as answer:
            found += b'"person":{' in answer.read()
        if found == billed:
            return
    raise AssertionError("the world has too few people")


async def read(at: Desk) -> None:
    """Read every meter now, and store what it says."""
    reader = at.app.meter_reader()
    for source in at.app.sources.values():
        await reader.read(source)
    await reader.store()


def outside(at: Desk, meter: str, provider: str = "apollo") -> list[tuple[int, int]]:
    """What was used outside: at least, and at most."""
    with at.store.read() as connection:
        found = compare(connection, provider, meter, "2000-01-01T00:00:00.000Z", at.now()).outside
    return [(stretch.outside_least, stretch.outside_most) for stretch in found]


def surely_outside(at: Desk) -> dict[str, int]:
    """What every meter says was surely used outside, where anything was."""
    with at.store.read() as connection:
        besides = side_by_side(connection, "2000-01-01T00:00:00.000Z", at.now())
    found = {beside.theirs.meter: beside.compared.outside for beside in besides}
    return {meter: sum(stretch.outside_least for stretch in proof) for meter, proof in found.items() if proof}


def questions(at: Desk) -> list[dict[str, Any]]:
    """The attempts that asked for a meter."""
    return [attempt for attempt in at.attempts() if attempt["trigger"] == "meter"]


def last(at: Desk, meter: str) -> Any:
    """The last reading of a meter."""
    with at.store.read() as connection:
        return next(row for row in latest(connection) if row.meter == meter)


@contextmanager
def terms(sandbox: SandboxProcess, scenario: str) -> Iterator[None]:
    """Have the sandbox's accounts on other terms for a while."""
    sandbox.post("/_scenario", scenario)
    try:
        yield
    finally:
        sandbox.post("/_scenario", (SHIPPED / "calm.toml").read_text(encoding="utf-8"))


async def test_what_somebody_else_spends_with_our_key_is_found_with_its_time(desk: Open) -> None:
    async with desk(*BOTH, settled=False) as at:
        await read(at)
        await at.run(*people(10), digest="one")
        before = at.now()
        await read(at)
        await asyncio.to_thread(spend_outside, at, "sandbox-apollo", billed=3)
        await at.run(*people(10, start=10), digest="two")
        await read(at)
        assert outside(at, "lead credits") == [(3000, 3000)]
        (least, _), *more = outside(at, "people/match per day")
        assert least >= 3
        assert not more
        assert outside(at, "email credits", "contactout") == []
        with at.store.read() as connection:
            (stretch,) = compare(connection, "apollo", "lead credits", before, at.now()).outside
        assert before <= stretch.since < stretch.until <= timestamp(at.store.clock.now())


async def test_what_we_spend_ourselves_is_never_taken_for_outside_use(desk: Open) -> None:
    async with desk(*BOTH, "exa", concurrency=20, meter_every_s=0.02) as at:
        async with at.app.meter_reader():
            await at.run(*people(150))
        await read(at)
        assert len(questions(at)) > 3, "it was looked at more than once, with calls in flight"
        assert surely_outside(at) == {}
        with at.store.read() as connection:
            besides = {beside.theirs.meter: beside for beside in side_by_side(connection, "2000", at.now())}
        lead = besides["lead credits"].compared
        assert lead.lost
        assert lead.ours
        assert lead.ours[0] <= lead.lost <= (lead.ours[1] or 0)


async def test_questions_are_free_and_in_the_ledger_and_belong_to_nobody(desk: Open) -> None:
    async with desk(*BOTH) as at:
        async with at.app.meter_reader():
            await at.run(*people(5))
        asked = questions(at)
        assert sorted(attempt["endpoint"] for attempt in asked) == [
            "stats", "usage_stats/api_usage_stats", "usage_stats/credit_usage_stats",
        ]  # fmt: skip
        for attempt in asked:
            assert (attempt["charge"], attempt["result"], attempt["usd_micros"]) == ("free", "complete", 0)
            assert attempt["tenant_id"] is attempt["prospect_id"] is attempt["source_result_id"] is None


async def test_a_provider_that_is_not_asked_about_anybody_is_not_asked_for_its_meter(desk: Open) -> None:
    async with desk(*BOTH) as at:
        async with at.app.meter_reader():
            await at.run(*people(3))
        before = at.requests("apollo")
    async with desk(*BOTH) as at:
        async with at.app.meter_reader():
            await at.run(*people(3))
        assert at.requests("apollo") == before


async def test_the_last_headers_are_stored_at_the_end(desk: Open) -> None:
    async with desk() as at:
        async with at.app.meter_reader():
            await at.run(*people(8))
        windows = at.sandbox.meter()["providers"]["apollo"]["requests"] - len(questions(at))
        reading = last(at, "people/match per day")
        assert (reading.origin, reading.unit) == ("headers", "requests")
        assert reading.amount - reading.used == reading.remaining
        assert windows == 8


async def test_a_key_that_may_not_read_its_meter_is_shown_as_such_and_goes_on_being_used(
    desk: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("APOLLO_API_KEY", "sandbox-not-master")
    async with desk() as at:
        async with at.app.meter_reader():
            await at.run(*people(3))
        reading = last(at, "lead credits")
        assert (reading.used, reading.amount, reading.remaining) == (None, None, None)
        assert reading.error.startswith("HTTP 403: This API key is not authorized")
        assert {attempt["charge"] for attempt in questions(at)} == {"free"}
        assert last(at, "people/match per day").remaining is not None, "its headers tell as much"
        assert at.statuses().count("waiting") == 0
        assert at.told == []


async def test_a_canned_answer_is_no_access_and_never_a_figure(desk: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONTACTOUT_API_KEY", "sandbox-canned")
    async with desk("contactout") as at:
        await read(at)
        for pool in ("search", "email", "phone"):
            reading = last(at, f"{pool} credits")
            assert (reading.remaining, "no access" in reading.error) == (None, True)


async def test_running_out_of_credits_is_worth_one_look_at_once(desk: Open, sandbox: SandboxProcess) -> None:
    with terms(sandbox, "[apollo]\ncredits = 5\n[[latency]]\nprovider = 'apollo'\nshape = 'fixed'\nms = 20"):
        async with desk(concurrency=10) as at:
            async with at.app.meter_reader():
                await at.run(*people(1))
                await until(lambda: len(questions(at)) == 2 and questions(at)[1]["finished_at"])
                await at.run(*people(60, start=1), digest="others")
            assert sum(attempt["result"] == "quota_exceeded" for attempt in at.attempts()) > 1
            credits_asked = [each for each in questions(at) if each["endpoint"].endswith("credit_usage_stats")]
            ran_out = min(each["finished_at"] for each in at.attempts() if each["result"] == "quota_exceeded")
            assert [each["begun_at"] >= ran_out for each in credits_asked] == [False, True]
            assert (last(at, "lead credits").used, last(at, "lead credits").remaining) == (5000, 0)
            assert surely_outside(at) == {}


async def test_a_stopped_provider_is_not_asked_for_its_meter_unless_it_is_credits_that_it_lacks(desk: Open) -> None:
    async with desk() as at:
        reader, apollo = at.app.meter_reader(), at.app.sources["apollo"]
        at.app.gate.stop("apollo", "somebody said so")
        with pytest.raises(Held, match="somebody said so"):
            await reader.read(apollo)
        assert at.requests() == 0
    async with desk() as at:
        at.app.gate.stop("apollo", "its credits are used up", cause=Cause.RAN_OUT)
        await at.app.meter_reader().read(apollo)
        assert at.requests() == 2
        assert not at.app.gate.is_open("apollo"), "that its meter could be read says nothing about the rest"
        at.app.gate.pause([Pause("provider", "apollo", "somebody")])
        with pytest.raises(Held, match="provider apollo is paused"):
            await at.app.meter_reader().read(apollo)
        at.app.gate.pause([])
        at.app.gate.drain()
        with pytest.raises(Held):
            await at.app.meter_reader().read(apollo)


async def test_questions_never_find_out_for_others_whether_a_provider_answers_again(desk: Open) -> None:
    async with desk() as at:
        at.app.gate.stop("apollo", "a rest that is over", at.store.clock.now(), Cause.REST)
        with pytest.raises(Held, match="a rest that is over"):
            await at.app.meter_reader().read(at.app.sources["apollo"])
        await at.run()
        assert at.app.gate.is_open("apollo")


async def test_a_provider_that_fails_at_its_meter_alone_is_not_left_alone(desk: Open) -> None:
    async with desk("contactout") as at:
        at.answers(*[503] * TRIPS_AFTER, provider="contactout")
        for _ in range(TRIPS_AFTER):
            await read(at)
        assert at.app.gate.is_open("contactout")


async def test_a_used_up_limit_on_requests_holds_questions_too_and_one_on_credits_does_not(desk: Open) -> None:
    async with desk("contactout") as at:
        for unit in (Unit.CREDITS, Unit.REQUESTS):
            await at.do(partial(set_quota, quota=Quota("contactout", unit, QuotaClock.DAY, 1), by="me", now=at.now()))
            if unit is Unit.CREDITS:
                await read(at)
        with pytest.raises(Exhausted, match="request"):
            await read(at)
        async with at.app.meter_reader():
            at.app.notes.due["contactout"] = False
            at.app.notes.awake.set()
        assert at.requests("contactout") == 1


async def test_a_question_that_is_given_up_while_it_is_written_down_was_never_sent(desk: Open) -> None:
    async with desk() as at:
        source, behalf = at.app.sources["apollo"], Behalf("meter")
        request = source.meter_requests(at.store.clock.now().date())[0]
        begun = asyncio.create_task(at.app.caller().turns.begin(source, request, behalf))
        await asyncio.sleep(0)  # as far as the writer, where it waits
        begun.cancel()
        with pytest.raises(asyncio.CancelledError):
            await begun
        await at.app.writer.flush()
        assert at.charges() == ["not_sent"]
        assert at.requests() == 0


async def test_a_question_whose_answer_is_lost_is_unknown_and_nothing_else_is(desk: Open) -> None:
    async with desk("contactout") as at:
        at.answers(200, provider="contactout", cut="truncate", body={"status_code": 200}, billed=False)
        (reading,) = await at.app.meter_reader().read(at.app.sources["contactout"])
        await at.app.meter_reader().store()
        assert (reading.status, at.charges()) == ("failed", ["unknown"])
        assert rows(at.store, provider_meters) == []
        assert at.app.gate.is_open("contactout")


@pytest.mark.parametrize(("status", "more"), [(429, {"headers": {"retry-after": "3600"}}), (503, {})])
async def test_a_question_that_is_refused_for_now_stops_nobody(desk: Open, status: int, more: Any) -> None:
    async with desk("contactout") as at:
        at.answers(status, provider="contactout", **more)
        await read(at)
        assert rows(at.store, provider_meters) == []
        await at.run(*people(2))
        assert at.statuses().count("waiting") == 0


async def test_a_slow_meter_delays_nobody_and_is_waited_for_at_the_end(desk: Open) -> None:
    async with desk("contactout", timeout_s=0.6) as at:
        at.answers(404, provider="contactout", body={"status_code": 404, "message": "Not Found"})
        at.answers(200, provider="contactout", delay_s=30, billed=False, body={})
        started = time.monotonic()
        async with at.app.meter_reader():
            await at.run(*people(1))
            await until(lambda: len(questions(at)) == 1)
            await at.run(*people(20, start=1), digest="others")
            assert questions(at)[0]["finished_at"] is None
        assert time.monotonic() - started < 5
        assert questions(at)[0]["charge"] == "unknown"


async def test_a_question_that_has_to_wait_for_its_turn_does_not_hold_up_the_end(desk: Open) -> None:
    async with desk() as at:
        at.answers(200, body=FOUND)
        started = time.monotonic()
        async with at.app.meter_reader():
            await at.run()
            await until(lambda: len(questions(at)) == 2)
            at.app.terms["apollo"].pace.push_back(600)
            at.app.notes.all_due()
            at.app.notes.awake.set()
            await asyncio.sleep(0)
        assert time.monotonic() - started < 5
        assert len(questions(at)) == 2


async def test_nothing_is_looked_at_where_that_is_switched_off(desk: Open) -> None:
    async with desk(meter_every_s=0) as at:
        async with at.app.meter_reader():
            await at.run(*people(3))
        assert questions(at) == []
        assert rows(at.store, provider_meters) == []


async def test_what_exa_says_it_cost_adds_up_over_processes_to_what_we_counted(desk: Open) -> None:
    for start in (0, 12):
        async with desk("exa") as at:
            async with at.app.meter_reader():
                await at.run(*people(12, start=start), digest=str(start))
            counted = sum(attempt["usd_micros"] for attempt in at.attempts())
            assert (last(at, "cost per day").used, last(at, "cost per day").origin) == (counted, "body")
            assert surely_outside(at) == {}


async def test_an_answer_without_the_headers_does_not_take_away_what_was_said_before(desk: Open) -> None:
    async with desk() as at:
        headers = {"x-rate-limit-minute": "200", "x-minute-usage": "7", "x-minute-requests-left": "193"}
        at.answers(200, headers=headers)
        at.answers(403, body={"error": "no"})
        source, today = at.app.sources["apollo"], at.store.clock.now().date()
        for person in people(2):
            subject = Subject(person, (), today)
            request = source.request(subject)
            assert isinstance(request, Request)
            obtained = await at.app.caller().obtain(source, subject, request, Behalf("file"), Budget(0), patient=False)
            await at.write(obtained.finish)
        await at.app.meter_reader().store()
        assert (last(at, "people/match per minute").used, last(at, "people/match per minute").remaining) == (7, 193)


async def test_a_store_that_refuses_a_reading_is_told_and_the_work_goes_on(desk: Open) -> None:
    async with desk() as at:
        await at.do(provider_meters.drop)
        async with at.app.meter_reader():
            await at.run(*people(3))
        assert all("the work goes on" in sentence for sentence in at.told)
        assert at.told
        assert at.statuses().count("waiting") == 0
