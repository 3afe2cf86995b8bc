"""The judge sees what it is there to see: every kind of tampering with an honest ledger is noticed."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

from acceptance.judge import judge

if TYPE_CHECKING:
    from pathlib import Path

    from acceptance.desk import Desk
    from acceptance.judge import Meter

TAMPERING = {
    "an attempt is missing": "DELETE FROM attempts WHERE id = (SELECT max(id) FROM attempts)",
    "a call was billed and is called free": "UPDATE attempts SET charge = 'free' WHERE id ="
    " (SELECT id FROM attempts WHERE charge = 'billed' LIMIT 1)",
    "a call was free and is called billed": "UPDATE attempts SET charge = 'billed' WHERE id ="
    " (SELECT id FROM attempts WHERE charge = 'free' LIMIT 1)",
    "everything is called unknown": "UPDATE attempts SET charge = 'unknown', milli_credits = NULL, usd_micros = NULL",
    "a price is wrong": "UPDATE attempts SET usd_micros = usd_micros + 1 WHERE source = 'exa'",
    "a daily total is wrong": "UPDATE daily_totals SET billed = billed + 1",
    "a daily total is missing": "DELETE FROM daily_totals WHERE provider = 'apollo'",
    "a rollup is wrong": "UPDATE usage_hours SET latency_us = latency_us + 1",
    "a run is open": "UPDATE runs SET closed_at = NULL WHERE id = (SELECT max(id) FROM runs)",
    "a result is open": "UPDATE source_results SET closed_at = NULL, status = 'running'"
    " WHERE id = (SELECT max(id) FROM source_results)",
    "a batch is open": "UPDATE batches SET finished_at = NULL",
    "an attempt is open": "UPDATE attempts SET charge = NULL, finished_at = NULL"
    " WHERE id = (SELECT max(id) FROM attempts)",
    "what was said is not kept": "DELETE FROM answers WHERE source = 'exa'",
    "somebody was never enriched": "DELETE FROM runs WHERE id = (SELECT max(id) FROM runs)",
    "a stored status is another": "UPDATE prospects SET enrichment_source_status ="
    " replace(enrichment_source_status, 'no_data', 'complete')",
    "a stored word is another": "UPDATE prospects SET enrichment_status = 'partial'",
    "a purchase points nowhere": "UPDATE source_results SET attempt_id = NULL WHERE source = 'apollo'",
    "a failure has no reason": "UPDATE source_results SET status = 'failed', error = NULL WHERE source = 'edgar'",
}


def test_an_honest_ledger_passes_and_every_tampering_is_noticed(desk: Desk) -> None:
    desk.finished(desk.people(8))
    meter = desk.sandbox.meter()["providers"]
    judge(desk.store, meter, faultless=True, usage=desk.usage())
    for what, statement in TAMPERING.items():
        copy = desk.folder / "tampered.db"
        shutil.copy(desk.store, copy)
        with closing(sqlite3.connect(copy)) as connection:
            changed = connection.execute(statement).rowcount
            connection.commit()
        assert changed, what
        assert _objects(copy, meter), f"not noticed: {what}"


def _objects(store: Path, meter: Meter) -> bool:
    try:
        judge(store, meter, faultless=True)
    except AssertionError:
        return True
    return False


def test_a_bill_that_is_higher_than_the_ledger_is_noticed(desk: Desk) -> None:
    desk.finished(desk.people(4), "--sources", "apollo")
    column = desk.sandbox.meter()["providers"]["apollo"]
    for figure in ("requests", "billed", "repeated_requests", "usd_micros"):
        assert _objects(desk.store, {"apollo": {**column, figure: column[figure] + 1}}), figure
    assert not _objects(desk.store, {"apollo": column})
