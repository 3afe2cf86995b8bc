"""A process that is killed at any moment loses nothing, and the same command goes on from there."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from acceptance.deaths import MOMENTS
from acceptance.judge import Ledger

if TYPE_CHECKING:
    from concurrent.futures import Future

    from acceptance.desk import Desk


@pytest.mark.parametrize("moment", MOMENTS)
def test_killed_at_any_point_it_goes_on_and_pays_for_nothing_twice(
    deaths: dict[str, Future[None]], moment: str
) -> None:
    deaths[moment].result()


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
