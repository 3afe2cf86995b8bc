"""A disk that fills up under the store: nothing is sent that is not recorded, and the work goes on with more room."""

from __future__ import annotations

import random
import subprocess
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from acceptance.desk import BUSY, Desk, slow, until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from acceptance.desk import Running
    from redis_server import RedisServer
    from sluiceway.sandbox.process import SandboxProcess

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="the disk that is filled is a tmpfs, which only Linux has"
)

FULL, ROOM = 65_536, 1 << 40


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of a hundred megabytes."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=96m", "tmpfs", disk], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("only an administrator may mount a disk")
    yield disk
    subprocess.run(["umount", disk], check=True)


@pytest.fixture
def desk(
    request: pytest.FixtureRequest, tmp_path: Path, sandbox: SandboxProcess, redis_server: RedisServer
) -> Iterator[Desk]:
    """A desk that counts in Redis and has limits; its store is on the small disk where the test has one."""
    disk = request.getfixturevalue("small_disk") if "small_disk" in request.fixturenames else tmp_path
    with Desk(tmp_path, sandbox, store=f"{disk}/people.db") as desk:
        desk.count_in(redis_server)
        desk.limit()
        yield desk


def leave_room(running: Running, bytes_: int) -> None:
    """Let a process write so far into any file and no further, which for SQLite's files is as good as a full disk."""
    import resource

    _, most = resource.prlimit(running.process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(running.process.pid, resource.RLIMIT_FSIZE, (bytes_, most))


def test_a_full_disk_makes_work_wait_and_it_goes_on_when_there_is_room(desk: Desk) -> None:
    people = desk.people(60)
    desk.sandbox.post("/_scenario", slow(30))
    running = desk.begin(people)
    until(lambda: desk.requests() > 20)
    leave_room(running, FULL)
    running.wait_for("work waits until it can")
    desk.comes_to_rest()
    assert running.process.poll() is None, running.screen
    desk.judged(ended=False)

    leave_room(running, ROOM)
    done = running.done()
    assert done.code == 0, done.screen
    assert "the store can be written again; going on" in done.screen
    desk.judged(faultless=True, usage=desk.usage())
    desk.wrote_every_row_of(people)


def test_a_process_killed_on_a_full_disk_has_sent_nothing_that_is_not_recorded(desk: Desk) -> None:
    people = desk.people(30)
    desk.sandbox.post("/_scenario", slow(30))
    running = desk.begin(people)
    until(lambda: desk.requests() > 20)
    leave_room(running, FULL)
    running.wait_for("work waits until it can")
    desk.comes_to_rest()
    running.kill()
    left = desk.judged(ended=False)
    assert left.doubtful, "answers that could not be recorded"

    desk.finished(people)
    assert desk.judged(usage=desk.usage()).unknown == left.doubtful
    desk.wrote_every_row_of(people)


def fill(disk: Path) -> Path:
    """Take all the room there is on a disk."""
    ballast = disk / "ballast"
    with ballast.open("ab", buffering=0) as file, suppress(OSError):
        for size in (1 << 20, 1 << 12):
            while file.write(bytes(size)) == size:
                pass
    return ballast


@pytest.mark.drill
@pytest.mark.timeout(600)
def test_a_disk_that_fills_up_again_and_again(desk: Desk, small_disk: Path, luck: random.Random) -> None:
    people = desk.people(1000)
    desk.sandbox.post("/_scenario", BUSY)
    running = desk.begin(people, concurrency=50)
    for times in range(1, 5):
        _asks_some_more(desk, luck.randrange(50, 500))
        ballast = fill(small_disk)
        until(lambda times=times: running.screen.count("work waits until it can") == times, what="its saying so")
        desk.comes_to_rest()
        print(f"full at {desk.requests()} requests")
        desk.judged(ended=False)
        assert running.process.poll() is None, running.screen
        if times < 4:
            ballast.unlink()
    running.kill()
    left = desk.judged(ended=False)
    new = desk.run("usage", "--database", f"sqlite:///{small_disk}/another.db")
    assert (new.code, "database or disk is full" in new.err) == (1, True), new.screen

    again = desk.begin(people, concurrency=50)
    again.wait_for("the store cannot be written (database or disk is full); work waits until it can")
    desk.comes_to_rest()
    desk.judged(ended=False)
    ballast.unlink()
    done = again.done(300)
    assert done.code == 0, done.screen
    verdict = desk.judged(usage=desk.usage())
    assert verdict.unknown == left.doubtful
    desk.wrote_every_row_of(people)


def _asks_some_more(desk: Desk, more: int) -> None:
    enough = desk.requests() + more
    until(lambda: desk.requests() > enough)
