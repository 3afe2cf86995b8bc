"""Suppressing and erasing while work goes on: nobody is asked about them from then on, and nothing comes back."""

from __future__ import annotations

import asyncio

from desk import FOUND, Desk, Open

from builders import INES, row, rows, somebody, until
from sluiceway.pipeline.run import Ended
from sluiceway.prospect import Person
from sluiceway.rights.erasure import BY_REQUEST, Why, erase
from sluiceway.rights.suppression import EVERYWHERE, opened_list
from sluiceway.sign import own_signs_of, read_sign
from sluiceway.store.engine import open_store
from sluiceway.store.schema import answers, attempts, prospects, runs, source_results, suppressions

NAMED = Person(full_name="Ines Okafor-Lind", company="Harbourline Robotics")


def suppressed(url: str, *values: str, tenant: str = EVERYWHERE, remove: bool = False) -> None:
    """Put values on the list, or take them off, as another process does."""
    store = open_store(url)
    people, signs = opened_list(store), [read_sign(value) for value in values]
    with store.writing.begin() as connection:
        if remove:
            people.remove(connection, tenant, signs)
        else:
            people.add(connection, tenant, signs, at=store.clock.stamp(), by="Anna")
    store.close()


def erased(url: str, prospect_id: str) -> None:
    """Erase somebody, as another process does."""
    store = open_store(url)
    people = opened_list(store)
    with store.writing.begin() as connection:
        why = Why(BY_REQUEST, "Anna", store.clock.stamp(), suppress=False)
        assert erase(connection, [prospect_id], why, people).prospects == 1
    store.close()


def ended(at: Desk) -> set[tuple[str, str, str | None]]:
    return {(each["source"], each["status"], each["error"]) for each in at.results()}


async def test_somebody_suppressed_after_they_were_taken_in_is_skipped_by_every_source(
    desk: Open, store_url: str
) -> None:
    async with desk("apollo", "contactout", "claude") as at:
        batch = await at.batch(INES, somebody())
        suppressed(store_url, INES.email)
        at.answers(200)
        tally = await at.embedded(batch).run()
        assert tally.done == 2
        theirs = [each for each in at.results() if each["prospect_id"] == at.prospect_id()]
        assert {(each["source"], each["status"], each["error"]) for each in theirs} == {
            (source, "skipped", "suppressed") for source in ("apollo", "contactout", "claude")
        }
        assert at.requests() == 1, "only somebody else was asked about"


async def test_being_suppressed_leaves_what_was_bought_as_it_was_and_being_taken_off_brings_it_back(
    desk: Open, store_url: str
) -> None:
    async with desk() as at:
        at.answers(200)
        await at.run(INES)
        held = row(at.store, prospects)
        suppressed(store_url, INES.email)
        await at.run(INES, digest="another list")
        assert at.statuses() == ["complete", "skipped"]
        after = row(at.store, prospects)
        for column in ("fields", "enrichment_source_status", "enrichment_status"):
            assert after[column] == held[column]
        suppressed(store_url, INES.email, remove=True)
        await at.run(INES, digest="a third list")
        assert at.statuses() == ["complete", "skipped", "cached"]
        assert at.requests() == 1


async def test_a_source_that_is_asked_last_is_not_asked_about_somebody_suppressed_meanwhile(
    desk: Open, store_url: str
) -> None:
    async with desk("apollo", "claude") as at:
        at.answers(200, delay_s=0.5)
        batch = await at.batch(INES)
        running = asyncio.create_task(at.embedded(batch).run())
        await until(lambda: at.requests() == 1)
        suppressed(store_url, INES.email)
        assert (await running).done == 1
        await at.app.writer.flush()
        assert ended(at) == {("apollo", "complete", None), ("claude", "skipped", "suppressed")}
        assert at.requests("claude") == 0


async def test_somebody_whose_run_waits_is_not_asked_about_when_it_goes_on(desk: Open, store_url: str) -> None:
    async with desk("apollo", "claude") as at:
        at.app.gate.stop("apollo", "its key was refused")
        assert (await at.run(INES)).waiting == 1
    suppressed(store_url, INES.email)
    async with desk("apollo", "claude") as at:
        assert (await at.run(INES)).done == 1
        assert ended(at) == {("apollo", "skipped", "suppressed"), ("claude", "skipped", "suppressed")}
        assert at.requests() == 0
        assert row(at.store, runs)["closed_at"]


async def test_an_answer_that_shows_somebody_on_the_list_is_not_kept_and_nobody_else_is_asked(
    desk: Open, store_url: str
) -> None:
    suppressed(store_url, "ines@harbourline.example", tenant="default")
    async with desk("apollo", "claude") as at:
        at.answers(200)
        await at.run(NAMED)
        assert ended(at) >= {("apollo", "skipped", "suppressed")}
        assert set(at.statuses()) == {"skipped"}
        assert at.charges() == ["billed"]
        assert rows(at.store, answers) == []
        assert row(at.store, prospects)["fields"] == "{}"
        assert at.requests("claude") == 0
        await at.run(NAMED, digest="another list")
        assert at.requests() == 1, "they are on the list by name too now"
        assert {each["reason"] for each in rows(at.store, suppressions)} == {
            None, "an answer showed that this is somebody on the list",
        }  # fmt: skip


async def test_an_answer_about_somebody_else_who_is_on_the_list_is_kept_without_them(
    desk: Open, store_url: str
) -> None:
    suppressed(store_url, "ines@harbourline.example")
    namesake = Person(full_name="Ines Okafor-Lind", company="Quell Holdings")
    async with desk() as at:
        at.answers(200)
        await at.run(namesake)
        assert ended(at) == {("apollo", "no_data", None)}
        assert "ines@harbourline.example" not in row(at.store, answers)["reading"]
        await at.run(namesake, digest="another list")
        assert at.requests() == 1, "its outcome is known, so it is not bought again"
        assert len(rows(at.store, suppressions)) == 1


async def test_somebody_erased_while_a_call_is_in_flight_stays_erased_and_the_call_is_counted(
    desk: Open, store_url: str
) -> None:
    async with desk("apollo", "claude", concurrency=2) as at:
        at.answers(200, delay_s=0.7)
        at.answers(200, body={**FOUND, "person": {**FOUND["person"], "name": "Person 0"}})
        batch = await at.batch(INES, somebody())
        running = asyncio.create_task(at.embedded(batch).run())
        await until(lambda: at.requests() >= 1 and len(at.attempts()) >= 1)
        erased(store_url, at.prospect_id())
        tally = await running
        await at.app.writer.flush()
        assert sum(tally.ended.values()) == 2
        assert [each["identity_key"] for each in rows(at.store, prospects)] == ["email:person0@quell.example"]
        assert {each["prospect_id"] for each in rows(at.store, answers)} <= {
            each["id"] for each in rows(at.store, prospects)
        }
        mine = [each for each in rows(at.store, attempts) if each["request_key"] == "erased"]
        assert [(each["charge"], each["source"]) for each in mine] == [("billed", "apollo")]
        assert at.total("apollo") == 2
        assert all(each["closed_at"] for each in rows(at.store, runs) + rows(at.store, source_results))


async def test_somebody_erased_before_their_turn_is_passed_over(desk: Open, store_url: str) -> None:
    async with desk(concurrency=1) as at:
        batch = await at.batch(somebody(), INES)
        at.answers(200, delay_s=0.5)
        running = asyncio.create_task(at.embedded(batch).run())
        await until(lambda: at.requests() == 1)  # who comes next has been read by now
        erased(store_url, at.prospect_id())
        assert (await running).ended == {Ended.CLOSED: 1, Ended.ERASED: 1}
        assert at.requests() == 1


def test_a_persons_own_signs_are_what_an_answer_may_suppress() -> None:
    assert {sign.kind.value for sign in own_signs_of(NAMED)} == {"name"}
