"""A service that is killed at any moment loses nothing that was asked of it, and pays for nothing twice."""

from __future__ import annotations

import random
import signal
import time
from typing import TYPE_CHECKING

import pytest

from acceptance.desk import BAD_DAY, BUSY, KILLED
from acceptance.service import ServiceDesk
from sluiceway.crash import POINTS

if TYPE_CHECKING:
    from acceptance.desk import Desk, Running

# What only a command that takes in a file passes; a call that is tried again and a dead worker's are below.
OF_COMMANDS = {"ingest.chunk", "plan.agreed", "output.writing"}
QUICK = ("run.opened:5", "call.sent:9", "call.answered:12", "commit.before:20", "commit.after:20", "run.closed:4")


def ends_well(service: ServiceDesk, batch_id: str) -> None:
    """Start once more, wait for the end of everything, and be judged."""
    running = service.start()
    service.finishes(batch_id, within=240)
    running.send(signal.SIGTERM)  # so that the counters, which follow the store within a second, are those of the end
    assert running.done().code == 0, running.screen
    verdict = service.desk.judged()
    assert verdict.statuses
    service.every_prospect_ended()


@pytest.mark.parametrize("moment", QUICK)
def test_killed_at_a_point_of_a_batch_it_goes_on(desk: Desk, moment: str) -> None:
    desk.limit()
    service = ServiceDesk(desk, 12)
    service.start(env={"SLUICEWAY_CRASH_AT": moment})
    batch_id = service.enrich_all()
    service.was_killed()
    desk.judged(ended=False)
    ends_well(service, batch_id)


def test_killed_a_few_times_at_random_moments_it_goes_on(desk: Desk, luck: random.Random) -> None:
    kill_at_random(desk, luck, people=30, kills=4, scenario=BUSY)


@pytest.mark.drill
@pytest.mark.timeout(900)
@pytest.mark.parametrize("scenario", [BUSY, BAD_DAY], ids=["busy", "bad-day"])
def test_killed_again_and_again_at_random_moments(desk: Desk, luck: random.Random, books: str, scenario: str) -> None:
    kill_at_random(desk, luck, people=150, kills=20, scenario=scenario)


def kill_at_random(desk: Desk, luck: random.Random, *, people: int, kills: int, scenario: str) -> None:
    """Ask for a batch, and kill the service so many times, now and then while it starts."""
    desk.limit()
    desk.sandbox.post("/_scenario", scenario)
    service = ServiceDesk(desk, people)
    service.start()
    batch_id = service.enrich_all()
    for _ in range(kills):
        if luck.random() < 0.25:
            time.sleep(luck.uniform(0.0, 1.0))  # from before it has opened the store
        else:
            service.asks_some_more(luck.randrange(1, people // 2), 3.0)
            time.sleep(luck.uniform(0.0, 0.05))
        assert service.running is not None
        service.running.kill()
        desk.judged(ended=False)
        service.launch()
    assert service.running is not None
    service.running.kill()
    ends_well(service, batch_id)


@pytest.mark.drill
@pytest.mark.timeout(600)
@pytest.mark.parametrize("point", [point for point in POINTS if point not in OF_COMMANDS])
def test_killed_at_each_point_again_and_again_on_a_bad_day(desk: Desk, luck: random.Random, point: str) -> None:
    desk.limit()
    desk.sandbox.post("/_scenario", BAD_DAY)
    service = ServiceDesk(desk, 40)
    service.start()
    batch_id = service.enrich_all()
    if point == "recover.declared":
        service.asks_some_more(20, 5.0)
    assert service.running is not None
    service.running.kill()
    killed = []
    for _ in range(4):
        n = 1 if point == "recover.declared" else luck.randint(1, 15)
        running = service.launch(env={"SLUICEWAY_CRASH_AT": f"{point}:{n}"})
        _ends_or_is_idle(running, 15.0)
        if running.process.poll() == KILLED:
            killed.append(n)
        running.kill()
        desk.judged(ended=False)
    print(f"{point}: killed at {killed}")
    assert killed, f"{point} was never passed"
    ends_well(service, batch_id)


def _ends_or_is_idle(running: Running, within_s: float) -> None:
    """Wait for the end of the process, so long at most."""
    give_up = time.monotonic() + within_s
    while running.process.poll() is None and time.monotonic() < give_up:
        time.sleep(0.05)
