"""What a file leaves behind for whoever operates: uploads, enrichments and exports, and sums that hold."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from acceptance.desk import SOURCES
from acceptance.judge import Ledger

if TYPE_CHECKING:
    from acceptance.desk import Desk


def answer(desk: Desk, command: str, *options: str) -> Any:
    done = desk.look("admin", command, *options, "--json", "--database", desk.url)
    assert done.code == 0, done.screen
    return done.json()


def actions(desk: Desk) -> dict[str, int]:
    with Ledger(desk.store) as ledger:
        rows = ledger.rows("SELECT action, sum(events) AS events FROM activity_days GROUP BY action")
        return {row["action"]: row["events"] for row in rows}


def test_a_file_is_an_upload_its_enrichments_and_an_export(desk: Desk) -> None:
    people = desk.people(12)
    desk.finished(people)
    with Ledger(desk.store) as ledger:
        bought = ledger.rows("SELECT DISTINCT run_id FROM source_results WHERE status = 'complete'")
        exported = ledger.rows("SELECT DISTINCT prospect_id FROM exported")
    assert actions(desk) == {"csv_uploaded": 1, "profile_enriched": len(bought), "csv_exported": 1}
    assert len(exported) == 12
    stages = {stage["action"]: stage for stage in answer(desk, "funnel")["stages"]}
    assert stages["profile_enriched"]["prospects"]["value"] == len(bought)
    assert stages["csv_exported"]["prospects"]["value"] == 12
    desk.finished(people)  # everything is held: exported again, but not brought or enriched again
    assert actions(desk) == {"csv_uploaded": 1, "profile_enriched": len(bought), "csv_exported": 2}
    assert {stage["prospects"]["value"] for stage in answer(desk, "funnel")["stages"][3:]} == {12}


def test_after_a_crash_every_sum_still_holds_and_nothing_is_counted_twice(desk: Desk) -> None:
    people = desk.people(12)
    desk.killed(people, "commit.after:9")
    desk.killed(people, "commit.before:14")
    desk.finished(people)
    reconciled = desk.look("usage", "reconcile", "--json", "--database", desk.url)
    assert reconciled.code == 0, reconciled.screen
    assert reconciled.json()["figures"] == []
    with Ledger(desk.store) as ledger:
        bought = ledger.rows("SELECT DISTINCT run_id FROM source_results WHERE status = 'complete'")
    counted = actions(desk)
    assert (counted["csv_uploaded"], counted["profile_enriched"]) == (1, len(bought))


def test_every_source_is_in_the_answer_about_health(desk: Desk) -> None:
    desk.finished(desk.people(5))
    found = answer(desk, "health")
    assert {source["source"] for source in found["sources"]} == set(SOURCES)
    assert all(source["p95_us"]["value"] for source in found["sources"] if source["attempts"])
