"""One request and what may follow it: retries, rests, stops, and requests nobody knows the end of."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from desk import FOUND, NOBODY, Open, waiting

from builders import INES, full_disk, row, rows, somebody, stored, until
from sluiceway.outcome import ChargeKind, Status, parse_timestamp
from sluiceway.pipeline.caller import BUDGET_S, Budget
from sluiceway.pipeline.gate import Held
from sluiceway.pipeline.run import Ended
from sluiceway.pipeline.turns import Behalf
from sluiceway.sandbox.process import SandboxProcess
from sluiceway.sources._contract import Request, Subject
from sluiceway.store.schema import attempts, daily_totals, runs, source_results

# Free answers are followed by another attempt.


async def test_a_wait_that_fits_is_waited_for_and_the_request_sent_again(desk: Open) -> None:
    async with desk() as at:
        at.answers(429, headers={"retry-after": "0.2"})
        at.answers(200)
        await at.run()
        assert at.charges() == ["free", "billed"]
        assert at.statuses() == ["complete"]
        first, second = at.attempts()
        waited = parse_timestamp(second["begun_at"]) - parse_timestamp(first["finished_at"])
        assert waited >= timedelta(seconds=0.19)


async def test_a_long_wait_closes_the_source_and_the_provider_rests(desk: Open) -> None:
    async with desk() as at:
        at.answers(429, headers={"retry-after": "300"})
        tally = await at.run(INES, somebody(1))
        first, second = at.results()
        assert (first["status"], second["status"]) == ("rate_limited", "waiting")
        rest = parse_timestamp(first["retry_at"]) - parse_timestamp(first["closed_at"])
        assert timedelta(seconds=298) < rest < timedelta(seconds=302)
        assert (tally.done, tally.waiting) == (1, 1)
        assert at.requests() == 1
        assert len(at.told) == 1
        assert at.told[0].startswith("Apollo asked for a pause until ")


async def test_the_pause_asked_for_with_a_last_answer_is_kept_for_everybody(desk: Open) -> None:
    async with desk() as at:
        at.answers(429, 429, 429, headers={"retry-after": "0.2"})
        await at.run(INES, somebody(1))
        *_, last, next_ones = at.attempts()
        assert last["prospect_id"] != next_ones["prospect_id"]
        waited = parse_timestamp(next_ones["begun_at"]) - parse_timestamp(last["finished_at"])
        assert waited >= timedelta(seconds=0.19)


async def test_a_provider_is_asked_again_when_its_rest_is_over(desk: Open) -> None:
    async with desk() as at:
        at.app.gate.stop("apollo", "a rest that is over", at.store.clock.now() - timedelta(seconds=1))
        await at.run()
        assert at.requests() == 1


@pytest.mark.parametrize("statuses", [(500, 200), (500, 500, 200), (503, 529, 200), (429, 502, 200)])
async def test_trouble_that_passes_ends_in_an_answer(desk: Open, statuses: tuple[int, ...]) -> None:
    async with desk() as at:
        at.answers(*statuses)
        await at.run()
        assert at.charges() == ["free"] * (len(statuses) - 1) + ["billed"]
        assert at.statuses() == ["complete"]
        assert stored(at.store, at.prospect_id(), "fields")["title:apollo"][0] == "Chief Financial Officer"


async def test_three_free_failures_are_the_end_and_cost_nothing(desk: Open) -> None:
    async with desk() as at:
        at.answers(500, 500, 500, 200)
        await at.run()
        assert at.charges() == ["free"] * 3
        assert at.statuses() == ["failed"]
        assert at.requests() == 3
        assert at.total() == 0
        assert stored(at.store, at.prospect_id())["apollo"]["error"].startswith("HTTP 500")


async def test_every_attempt_is_of_the_same_source_result(desk: Open) -> None:
    async with desk() as at:
        at.answers(500, 200)
        await at.run()
        (result,) = at.results()
        assert {attempt["source_result_id"] for attempt in at.attempts()} == {result["id"]}
        assert result["attempt_id"] == at.attempts()[-1]["id"]


async def test_an_answer_is_billed_once_and_never_sent_for_again(desk: Open) -> None:
    async with desk() as at:
        at.answers(200)
        await at.run()
        await at.run(digest="another list")
        assert at.charges() == ["billed"]
        assert at.statuses() == ["complete", "cached"]
        assert at.requests() == at.total() == 1


# Requests whose end nobody knows.


async def test_after_a_timeout_one_more_request_is_sent_and_never_a_third(desk: Open) -> None:
    for worker in range(3):
        async with desk(timeout_s=0.15) as at:
            at.answers(200, delay_s=20, times=5)
            await at.run(digest=f"list {worker}")
            assert at.charges() == ["unknown", "unknown"]
            assert at.requests() == 2
    assert at.statuses() == ["timed_out", "unknown", "unknown"]
    assert at.total() == 0


async def test_leave_sends_no_second_request_after_an_unknown_one(desk: Open) -> None:
    for worker in range(2):
        async with desk(timeout_s=0.15, on_unknown="leave") as at:
            at.answers(200, delay_s=20)
            await at.run(digest=f"list {worker}")
            assert at.charges() == ["unknown"]
            assert at.requests() == 1
    assert at.statuses() == ["timed_out", "unknown"]


async def test_the_second_request_may_bring_the_answer(desk: Open) -> None:
    async with desk(timeout_s=0.15) as at:
        at.answers(200, delay_s=20)
        at.answers(200)
        await at.run()
        assert at.charges() == ["unknown", "billed"]
        assert at.statuses() == ["complete"]
        assert at.total() == 1


@pytest.mark.parametrize(
    ("lost", "status"),
    [
        ({"cut": "after"}, "failed"),
        ({"cut": "before", "billed": False}, "failed"),
        ({"cut": "truncate"}, "failed"),
        ({"status": 504, "billed": True}, "timed_out"),
        ({"body": "<html>It works!</html>"}, "failed"),
        ({"body": '{"person": {"name"'}, "failed"),
        ({"status": 204, "body": "", "billed": True}, "failed"),
    ],
)
async def test_an_answer_that_is_lost_or_cannot_be_read_may_have_been_billed(
    desk: Open, lost: dict[str, Any], status: str
) -> None:
    lost = dict(lost)
    async with desk(on_unknown="leave") as at:
        at.answers(lost.pop("status", 200), **lost)
        await at.run()
        assert at.charges() == ["unknown"]
        assert at.statuses() == [status]
        (attempt,) = at.attempts()
        assert attempt["usd_micros"] is attempt["milli_credits"] is None
        assert attempt["error"]


async def test_unknowns_are_counted_per_person_and_not_over_everybody(desk: Open) -> None:
    async with desk(on_unknown="leave") as at:
        at.answers(200, times=3, cut="after")
        await at.run(INES, somebody(1), somebody(2))
        assert at.charges() == ["unknown"] * 3


# Requests that never left.


async def test_a_refused_connection_is_one_providers_trouble_while_others_answer(desk: Open) -> None:
    async with desk("apollo", "exa") as at:
        at.unreachable()
        await at.run()
        charges = [attempt["charge"] for attempt in at.attempts() if attempt["source"] == "apollo"]
        assert set(charges) == {"not_sent"}
        assert len(charges) in (3, 4), "three tries, after one that may have meant that there is no network"
        results = {result["source"]: result for result in at.results()}
        assert results["apollo"]["status"] == "failed"
        assert results["apollo"]["error"].startswith("cannot connect")
        assert results["exa"]["status"] in ("complete", "no_data")
        assert rows(at.store, daily_totals)[0]["provider"] == "exa"


async def test_without_a_network_work_waits_and_goes_on_when_it_is_back(desk: Open, store_url: str) -> None:
    async with desk(settled=False) as at:
        at.unreachable()
        running = asyncio.create_task(at.run())
        await until(lambda: at.charges() == ["not_sent"])
        base = at.app.terms["apollo"].base_urls
        assert isinstance(base, dict)
        base.update({"": f"{at.sandbox.url}/apollo/api/v1"})
        at.answers(200)
        at.app.gate.answered("exa")  # somebody else's answer says that the network is back
        assert (await running).done == 1
        assert at.charges() == ["not_sent", "billed"]
        assert at.statuses() == ["complete"]


async def test_waiting_for_the_network_ends_with_the_work(desk: Open) -> None:
    async with desk(settled=False) as at:
        at.unreachable()
        running = asyncio.create_task(at.run())
        await until(lambda: at.charges() == ["not_sent"])
        at.app.gate.drain()
        tally = await running
        assert tally.waiting == 1
        assert waiting(at.store) == [("apollo", "stopped while there was no network")]


# Answers that condemn a key or an account.


@pytest.mark.parametrize(
    ("status", "body", "ended", "mend"),
    [
        (401, "Invalid API key", "unauthorized", "it refused the credential (APOLLO_API_KEY)"),
        (403, '{"error": "not authorized"}', "unauthorized", "it refused the credential (APOLLO_API_KEY)"),
        (422, '{"error": "Insufficient credits"}', "quota_exceeded", "its credits are used up"),
    ],
)
async def test_the_first_condemning_answer_stops_the_provider_and_says_so_once(
    desk: Open, status: int, body: str, ended: str, mend: str
) -> None:
    async with desk() as at:
        at.answers(status, body=body)
        tally = await at.run(*map(somebody, range(5)))
        assert at.statuses() == [ended, *["waiting"] * 4]
        assert at.requests() == 1
        assert (tally.done, tally.waiting) == (1, 4)
        assert len(at.told) == 1
        assert at.told[0].startswith(f"Apollo is not asked any more: {mend}. It said: HTTP {status}: ")
        assert {reason for _, reason in waiting(at.store)} == {at.told[0]}


async def test_other_providers_are_still_asked_when_one_is_stopped(desk: Open) -> None:
    async with desk("apollo", "exa") as at:
        at.answers(401)
        await at.run(somebody(1), somebody(2))
        assert at.requests("apollo") == 1
        assert at.requests("exa") == 2


async def test_the_next_process_asks_what_had_to_wait(desk: Open) -> None:
    async with desk() as at:
        at.answers(401)
        await at.run(INES, somebody(1))
    async with desk() as at:
        at.answers(200)
        at.answers(200, body=NOBODY)
        tally = await at.run(INES, somebody(1))
        assert tally.waiting == 0
        assert sorted(at.statuses()) == ["complete", "no_data", "unauthorized"]
        assert all(run["closed_at"] for run in rows(at.store, runs))
        assert stored(at.store, at.prospect_id())["apollo"].keys() == {"status", "at"}


async def test_no_credential_is_ever_written_down(desk: Open) -> None:
    async with desk() as at:
        secret = at.app.sources["apollo"].credential
        assert len(secret) > 8
        at.answers(400, body=f'{{"error": "key {secret} of https://api.example/x?api_key={secret} is odd"}}')
        await at.run()
        assert secret not in str(at.attempts()) + str(at.results()) + str(stored(at.store, at.prospect_id()))
        assert at.attempts()[0]["error"] == "HTTP 400: key [redacted] of https://api.example/x is odd"


# Begin, call, finish.


async def test_an_attempt_is_durable_before_its_request_leaves_and_counted_only_when_answered(desk: Open) -> None:
    async with desk() as at:
        at.answers(200, delay_s=0.3)
        running = asyncio.create_task(at.run())
        await until(lambda: at.requests() == 1)
        (attempt,) = at.attempts()
        assert (attempt["finished_at"], attempt["charge"]) == (None, None)
        assert row(at.store, source_results)["status"] == "running"
        assert rows(at.store, daily_totals) == []
        await running
        assert at.total() == 1


async def test_an_attempt_says_who_asked_what_and_for_whom(desk: Open) -> None:
    async with desk() as at:
        at.answers(200, body={**FOUND, "request_id": 77})
        await at.run()
        (attempt,) = at.attempts()
        run = row(at.store, runs)
        wanted = {
            "provider": "apollo", "source": "apollo", "endpoint": "people/match", "credential_id": "platform",
            "worker_id": at.app.worker.id, "trigger": "file", "tenant_id": "default", "batch_id": run["batch_id"],
            "prospect_id": run["prospect_id"], "http_status": 200, "charge": "billed", "milli_credits": 1000,
            "usd_micros": 26_000, "provider_request_id": "77", "error": None,
        }  # fmt: skip
        assert {name: attempt[name] for name in wanted} == wanted
        assert attempt["begun_at"].startswith(f"{attempt['day']}T{attempt['hour']:02}:")
        assert attempt["latency_us"] > 0


async def test_nothing_is_sent_while_the_disk_is_full(desk: Open) -> None:
    async with desk() as at:
        await at.batch(INES)
        source, subject, request = asking(at)
        behalf = Behalf("t" * 20_000)
        with full_disk(at.store):
            running = asyncio.create_task(at.caller().obtain(source, subject, request, behalf, Budget(0)))
            await until(lambda: at.told)
            assert at.requests() == 0
        obtained = await running
        await at.write(obtained.finish)
        assert at.requests() == 1
        assert at.told[0] == "the store cannot be written (database or disk is full); work waits until it can"


async def test_cancelling_the_work_never_loses_what_was_answered(desk: Open) -> None:
    async with desk() as at:
        at.answers(200)
        batch = await at.batch(INES)
        ended = await at.enricher(batch).enrich(await at.history())
        assert ended is Ended.CLOSED
        # nobody waited for the finish; leaving the desk commits it
    async with desk() as at:
        assert at.charges() == ["billed"]
        assert at.statuses() == ["complete"]


async def test_stopping_lets_the_call_in_flight_finish_and_begins_no_other(desk: Open) -> None:
    async with desk() as at:
        at.answers(200, delay_s=0.3)
        running = asyncio.create_task(at.run(INES, somebody(1), somebody(2)))
        await until(lambda: at.requests() == 1)
        at.app.gate.drain()
        tally = await running
        assert tally.left
        assert at.charges() == ["billed"]
        assert at.requests() == 1


async def test_one_persons_sources_are_asked_at_once(desk: Open) -> None:
    async with desk("apollo", "contactout", "exa") as at:
        for provider in ("apollo", "contactout", "exa"):
            at.answers(500, provider=provider, delay_s=0.3)
        running = asyncio.create_task(at.run())
        await until(lambda: all(at.requests(provider) == 1 for provider in ("apollo", "contactout", "exa")))
        assert at.charges() == [None, None, None]
        await running


# The budget of one source for one prospect.


def asking(at: Any, source: str = "apollo") -> tuple[Any, Subject, Request]:
    """A source, Ines, and the first request about her."""
    subject = Subject(INES, at.app.settings.want, at.store.clock.now().date())
    request = next(at.app.sources[source].ask(subject))
    assert isinstance(request, Request)
    return at.app.sources[source], subject, request


async def test_a_source_may_spend_a_minute_on_one_prospect() -> None:
    assert BUDGET_S == Budget(0).left_s == 60.0


async def test_a_wait_longer_than_what_is_left_is_not_begun(desk: Open) -> None:
    async with desk() as at:
        at.answers(429, headers={"retry-after": "30"})
        source, subject, request = asking(at)
        obtained = await at.caller().obtain(source, subject, request, Behalf("api"), Budget(0, seconds=20))
        await at.write(obtained.finish)
        assert obtained.reading.status is Status.RATE_LIMITED
        assert obtained.retry_at is not None
        assert at.charges() == ["free"]


async def test_a_wait_that_fits_comes_out_of_the_budget(desk: Open) -> None:
    async with desk() as at:
        at.answers(429, headers={"retry-after": "30"})
        source, subject, request = asking(at)
        budget = Budget(0, seconds=45)
        waiting = asyncio.create_task(at.caller().obtain(source, subject, request, Behalf("api"), budget))
        await until(lambda: at.charges() == ["free"] and budget.left_s < 15)
        at.app.gate.drain()
        with pytest.raises(Held, match="stopped between two attempts"):
            await waiting
        assert 14 < budget.left_s < 15


async def test_waits_nobody_asked_for_come_out_of_the_budget_too(desk: Open) -> None:
    async with desk(jitter=lambda: 1000.0) as at:
        at.answers(500)
        await at.run()
        assert at.charges() == ["free"]
        assert at.statuses() == ["failed"]


async def test_no_call_outlasts_the_budget(desk: Open) -> None:
    async with desk(timeout_s=30.0) as at:
        at.answers(200, delay_s=20)
        source, subject, request = asking(at)
        obtained = await at.caller().obtain(source, subject, request, Behalf("api"), Budget(0, seconds=0.2))
        await at.write(obtained.finish)
        assert (obtained.reading.status, obtained.reading.charge.kind) == (Status.TIMED_OUT, ChargeKind.UNKNOWN)
        assert at.attempts()[0]["latency_us"] < 5_000_000


async def test_waiting_for_a_turn_is_not_counted_against_the_budget(desk: Open) -> None:
    async with desk() as at:
        source, subject, request = asking(at)
        at.app.terms["apollo"].pace.push_back(0.4)
        budget = Budget(0, seconds=30)
        obtained = await at.caller().obtain(source, subject, request, Behalf("api"), budget)
        await at.write(obtained.finish)
        (attempt,) = at.attempts()
        assert budget.left_s == pytest.approx(30 - attempt["latency_us"] / 1e6, abs=0.01)


async def test_every_request_is_begun_and_finished_in_the_sandbox_and_the_ledger_alike(
    desk: Open, sandbox: SandboxProcess
) -> None:
    async with desk("apollo", "exa", concurrency=10) as at:
        sandbox.post("/_answer", {"provider": "exa", "status": 503, "times": 7})
        await at.run(*map(somebody, range(20)))
        assert len(rows(at.store, attempts)) == at.requests("apollo") + at.requests("exa") == 47
