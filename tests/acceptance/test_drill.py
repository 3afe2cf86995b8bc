"""Long runs under every trouble we know, at moments nobody chose. `make drill`; the seed is printed.

Give `SLUICEWAY_DRILL_SEED` to have the same moments again, as far as a busy machine allows.
"""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import threading
import time
from contextlib import closing
from itertools import count
from typing import TYPE_CHECKING

import pytest

from acceptance.conftest import BOTH_WAYS
from acceptance.desk import BAD_DAY, BUSY, KILLED, WINDOWS, until
from acceptance.judge import Ledger
from sluiceway.crash import POINTS, POINTS_WITH_REDIS

if TYPE_CHECKING:
    from pathlib import Path

    from acceptance.desk import Desk, Done, Running
    from redis_server import RedisServer

pytestmark = [pytest.mark.drill, pytest.mark.timeout(900)]

PEOPLE = 400


def _to_the_end(desk: Desk, people: Path, *options: str, concurrency: int = 100, most: int = 60) -> Done:
    """Give the command again until everything is done: a provider may have asked for a pause, or condemned a key."""
    for _ in range(most):
        done = desk.begin(people, *options, concurrency=concurrency).done(300)
        if done.code == 0:
            return done
        assert done.code == 3, done.screen
    raise AssertionError(f"it never got done; at last:\n{done.screen}")


# A hundred kills, ten a file.
FILES = [(BOTH_WAYS[n % 2], "bad-day" if n % 4 < 2 else "busy", n) for n in range(10)]
KILLS = 10


@pytest.mark.parametrize(("books", "day", "file"), FILES, indirect=["books"])
def test_killed_at_ten_random_moments(desk: Desk, luck: random.Random, books: str, day: str, file: int) -> None:
    people = desk.people(200)
    desk.sandbox.post("/_scenario", BAD_DAY if day == "bad-day" else BUSY)
    kills = 0
    while kills < KILLS:
        running = desk.begin(people, concurrency=30)
        if luck.random() < 0.2:
            _after(running, luck.uniform(0.0, 1.0))  # from before it has opened the store
        else:
            _asks_some_more(desk, running, luck.randrange(60))
            _after(running, luck.uniform(0.0, 0.05))
        if running.process.poll() is None:
            running.kill()
            kills += 1
            desk.judged(ended=False)
        else:
            assert running.done().code == 3, f"it was done after {kills} kills:\n{running.screen}"
    _to_the_end(desk, people)
    verdict = desk.judged(usage=desk.usage())
    print(f"{kills} kills, {verdict.attempts} attempts, {verdict.unknown} unknown")
    desk.wrote_every_row_of(people)


def _after(running: Running, seconds: float) -> None:
    """Wait so long, or until it ends."""
    give_up = time.monotonic() + seconds
    while time.monotonic() < give_up and running.process.poll() is None:
        time.sleep(0.01)


# How often a point is passed in a run of sixty people, where that is not a hundred times and more.
PASSED = {
    "ingest.chunk": 1,
    "plan.agreed": 1,
    "recover.declared": 1,
    "output.writing": 1,
    "counters.published": 3,
    "document.stored": 8,
    "retry.before": 8,
    "commit.before": 30,
    "commit.after": 30,
    "run.admitted": 40,
    "run.opened": 40,
    "last.asked": 40,
    "run.closed": 40,
}


MATRIX = [(books, point) for point in POINTS for books in BOTH_WAYS]
MATRIX += [(BOTH_WAYS[1], point) for point in POINTS_WITH_REDIS]


@pytest.mark.parametrize(("books", "point"), MATRIX, indirect=["books"])
def test_killed_at_each_point_again_and_again_on_a_bad_day(
    desk: Desk, luck: random.Random, books: str, point: str
) -> None:
    people = desk.people(60)
    desk.sandbox.post("/_scenario", BAD_DAY)
    if point == "recover.declared":
        desk.killed(people, "call.sent:60", concurrency=30)
    killed = []
    for _ in range(4):
        n = luck.randint(1, PASSED.get(point, 100))
        done = desk.enrich(people, concurrency=30, env={"SLUICEWAY_CRASH_AT": f"{point}:{n}"})
        desk.judged(ended=False)
        if done.code == KILLED:
            killed.append(n)
    print(f"{point}: killed at {killed}")
    assert killed, f"{point} was never passed"
    _to_the_end(desk, people, concurrency=30)
    desk.judged(usage=desk.usage())
    desk.wrote_every_row_of(people)


@pytest.mark.skipif(WINDOWS, reason="Windows cannot send a process the signal of a Ctrl-C or a stop")
def test_stopped_with_ctrl_c_at_random_moments(desk: Desk, luck: random.Random) -> None:
    people = desk.people(PEOPLE)
    desk.sandbox.post("/_scenario", BAD_DAY)
    codes = []
    for _ in range(12):
        running = desk.begin(people, concurrency=100)
        running.wait_for("What will be asked")
        _after(running, luck.uniform(0.0, 1.5))
        twice = luck.random() < 0.3
        for _ in range(2 if twice else 1):
            running.send(signal.SIGINT)
            _after(running, luck.uniform(0.0, 0.3))
        done = running.done()
        codes.append(done.code)
        assert done.code in (0, 3, 130), done.screen
        left = desk.judged(ended=False)
        if not twice:
            assert all(spent.open == 0 for spent in left.spent.values()), "calls in flight were not finished"
    assert 130 in codes
    _to_the_end(desk, people)
    desk.judged(usage=desk.usage())
    desk.wrote_every_row_of(people)


@pytest.mark.skipif(WINDOWS, reason="Windows cannot send a process the signal of a Ctrl-C or a stop")
def test_providers_that_stop_answering_for_a_while(desk: Desk, luck: random.Random) -> None:
    """The sandbox is suspended: connections stay open, and nothing comes."""
    people = desk.people(PEOPLE)
    desk.sandbox.post("/_scenario", BUSY.replace("all = 30.0", "all = 2.0"))
    running = desk.begin(people, concurrency=50)
    for _ in range(3):
        _asks_some_more(desk, running, 60)
        os.kill(desk.sandbox.pid, signal.SIGSTOP)
        _after(running, luck.uniform(2.0, 5.0))
        os.kill(desk.sandbox.pid, signal.SIGCONT)
    done = running.done(300)
    assert done.code in (0, 3), done.screen
    desk.judged(stopped=() if done.code == 0 else ("apollo", "contactout", "exa", "edgar", "claude"))
    _to_the_end(desk, people)
    desk.judged(usage=desk.usage())
    desk.wrote_every_row_of(people)


def _asks_some_more(desk: Desk, running: Running, more: int) -> None:
    enough = desk.requests() + more
    until(lambda: running.process.poll() is not None or desk.requests() > enough)


@pytest.mark.parametrize("seconds", [4, 33])
def test_a_store_that_somebody_else_locks(desk: Desk, luck: random.Random, seconds: int) -> None:
    """Also for longer than the 30 seconds that a reader waits, and than any call may take."""
    people = desk.people(PEOPLE)
    desk.sandbox.post("/_scenario", BUSY)
    running = desk.begin(people, concurrency=50)
    until(lambda: desk.requests() > luck.randrange(100, 400))
    with closing(sqlite3.connect(desk.store, isolation_level=None, timeout=30)) as holder:
        holder.execute("BEGIN IMMEDIATE")
        _after(running, seconds)
        holder.execute("ROLLBACK")
    done = running.done(300)
    assert done.code == 0, done.screen
    assert done.screen.count("the store cannot be written") == 1
    assert done.screen.count("the store can be written again; going on") == 1
    desk.judged(faultless=True, usage=desk.usage())
    desk.wrote_every_row_of(people)


def test_two_processes_with_one_store_killed_at_random(
    desk: Desk, luck: random.Random, redis_server: RedisServer
) -> None:
    desk.limit()
    desk.count_in(redis_server)
    one, other = desk.people(250), desk.people(250, start=100, name="others.csv")
    desk.sandbox.post("/_scenario", BUSY)
    done = threading.Event()
    troubles: list[BaseException] = []

    def drive(people: Path, out: str, luck: random.Random) -> None:
        try:
            for round_ in count():
                running = desk.begin(people, "-o", out, concurrency=50)
                if round_ < 8:
                    _after(running, luck.uniform(0.8, 3.0))
                if running.process.poll() is None and round_ < 8:
                    running.kill()
                    continue
                ended = running.done(300)
                assert ended.code in (0, 3), ended.screen
                if ended.code == 0:
                    return
        except BaseException as trouble:
            troubles.append(trouble)
            done.set()

    threads = [
        threading.Thread(target=drive, args=(people, out, random.Random(luck.random())))
        for people, out in ((one, "one-out.csv"), (other, "other-out.csv"))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not troubles, troubles
    for people, out in ((one, "one-out.csv"), (other, "other-out.csv")):
        _to_the_end(desk, people, "-o", out)
        desk.wrote_every_row_of(people, desk.folder / out)
    desk.judged(usage=desk.usage())


def test_a_refresh_killed_at_random(desk: Desk, luck: random.Random) -> None:
    people = desk.people(150)
    desk.finished(people, concurrency=100)
    first = {name: column["billed"] for name, column in desk.sandbox.meter()["providers"].items()}
    desk.sandbox.post("/_meter/reset")
    desk.sandbox.post("/_scenario", BUSY)
    for kills in count():
        running = desk.begin(people, "--refresh", concurrency=30)
        if kills < 8:
            _after(running, luck.uniform(0.8, 2.5))
        if running.process.poll() is None and kills < 8:
            running.kill()
            if "rows written" in running.screen:
                break  # it was over, and the next would be another refresh
            continue
        done = running.done(300)
        if done.code == 0:
            break
        assert done.code == 3, done.screen
    meter = desk.sandbox.meter()["providers"]
    with Ledger(desk.store) as ledger:
        unknown = {name: spent.unknown for name, spent in ledger.spent().items()}
    for provider in ("apollo", "contactout", "exa", "claude"):
        assert meter[provider]["repeated_billed"] <= unknown[provider]
        assert first[provider] <= meter[provider]["billed"] <= first[provider] + unknown[provider]


def test_twenty_thousand_people_take_no_more_memory_than_a_few(desk: Desk) -> None:
    psutil = pytest.importorskip("psutil")
    people = desk.people(20_000)
    running = desk.begin(people, concurrency=200)
    watched, peak = psutil.Process(running.process.pid), 0
    while running.process.poll() is None:
        try:
            peak = max(peak, watched.memory_info().rss)
        except psutil.Error:
            break
        time.sleep(0.05)
    done = running.done(30)
    assert done.code == 0, done.screen
    print(f"peak {peak / 1e6:.0f} MB")
    assert peak < 300e6
    desk.judged(faultless=True, usage=desk.usage())
    desk.wrote_every_row_of(people)
