"""One prospect through the pipeline: what is asked, what is not asked again, and what the prospect holds after it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Generator, Mapping
from contextlib import asynccontextmanager
from typing import Any, ClassVar

from desk import FOUND, NOBODY, Desk, Open

from builders import INES, row, rows, somebody, stored, the_end, until
from sluiceway.outcome import parse_timestamp
from sluiceway.pipeline import batch as batches
from sluiceway.pipeline.batch import InputRow
from sluiceway.pipeline.recover import register, working
from sluiceway.pipeline.run import Ended
from sluiceway.pipeline.turns import Terms
from sluiceway.prospect import Person, Want
from sluiceway.sources._contract import Price, Reading, Request, Response, Skip, Source, Subject
from sluiceway.store.schema import answers, attempts, prospects, runs, source_results
from sluiceway.usage.ledger import OpenRun, RunRow
from sluiceway.usage.pace import Pace

SOMEBODY_ELSE = {"person": {**FOUND["person"], "name": "Zoe Quell", "email": "zoe@quell.example"}}
SUMMARY = "Ines Okafor-Lind is Chief Financial Officer of Harbourline Robotics."


def a_message(summary: str = SUMMARY) -> dict[str, Any]:
    """What Claude answers."""
    text = json.dumps({"summary": summary, "wealth_signals": []})
    usage = {"input_tokens": 400, "output_tokens": 50}
    content = [{"type": "text", "text": text}]
    return {"model": "claude-haiku-5-5", "stop_reason": "end_turn", "usage": usage, "content": content}


# What is held is not bought again.


async def test_what_was_bought_is_cached_for_the_next_list_and_its_status_stays(desk: Open) -> None:
    async with desk() as at:
        at.answers(200)
        await at.run()
        bought = stored(at.store, at.prospect_id())
        tally = await at.run(digest="another list")
        assert tally.ended[Ended.HELD] == 1
        purchase, cached = at.results()
        assert (cached["status"], cached["cached_from"]) == ("cached", purchase["id"])
        assert stored(at.store, at.prospect_id()) == bought
        assert row_of(at, "enrichment_status") == "complete"
        assert at.requests() == 1


async def test_that_nobody_was_found_is_remembered_too(desk: Open) -> None:
    async with desk() as at:
        at.answers(200, body=NOBODY)
        await at.run()
        await at.run(digest="another list")
        assert at.statuses() == ["no_data", "cached"]
        assert row_of(at, "enrichment_status") == "no_data"
        assert at.requests() == 1


async def test_another_known_fact_asks_again_where_nobody_was_found(desk: Open) -> None:
    async with desk() as at:
        at.answers(200, body=NOBODY)
        await at.run(Person(full_name="Ines Okafor-Lind", company="Harbourline Robotics"))
        at.answers(200)
        title = Person(full_name="Ines Okafor-Lind", company="Harbourline Robotics", domain="harbourline.example")
        await at.run(title, digest="a longer list")
        assert at.statuses() == ["no_data", "complete"]


async def test_the_same_list_again_asks_nothing_and_writes_nothing(desk: Open) -> None:
    async with desk() as at:
        at.answers(200)
        await at.run()
        before = (rows(at.store, runs), rows(at.store, source_results), rows(at.store, attempts))
        assert (await at.run()).ended[Ended.HELD] == 1
        assert (rows(at.store, runs), rows(at.store, source_results), rows(at.store, attempts)) == before


async def test_a_purchase_older_than_the_window_is_bought_again(desk: Open) -> None:
    async with desk(fresh_days=0, settled=False) as at:
        at.answers(200, 200)
        await at.run()
        await at.run(digest="another list")
        assert at.charges() == ["billed", "billed"]


async def test_one_persons_rows_are_asked_once(desk: Open) -> None:
    async with desk(concurrency=4) as at:
        at.answers(200)
        tally = await at.run(INES, INES, INES)
        assert tally.done == at.requests() == len(rows(at.store, runs)) == 1


async def test_running_again_asks_what_ended_without_an_answer_and_without_a_charge(desk: Open) -> None:
    async with desk() as at:
        at.answers(500, 500, 500)
        await at.run()
        at.answers(200)
        await at.run()
        assert at.statuses() == ["failed", "complete"]
        assert stored(at.store, at.prospect_id())["apollo"].keys() == {"status", "at"}


# Refreshing.


async def test_a_refresh_buys_what_is_held_and_replaces_it(desk: Open) -> None:
    async with desk(settled=False) as at:
        at.answers(200)
        await at.run()
        promoted = {"person": {**FOUND["person"], "title": "Chief Executive Officer"}}
        at.answers(200, body=promoted)
        await at.run(refresh=True)
        assert at.statuses() == ["complete", "complete"]
        assert stored(at.store, at.prospect_id(), "fields")["title:apollo"][0] == "Chief Executive Officer"


async def test_a_failed_refresh_never_replaces_what_is_held(desk: Open) -> None:
    async with desk(settled=False) as at:
        at.answers(200)
        await at.run()
        held = stored(at.store, at.prospect_id(), "fields")
        at.answers(500, 500, 500)
        await at.run(refresh=True)
        assert at.statuses() == ["complete", "failed"]
        assert stored(at.store, at.prospect_id(), "fields") == held


async def test_a_refresh_that_was_cut_short_continues_and_a_finished_one_is_over(desk: Open) -> None:
    async with desk(settled=False) as at:
        at.answers(200, 200, 200)
        await at.run()
        batch = await at.batch(INES, refresh=True)
        await at.embedded(batch).run()  # ends without anybody noting that it did
        assert at.requests() == 2
        await at.app.writer.flush()
        continued = await at.run(refresh=True)
        assert (continued.done, at.requests()) == (1, 2)
        await at.run(refresh=True)
        assert at.requests() == 3


# What may be believed, and by whom.


async def test_an_answer_about_somebody_else_is_paid_and_never_merged(desk: Open) -> None:
    async with desk() as at:
        at.answers(200, body=SOMEBODY_ELSE)
        await at.run()
        assert at.charges() == ["billed"]
        assert at.statuses() == ["no_data"]
        assert stored(at.store, at.prospect_id(), "fields") == {}
        assert "Zoe Quell" not in str(rows(at.store, prospects))


async def test_every_field_says_where_it_is_from_and_when(desk: Open) -> None:
    async with desk() as at:
        at.answers(200)
        await at.run()
        (attempt,) = at.attempts()
        value, when, attempt_id, confidence = stored(at.store, at.prospect_id(), "fields")["title:apollo"]
        assert (value, when, attempt_id) == ("Chief Financial Officer", attempt["finished_at"], attempt["id"])
        assert 0 <= confidence <= 100
        assert row(at.store, answers)["attempt_id"] == attempt["id"]


async def test_one_tenants_purchase_is_not_served_to_another(desk: Open) -> None:
    async with desk(settled=False) as at:
        at.answers(200, 500, 500, 500)
        batch = await at.batch(INES)
        await at.do(batches.take_in, batch.id, [InputRow(1, "acme", INES)], at.now())
        await at.embedded(batch).run()
        await at.app.writer.flush()
        held = {each["tenant_id"]: each["fields"] for each in rows(at.store, prospects)}
        assert "Chief Financial Officer" in held["default"]
        assert held["acme"] == "{}"
        assert {each["tenant_id"] for each in rows(at.store, answers)} == {"default"}
        assert [each["tenant_id"] for each in at.attempts()] == ["default", *["acme"] * 3]


# The last source.


async def test_claude_is_asked_last_on_what_the_others_found(desk: Open) -> None:
    async with desk("apollo", "claude") as at:
        at.answers(200, delay_s=0.1)
        at.answers(200, provider="claude", body=a_message())
        await at.run()
        apollo, claude = at.attempts()
        assert (apollo["source"], claude["source"]) == ("apollo", "claude")
        assert parse_timestamp(claude["begun_at"]) >= parse_timestamp(apollo["finished_at"])
        assert stored(at.store, at.prospect_id(), "fields")["summary:claude"][0] == SUMMARY
        assert row_of(at, "enrichment_status") == "complete"


async def test_claude_is_skipped_when_nothing_was_found(desk: Open) -> None:
    async with desk("apollo", "claude") as at:
        at.answers(200, body=NOBODY)
        await at.run()
        results = {result["source"]: result for result in at.results()}
        assert (results["claude"]["status"], results["claude"]["error"]) == (
            "skipped",
            "nothing was found to summarise",
        )
        assert at.requests("claude") == 0
        assert row_of(at, "enrichment_status") == "no_data"


async def test_what_is_about_somebody_else_is_never_given_to_claude(desk: Open) -> None:
    async with desk("apollo", "claude") as at:
        at.answers(200, body=SOMEBODY_ELSE)
        await at.run()
        assert at.requests("claude") == 0


async def test_a_text_with_invented_figures_is_paid_and_failed_and_final(desk: Open) -> None:
    async with desk("apollo", "claude") as at:
        at.answers(200)
        at.answers(200, provider="claude", body=a_message("She is worth $731 million."))
        await at.run()
        await at.run()
        results = [result for result in at.results() if result["source"] == "claude"]
        assert results[0]["status"] == "failed"
        assert "$731 million" in results[0]["error"]
        assert at.requests("claude") == 1
        assert "summary:claude" not in stored(at.store, at.prospect_id(), "fields")


async def test_a_summary_is_not_written_again_while_the_findings_are_the_same(desk: Open) -> None:
    async with desk("apollo", "claude") as at:
        at.answers(200)
        at.answers(200, provider="claude", body=a_message())
        await at.run()
        await at.run(digest="another list")
        assert at.statuses() == ["complete", "complete", "cached", "cached"]
        assert at.requests("claude") == 1


# What cannot be asked.


async def test_a_source_without_its_key_is_skipped_and_says_which(desk: Open) -> None:
    async with desk("apollo", "exa") as at:
        at.app.unusable["exa"] = "EXA_API_KEY is not set"
        at.answers(200)
        await at.run()
        results = {result["source"]: result for result in at.results()}
        assert (results["exa"]["status"], results["exa"]["error"]) == ("skipped", "EXA_API_KEY is not set")
        assert at.requests("exa") == 0
        assert row_of(at, "enrichment_status") == "complete"


class Brittle(Source):
    """Breaks where it is told to."""

    name = provider = "brittle"
    title = "Brittle"
    hosts: ClassVar[Mapping[str, str]] = {"": "https://brittle.example"}

    def headers(self) -> Mapping[str, str]:
        return {}

    def price(self, want: tuple[Want, ...]) -> Price:
        return Price()

    def ask(self, subject: Subject) -> Generator[Request, Reading, Reading | Skip]:
        if subject.person == INES:
            raise ZeroDivisionError
        yield Request("match", "POST", "/apollo/api/v1/people/match")
        raise IndexError("nothing at all")

    def read(self, subject: Subject, request: Request, response: Response) -> Reading:
        raise KeyError("person")


def with_brittle(at: Desk) -> None:
    at.app.sources["brittle"] = Brittle()
    at.app.terms["brittle"] = Terms({"": at.sandbox.url}, 5.0, Pace(1000))


async def test_why_a_source_was_skipped_is_stored_on_the_prospect(desk: Open) -> None:
    async with desk("apollo", "exa") as at:
        at.app.unusable["exa"] = "EXA_API_KEY is not set"
        await at.run()
        said = stored(at.store, at.prospect_id())["exa"]
        assert (said["status"], said["error"]) == ("skipped", "EXA_API_KEY is not set")


async def test_a_source_that_breaks_on_an_answer_fails_alone(desk: Open) -> None:
    async with desk(settled=False) as at:
        with_brittle(at)
        at.answers(409, 409)
        tally = await at.run(somebody(1))
        results = {result["source"]: result for result in at.results()}
        assert tally.done == 1
        assert (results["brittle"]["status"], results["brittle"]["error"]) == ("failed", "IndexError: nothing at all")
        assert results["apollo"]["closed_at"] is not None


async def test_a_source_that_breaks_on_a_person_fails_alone(desk: Open) -> None:
    async with desk(settled=False) as at:
        with_brittle(at)
        tally = await at.run(INES, somebody(1))
        assert tally.done == 2


# Two who want the same prospect.


async def test_of_two_who_run_a_prospect_at_once_one_does(desk: Open) -> None:
    async with desk() as at:
        at.answers(200)
        enricher = at.enricher(await at.batch(INES))
        known, also_known = await at.history(), await at.history()
        ended = await asyncio.gather(enricher.enrich(known), enricher.enrich(also_known))
        assert sorted(ended) == [Ended.CLOSED, Ended.ELSEWHERE]
        assert at.requests() == 1
        assert len(rows(at.store, runs)) == 1


@asynccontextmanager
async def someone_elses_run(at: Desk, person: Person) -> AsyncIterator[RunRow]:
    """Have another living worker hold a person's open run."""
    with working(at.store) as other:
        await register(other, at.store, at.app.writer)
        run = RunRow("theirs", "default", at.prospect_id(person), None, "file", other.id, at.now(), None, "running")
        await at.write(OpenRun(run, None, ()))
        yield run


async def test_another_living_workers_run_is_waited_for(desk: Open) -> None:
    async with desk() as at:
        batch = await at.batch(somebody(1), INES)
        async with someone_elses_run(at, INES) as theirs:
            running = asyncio.create_task(at.embedded(batch).run())
            await until(lambda: "no_data" in at.statuses())
            assert at.requests() == 1
            at.answers(200)
            await at.write(the_end(theirs, "none", at=at.now()))
            tally = await running
        assert tally.ended[Ended.CLOSED] == at.requests() == 2


async def test_stopping_leaves_another_workers_run_to_it(desk: Open) -> None:
    async with desk() as at:
        batch = await at.batch(somebody(1), INES)
        async with someone_elses_run(at, INES) as theirs:
            running = asyncio.create_task(at.embedded(batch).run())
            await until(lambda: "no_data" in at.statuses())
            at.app.gate.drain()
            tally = await running
        assert tally.left or tally.ended[Ended.ELSEWHERE] == 1
        assert at.requests() == 1
        assert next(run for run in rows(at.store, runs) if run["id"] == theirs.id)["closed_at"] is None


async def test_stopping_between_two_people_says_that_something_is_left(desk: Open) -> None:
    async with desk() as at:
        batch = await at.batch(INES, somebody(1))
        at.answers(200, delay_s=0.2)
        running = asyncio.create_task(at.embedded(batch).run())
        await until(lambda: at.requests() == 1)
        at.app.gate.drain()
        assert (await running).left


async def test_stopping_before_anybody_was_asked_says_that_something_is_left(desk: Open) -> None:
    async with desk() as at:
        batch = await at.batch(INES)
        at.app.gate.drain()
        tally = await at.embedded(batch).run()
        assert tally.done == at.requests() == 0
        assert tally.left


def row_of(at: Any, column: str) -> Any:
    """A column of the one prospect there is."""
    return row(at.store, prospects)[column]
