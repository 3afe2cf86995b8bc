"""Several processes at once, and a store that somebody else is holding on to."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

from acceptance.desk import slow, until
from acceptance.judge import Ledger
from sluiceway.people_file import digest

if TYPE_CHECKING:
    from pathlib import Path

    from acceptance.desk import Desk


def test_the_same_file_in_two_processes_is_enriched_by_the_first(desk: Desk) -> None:
    people = desk.people(40)
    desk.sandbox.post("/_scenario", slow(100))
    first = desk.begin(people)
    until(lambda: desk.requests() > 5)
    second = desk.enrich(people)
    assert second.code == 2, second.screen
    assert f"{people} is being enriched by another process" in second.err
    assert first.done().code == 0
    desk.judged(faultless=True)
    desk.wrote_every_row_of(people)


def test_two_processes_that_share_people_and_a_store_buy_nothing_twice(desk: Desk) -> None:
    one, other = desk.people(40), desk.people(40, start=15, name="others.csv")
    desk.sandbox.post("/_scenario", slow(20))
    started = [desk.begin(one, concurrency=10), desk.begin(other, "-o", "others-out.csv", concurrency=10)]
    for running in started:
        done = running.done()
        assert done.code == 0, done.screen
    verdict = desk.judged(faultless=True, usage=desk.usage())
    assert sum(verdict.statuses["apollo"].values()) == 55
    assert desk.sandbox.meter()["repeated_requests"] == 0
    desk.wrote_every_row_of(one)
    desk.wrote_every_row_of(other, desk.folder / "others-out.csv")
    shared = {row["first_name"] + row["last_name"] + row["company"]: row["enriched_title"] for row in desk.rows()}
    for row in desk.rows(desk.folder / "others-out.csv"):
        name = row["first_name"] + row["last_name"] + row["company"]
        assert shared.get(name, row["enriched_title"]) == row["enriched_title"]


def test_a_process_that_dies_leaves_its_people_to_another_that_is_running(desk: Desk) -> None:
    one, other = desk.people(12), _the_same_people(desk, 12)
    desk.sandbox.post("/_scenario", slow(2000))
    dying = desk.begin(one)
    until(lambda: desk.requests("apollo", "contactout", "exa") >= 12)
    surviving = desk.begin(other, "-o", "others-out.csv", concurrency=20)
    until(lambda: desk.requests("apollo", "contactout", "exa") >= 36)
    dying.kill()
    desk.sandbox.post("/_scenario", slow(0))
    done = surviving.done()
    assert done.code == 0, done.screen
    with Ledger(desk.store) as ledger:
        assert ledger.one("SELECT count(*) FROM runs WHERE closed_at IS NULL") == 0
        assert ledger.one("SELECT count(*) FROM attempts WHERE charge IS NULL") == 0, (
            "the dead one's calls are declared"
        )
    desk.wrote_every_row_of(other, desk.folder / "others-out.csv")
    desk.finished(one)
    desk.judged()


def test_calls_that_a_dead_process_left_open_count_as_asked(desk: Desk) -> None:
    """Unknown once, and asked again by a process that dies: whoever takes over may not ask a third time."""
    one, other, three = desk.people(3), _the_same_people(desk, 3), ("--sources", "apollo,contactout,exa")
    desk.sandbox.post("/_scenario", slow(2000))
    desk.killed(one, "call.sent:9", *three)
    before = desk.requests()
    dying = desk.begin(one, *three)
    until(lambda: desk.requests() >= before + 9)
    surviving = desk.begin(other, *three, "-o", "others-out.csv")
    until(lambda: (desk.store.with_name("people.db.workers") / f"{digest(other)}.lock").exists())
    dying.kill()
    desk.sandbox.post("/_scenario", slow(0))
    assert surviving.done().code == 0
    desk.finished(one, *three)
    desk.judged()
    with Ledger(desk.store) as ledger:
        most = "SELECT count(*) AS n FROM attempts GROUP BY prospect_id, source"
        assert ledger.one(f"SELECT max(n) FROM ({most})") == 2


def test_what_a_dead_process_bought_last_is_not_bought_again(desk: Desk) -> None:
    """The survivor looked while the others' calls were under way; they were answered, and then their process died."""
    one, other, first = desk.people(8), _the_same_people(desk, 8), ("apollo", "contactout", "exa")
    desk.sandbox.post(
        "/_scenario", slow(3000, *first) + '[[latency]]\nprovider = "claude"\nshape = "fixed"\nms = 60000'
    )
    dying = desk.begin(one, concurrency=8)
    until(lambda: desk.requests(*first) >= 24)
    surviving = desk.begin(other, "-o", "others-out.csv", concurrency=1)
    until(lambda: desk.requests("claude") >= 8)
    surviving.wait_for("What will be asked")
    dying.kill()
    desk.sandbox.post("/_scenario", slow(0))
    assert surviving.done().code == 0
    with Ledger(desk.store) as ledger:
        query = "SELECT count(*) AS n FROM attempts WHERE source IN ('apollo', 'contactout', 'exa')"
        assert ledger.one(f"SELECT max(n) FROM ({query} GROUP BY prospect_id, source)") == 1
    desk.finished(one)
    desk.judged()


def _the_same_people(desk: Desk, count: int) -> Path:
    """Write a file of the same people that is not the same file."""
    other = desk.people(count, name="others.csv")
    other.write_text(other.read_text(encoding="utf-8") + "\n", encoding="utf-8")
    return other


def test_a_store_that_is_locked_makes_work_wait_and_then_go_on(desk: Desk) -> None:
    people = desk.people(60)
    desk.sandbox.post("/_scenario", slow(30))
    running = desk.begin(people)
    until(lambda: desk.requests() > 20)
    with closing(sqlite3.connect(desk.store, isolation_level=None, timeout=30)) as holder:
        holder.execute("BEGIN IMMEDIATE")
        desk.comes_to_rest()
        assert running.process.poll() is None
        holder.execute("ROLLBACK")
    done = running.done()
    assert done.code == 0, done.screen
    desk.judged(faultless=True)
