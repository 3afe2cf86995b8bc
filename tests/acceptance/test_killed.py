"""A process that is killed at any moment loses nothing, and the same command goes on from there."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from queue import SimpleQueue
from typing import TYPE_CHECKING

import pytest

from acceptance.desk import SOURCES, Desk
from acceptance.judge import Ledger
from sluiceway.crash import POINTS
from sluiceway.sandbox.process import SandboxProcess

if TYPE_CHECKING:
    from collections.abc import Iterator
    from concurrent.futures import Future

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


@pytest.mark.parametrize("moment", MOMENTS)
def test_killed_at_any_point_it_goes_on_and_pays_for_nothing_twice(
    deaths: dict[str, Future[None]], moment: str
) -> None:
    deaths[moment].result()


@pytest.fixture(scope="module")
def deaths(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Future[None]]]:
    """Start all the killing that was asked for, two at a time, since most of it is processes starting."""
    specs = [getattr(item, "callspec", None) for item in request.session.items]
    moments = [spec.params["moment"] for spec in specs if spec and "moment" in spec.params]
    free: SimpleQueue[SandboxProcess] = SimpleQueue()

    def die(moment: str) -> None:
        sandbox = free.get()
        try:
            with Desk(tmp_path_factory.mktemp("desk"), sandbox) as desk:
                sandbox.post("/_scenario/restart")
                sandbox.post("/_meter/reset")
                _die_and_go_on(desk, moment)
        finally:
            free.put(sandbox)

    with ExitStack() as stack:
        for _ in range(2):
            free.put(stack.enter_context(SandboxProcess()))
        pool = stack.enter_context(ThreadPoolExecutor(2))
        yield {moment: pool.submit(die, moment) for moment in moments}
        pool.shutdown(cancel_futures=True)


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
        case "document.stored" if "edgar" not in SOURCES:
            pytest.skip("only EDGAR has documents")


def test_a_large_file_that_is_killed_while_it_is_taken_in_is_taken_in_once(desk: Desk) -> None:
    people = desk.people(520)
    desk.killed(people, "ingest.chunk:2", "--first", "505", "--sources", "apollo")
    with Ledger(desk.store) as ledger:
        assert ledger.one("SELECT count(*) FROM batch_rows") == 500
    desk.finished(people, "--first", "505", "--sources", "apollo", concurrency=50)
    desk.judged(faultless=True)
    with Ledger(desk.store) as ledger:
        assert ledger.one("SELECT count(*) FROM batch_rows") == 505
        assert ledger.one("SELECT count(*) FROM prospects") == 505
        assert ledger.one("SELECT count(*) FROM batches") == 1
    desk.wrote_every_row_of(people)


def test_a_crash_loop_never_buys_a_third_time(desk: Desk) -> None:
    people = desk.people(3)
    for _ in range(4):
        desk.killed(people, "call.answered:1")
        desk.judged(ended=False)
    desk.finished(people)
    verdict = desk.judged(usage=desk.usage())
    desk.wrote_every_row_of(people)
    assert verdict.unknown > len(people.read_text().splitlines()), "the loop did lose answers"
    with Ledger(desk.store) as ledger:
        paid = "SELECT count(*) AS n FROM attempts WHERE source != 'edgar' AND charge IN ('unknown', 'billed')"
        assert ledger.one(f"SELECT max(n) FROM ({paid} GROUP BY prospect_id, source)") == 2
