"""Ctrl-C ends a run in order, a second one ends it at once, and the same command goes on either way."""

from __future__ import annotations

import signal
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from acceptance.desk import WINDOWS, slow, until

if TYPE_CHECKING:
    from acceptance.desk import Desk

pytestmark = pytest.mark.skipif(WINDOWS, reason="Windows cannot send a process the signal of a Ctrl-C or a stop")

GO_ON = "Give the same command again: it goes on where this stopped and buys nothing twice."


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_lets_calls_in_flight_finish_and_the_same_command_goes_on(desk: Desk, number: int) -> None:
    people = desk.people(40)
    desk.sandbox.post("/_scenario", slow(120))
    running = desk.begin(people)
    until(lambda: desk.requests() > 20)
    running.send(number)
    stopped = running.done()

    assert stopped.code == 130, stopped.screen
    assert "Stopping: calls in flight finish, no new ones begin." in stopped.screen
    assert GO_ON in stopped.screen
    left = desk.judged(ended=False)
    assert left.unknown == 0
    assert sum(spent.open for spent in left.spent.values()) == 0
    desk.wrote_every_row_of(people)

    desk.sandbox.post("/_scenario", slow(0))
    desk.finished(people, concurrency=20)
    desk.judged(faultless=True, usage=desk.usage())
    desk.wrote_every_row_of(people)


def test_a_second_ctrl_c_leaves_at_once(desk: Desk) -> None:
    people = desk.people(10)
    desk.sandbox.post("/_scenario", slow(60_000, timeout_s=90))
    running = desk.begin(people)
    until(lambda: desk.requests() >= 9)
    running.send(signal.SIGINT)
    running.wait_for("Stopping:")
    running.send(signal.SIGINT)
    stopped = running.done(within=10)
    assert stopped.code == 130, stopped.screen
    desk.judged(ended=False)

    desk.sandbox.post("/_scenario", slow(0))
    desk.finished(people)
    assert desk.judged().unknown > 0
    desk.wrote_every_row_of(people)


def test_a_second_ctrl_c_leaves_at_once_even_when_the_store_is_locked(desk: Desk) -> None:
    people = desk.people(10)
    desk.sandbox.post("/_scenario", slow(300))
    running = desk.begin(people)
    until(lambda: desk.requests() >= 9)
    with closing(sqlite3.connect(desk.store, isolation_level=None, timeout=30)) as holder:
        holder.execute("BEGIN IMMEDIATE")
        running.wait_for("the store cannot be written")
        running.send(signal.SIGINT)
        running.wait_for("Stopping:")
        running.send(signal.SIGINT)
        stopped = running.done(within=10)
        holder.execute("ROLLBACK")
    assert stopped.code == 130, stopped.screen
    desk.finished(people)
    desk.judged()


def test_ctrl_c_before_anything_was_asked_stops_too(desk: Desk) -> None:
    people = desk.people(3000)
    running = desk.begin(people)
    until(desk.store.exists)
    running.send(signal.SIGINT)
    stopped = running.done()
    assert stopped.code == 130, stopped.screen
    desk.judged(ended=False)


def test_a_run_that_is_stopped_again_and_again_gets_done(desk: Desk) -> None:
    people = desk.people(40)
    desk.sandbox.post("/_scenario", slow(100))
    codes = []
    for _ in range(2):
        running = desk.begin(people)
        _asks_some_more(desk, 10)
        running.send(signal.SIGINT)
        codes.append(running.done().code)
        assert desk.judged(ended=False).unknown == 0
    assert codes == [130, 130]
    desk.sandbox.post("/_scenario", slow(0))
    desk.finished(people)
    desk.judged(faultless=True)


def _asks_some_more(desk: Desk, more: int) -> None:
    enough = desk.requests() + more
    until(lambda: desk.requests() > enough)
