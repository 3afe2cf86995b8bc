"""Limits and stops as a person sets them: with commands, while files are being enriched."""

from __future__ import annotations

import re
import signal
import time
from typing import TYPE_CHECKING

import pytest

from acceptance.desk import slow, statuses_of, until
from sluiceway.cli.quota import Per
from sluiceway.cli.quota import Unit as Offered
from sluiceway.usage.quota import QuotaClock, Unit

if TYPE_CHECKING:
    from acceptance.desk import Desk

WAITS = 3
ASKED = {"complete", "no_data"}


def test_every_unit_and_clock_there_is_can_be_chosen() -> None:
    chosen_with_a_batch = QuotaClock.BATCH
    assert {each.value for each in Per} == {each.value for each in QuotaClock} - {chosen_with_a_batch}
    assert {each.value for each in Offered} == {each.value for each in Unit}


def test_limits_are_set_shown_replaced_and_taken_away(desk: Desk) -> None:
    at = ("--database", desk.url)
    assert "No limits" in desk.look("quota", "list", *at).out
    assert "at most 600 requests per day" in desk.look("quota", "set", "apollo", "600", *at).out
    desk.look("quota", "set", "apollo", "500", *at)
    desk.look("quota", "set", "exa", "12.50", "--unit", "usd", "--per", "cycle", "--cycle-day", "15", *at)
    said = desk.look("quota", "list", "--json", *at).json()["quotas"]
    assert [(each["id"], each["amount"], each["left"]) for each in said] == [
        ("apollo/requests/day", 500, 500),
        ("exa/usd/cycle", 12_500_000, 12_500_000),
    ]
    shown = desk.look("quota", "list", *at).out
    assert "500 requests per day" in shown
    assert "$12.50 per cycle from day 15" in shown
    assert desk.look("quota", "unset", "apollo", *at).code == 0
    assert "there is no limit apollo/requests/day" in desk.look("quota", "unset", "apollo", *at).err


@pytest.mark.parametrize(
    ("mistake", "said"),
    [
        (("nobody", "5"), "'nobody' is no provider; there are apollo"),
        (("apollo", "many"), "'many' is not an amount of requests"),
        (("apollo", "1.5"), "finer than requests are counted"),
        (("apollo", "5", "--per", "cycle"), "a cycle needs the day of the month"),
        (("apollo", "5", "--cycle-day", "3"), "only a cycle has a start day"),
        (("exa", "5", "--unit", "usd", "--per", "in_flight"), "only requests can be limited in flight"),
        (("exa", "5", "--per", "cycle", "--cycle-day", "1", "--first-request"), "cannot be a cycle"),
    ],
)
def test_a_limit_that_makes_no_sense_is_explained(desk: Desk, mistake: tuple[str, ...], said: str) -> None:
    done = desk.look("quota", "set", *mistake, "--database", desk.url)
    assert (done.code, said in done.err) == (2, True), done.screen


def test_a_days_limit_ends_the_source_and_raising_it_finishes_the_file(desk: Desk) -> None:
    people = desk.people(12)
    desk.look("quota", "set", "exa", "5", "--database", desk.url)
    first = desk.enrich(people, "--sources", "exa")
    assert desk.requests("exa") == 5
    assert statuses_of(desk.rows(), "exa") - ASKED == {"quota_exceeded"}
    assert "5 requests per day" in {row["exa_error"] for row in desk.rows() if row["exa_error"]}.pop()
    assert first.code == WAITS, first.screen
    assert "again when the limit has turned or is raised" in " ".join(first.screen.split())
    (limit,) = desk.look("quota", "list", "--json", "--database", desk.url).json()["quotas"]
    assert (limit["used"], limit["pending"], limit["left"]) == (5, 0, 0)
    desk.look("quota", "set", "exa", "100", "--database", desk.url)
    desk.finished(people, "--sources", "exa")
    assert desk.requests("exa") == 12
    assert statuses_of(desk.rows(), "exa") <= ASKED
    desk.judged()


def test_a_key_whose_providers_limit_is_used_up_is_not_checked_and_says_so(desk: Desk) -> None:
    desk.look("quota", "set", "contactout", "0", "--database", desk.url)
    done = desk.look("source", "check", "--sandbox-url", desk.sandbox.url, "--json", "--database", desk.url)
    assert done.code == 0, done.screen
    reason = "the limit of 0 requests per day lets nothing through"
    assert done.json()["sources"]["contactout"] == ["not checked", reason]


def test_a_short_limit_makes_the_file_take_its_time(desk: Desk) -> None:
    people = desk.people(12)
    desk.look("quota", "set", "exa", "4", "--per", "second", "--database", desk.url)
    began = time.monotonic()
    desk.finished(people, "--sources", "exa", concurrency=12)
    assert time.monotonic() - began > 1.0, "twelve requests at four a second touch at least three seconds"
    assert statuses_of(desk.rows(), "exa") <= ASKED
    desk.judged()


def test_a_pause_stops_a_running_file_within_a_second_and_outlives_it(desk: Desk) -> None:
    desk.sandbox.post("/_scenario", slow(150))
    people = desk.people(200)
    running = desk.begin(people, "--sources", "exa", concurrency=4)
    until(lambda: desk.requests("exa") >= 4, what="the first requests")
    paused = desk.look("pause", "provider", "exa", "--reason", "invoice in question", "--database", desk.url)
    assert "sluiceway resume provider exa" in paused.out
    time.sleep(1.0)  # what is promised: within a second
    so_far = desk.requests("exa")
    done = running.done()
    assert desk.requests("exa") == so_far
    assert done.code == WAITS, done.screen
    assert re.search(r"provider exa paused by \S+ \(invoice in question\)", done.screen)
    again = desk.enrich(people, "--sources", "exa")
    assert (again.code, desk.requests("exa")) == (WAITS, so_far), "a restart changes nothing about a pause"
    assert "invoice in question" in desk.look("stops", "--database", desk.url).out
    desk.sandbox.post("/_scenario", slow(0))
    assert desk.look("resume", "provider", "exa", "--database", desk.url).code == 0
    desk.finished(people, "--sources", "exa", concurrency=20)
    assert desk.requests("exa") == sum(row["exa_status"] in ASKED for row in desk.rows()) > so_far
    desk.judged()


def test_a_pause_of_everything_stops_everything_and_one_of_somebody_else_nothing(desk: Desk) -> None:
    first, second = desk.people(4), desk.people(4, start=10, name="others.csv")
    desk.look("pause", "all", "--database", desk.url)
    assert desk.enrich(first, "--sources", "exa").code == WAITS
    assert desk.requests("exa") == 0
    desk.look("resume", "all", "--database", desk.url)
    assert "is not paused" in desk.look("resume", "all", "--database", desk.url).err
    assert "there is no tenant" in desk.look("pause", "tenant", "somebody-else", "--database", desk.url).err
    desk.look("tenant", "add", "somebody-else", "--database", desk.url)
    assert desk.look("pause", "tenant", "somebody-else", "--database", desk.url).code == 0
    desk.finished(first, "--sources", "exa")
    desk.finished(second, "--sources", "exa")
    assert desk.requests("exa") == 8


def test_a_batch_is_paused_by_the_start_of_its_id_and_others_go_on(desk: Desk) -> None:
    first, second, at = desk.people(4), desk.people(4, start=10, name="others.csv"), ("--database", desk.url)
    desk.look("quota", "set", "exa", "2", *at)
    desk.enrich(first, "--sources", "exa")
    desk.look("quota", "set", "exa", "100", *at)
    (batch,) = desk.look("usage", "--by", "batch", "--json", *at).json()["rows"]
    assert "there is no batch 'people.csv'" in desk.look("pause", "batch", "people.csv", *at).err
    assert f"batch {batch} paused" in desk.look("pause", "batch", batch[:12], *at).out
    assert desk.enrich(first, "--sources", "exa").code == WAITS
    desk.finished(second, "--sources", "exa")
    assert desk.requests("exa") == 2 + 4
    desk.look("resume", "batch", batch[:12], *at)
    desk.finished(first, "--sources", "exa")
    assert desk.requests("exa") == 4 + 4


def test_a_refused_key_is_kept_in_mind_and_tried_by_one_request(desk: Desk) -> None:
    desk.sandbox.post("/_scenario", slow(20) + '[[fault]]\nprovider = "exa"\nkind = "revoked"\n')
    people = desk.people(30)
    done = desk.enrich(people, "--sources", "exa", concurrency=4)
    assert done.code == WAITS, done.screen
    failed = desk.requests("exa")
    assert 1 <= failed <= 4
    (stop,) = desk.look("stops", "--json", "--database", desk.url).json()["breakers"].values()
    assert stop["cause"] == "condemned"
    again = desk.enrich(people, "--sources", "exa", concurrency=4)
    assert again.code == WAITS
    assert desk.requests("exa") == failed + 1, "one request finds out that nothing was mended"


def test_ctrl_c_ends_work_that_only_waits(desk: Desk) -> None:
    people = desk.people(30)
    desk.look("quota", "set", "exa", "2", "--per", "hour", "--database", desk.url)
    running = desk.begin(people, "--sources", "exa", concurrency=4)
    until(lambda: desk.requests("exa") >= 2, what="the two requests an hour allows")
    running.wait_for("used up")
    running.send(signal.SIGINT)
    done = running.done(within=10)
    assert done.code == 130, done.screen
    assert desk.requests("exa") == 2
