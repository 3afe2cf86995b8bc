"""Where a process may be killed, and what has to hold each time: the one test that runs ahead of the others.

There are many such moments and each starts two processes or three, so they are gone through beside the other tests,
against a sandbox of their own. Every second one counts in Redis as well; `make drill` has all of them both ways.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from acceptance.desk import SOURCES
from redis_server import private_redis
from sluiceway.crash import POINTS

if TYPE_CHECKING:
    from acceptance.desk import Desk

PEOPLE = 14
# How often a point is passed before the kill, where the first time is not the only interesting one.
TIMES = {
    "run.opened": (7,),
    "call.sending": (16,),
    "call.sent": (1, 16),
    "call.answered": (16,),
    "finish.queued": (7,),
    "commit.before": (1, 6),
    "commit.after": (9,),
    "last.asked": (5,),
    "run.closed": (9,),
}
# Points at which nothing is under way, so nothing can be in doubt.
QUIET = ("ingest.chunk", "plan.agreed", "output.writing")


MOMENTS = [f"{point}:{n}" for point in POINTS for n in TIMES.get(point, (1,))]
IN_REDIS_TOO = MOMENTS[1::2]


def die_and_go_on(desk: Desk, moment: str) -> None:
    """Be killed at `point:n`, give the same command again, and be judged."""
    desk.limit()
    if moment not in IN_REDIS_TOO:
        _die_and_go_on(desk, moment)
        return
    with private_redis(desk.folder / "redis") as redis:
        desk.count_in(redis)
        _die_and_go_on(desk, moment)


def _die_and_go_on(desk: Desk, moment: str) -> None:
    people = desk.people(PEOPLE)
    point = moment.partition(":")[0]
    _set_up(desk, point)
    desk.killed(people, moment)
    left = desk.judged(ended=False)
    assert not desk.out.exists()

    again = desk.finished(people)
    verdict = desk.judged()
    desk.wrote_every_row_of(people)
    assert set(verdict.statuses) == set(SOURCES)
    assert verdict.unknown == left.doubtful, "going on made nothing unknown that was not so already"
    was_told = f"{left.doubtful} calls of a run that was cut short" in again.screen
    assert was_told == (left.doubtful > left.unknown)
    if point in QUIET:
        desk.judged(faultless=True)


def _set_up(desk: Desk, point: str) -> None:
    """Bring about what a point needs to be passed at all."""
    match point:
        case "retry.before":
            desk.sandbox.post("/_answer", {"provider": "apollo", "status": 500, "times": 2})
        case "recover.declared":
            desk.killed(desk.folder / "people.csv", "call.sent:5")
