"""Everything that can go wrong does, and every outcome is known all the same."""

from __future__ import annotations

from typing import TYPE_CHECKING

from acceptance.desk import BAD_DAY, SOURCES, slow
from acceptance.judge import Ledger
from sluiceway.outcome import OPEN, Status

if TYPE_CHECKING:
    from acceptance.desk import Desk

# The sources that are asked first; claude is asked about whatever these found.
PAID_FIRST = "source IN ('apollo', 'contactout', 'exa')"
# Prospects and sources whose last result may be asked for again: it failed, and no request was sent after one of
# unknown charge.
DUE = f"""
    SELECT prospect_id, source FROM source_results r
    WHERE {PAID_FIRST} AND status NOT IN ('complete', 'no_data', 'cached', 'skipped')
      AND id = (SELECT max(id) FROM source_results l WHERE l.prospect_id = r.prospect_id AND l.source = r.source)
      AND (SELECT count(*) FROM attempts a WHERE a.prospect_id = r.prospect_id AND a.source = r.source AND a.id >=
           (SELECT min(id) FROM attempts u WHERE u.prospect_id = r.prospect_id AND u.source = r.source
            AND u.charge = 'unknown')) < 2
"""


def test_a_bad_day_ends_with_every_outcome_known(desk: Desk) -> None:
    people = desk.people(60)
    desk.sandbox.post("/_scenario", BAD_DAY)
    desk.finished(people, concurrency=60)
    verdict = desk.judged(usage=desk.usage())
    assert verdict.unknown > 0, "the day was not bad enough to tell"
    desk.wrote_every_row_of(people)
    ends = set(Status) - OPEN
    for row in desk.rows():
        for source in SOURCES:
            status = row[f"{source}_status"]
            assert status in ends, row
            assert bool(row[f"{source}_error"]) or status in ("complete", "no_data"), row
            assert row[f"{source}_at"], row


def test_asking_again_asks_only_what_has_no_answer_and_cost_nothing(desk: Desk) -> None:
    people = desk.people(40)
    faults = '[[fault]]\nkind = "status"\nstatus = 500\nchance = 0.5\n[[fault]]\nkind = "reset-after"\nchance = 0.3\n'
    desk.sandbox.post("/_scenario", slow(1) + faults)
    desk.finished(people, concurrency=60)
    desk.judged()
    with Ledger(desk.store) as ledger:
        due = {tuple(row) for row in ledger.rows(DUE)}
        before = ledger.one("SELECT max(id) FROM attempts")
    assert 5 < len(due) < 120, "some failed for good, some did not"

    desk.sandbox.post("/_scenario", slow(0))
    desk.finished(people, concurrency=60)
    desk.judged()
    with Ledger(desk.store) as ledger:
        asked = ledger.rows(f"SELECT DISTINCT prospect_id, source FROM attempts WHERE id > '{before}' AND {PAID_FIRST}")
        assert {tuple(row) for row in asked} == due
        assert ledger.rows(DUE) == []
