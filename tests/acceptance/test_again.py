"""What was bought is not bought again: not by the same file, not by another, and by a refresh exactly once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from acceptance.desk import SOURCES
from acceptance.judge import Ledger, each_bill

if TYPE_CHECKING:
    from acceptance.desk import Desk


def test_the_same_file_twice_sends_nothing_the_second_time(desk: Desk) -> None:
    people = desk.people(20)
    desk.finished(people)
    meter, outcomes, results = desk.sandbox.meter(), desk.outcomes(), _count(desk, "source_results")
    first = desk.out.read_bytes()
    desk.finished(people)
    assert desk.sandbox.meter() == meter
    assert desk.outcomes() == outcomes
    assert desk.out.read_bytes() == first
    assert _count(desk, "source_results") == results
    desk.judged(faultless=True)


def test_another_file_with_the_same_people_is_served_from_what_is_held(desk: Desk) -> None:
    desk.finished(desk.people(20))
    meter, outcomes = desk.sandbox.meter(), desk.outcomes()
    other = desk.people(20, name="the same people.csv")
    other.write_text(other.read_text(encoding="utf-8") + "\n\n", encoding="utf-8")  # another digest
    second = desk.finished(other)
    assert desk.sandbox.meter() == meter
    assert desk.outcomes() == outcomes
    verdict = desk.judged(faultless=True)
    for source in SOURCES:
        assert verdict.statuses[source].keys() <= {"cached", "skipped"}, source
        assert verdict.statuses[source]["cached"] > 0
    assert "already held" in second.screen


def test_a_refresh_buys_everything_again_exactly_once(desk: Desk) -> None:
    people = desk.people(15)
    desk.finished(people)
    first = dict(each_bill(desk.sandbox.meter()["providers"]))
    desk.finished(people, "--refresh")
    after = dict(each_bill(desk.sandbox.meter()["providers"]))
    assert after == {provider: 2 * billed for provider, billed in first.items()}
    desk.finished(people)
    assert dict(each_bill(desk.sandbox.meter()["providers"])) == after, "afterwards everything is held again"
    desk.judged(faultless=True, refreshes=1)


def test_a_refresh_that_is_killed_goes_on_and_buys_each_only_once(desk: Desk) -> None:
    people = desk.people(15)
    desk.finished(people)
    first = dict(each_bill(desk.sandbox.meter()["providers"]))
    desk.sandbox.post("/_meter/reset")
    desk.killed(people, "commit.after:12", "--refresh")
    desk.killed(people, "call.answered:14", "--refresh")
    desk.killed(people, "output.writing:1", "--refresh")
    desk.finished(people, "--refresh")
    meter = desk.sandbox.meter()["providers"]
    with Ledger(desk.store) as ledger:
        unknown = {name: spent.unknown for name, spent in ledger.spent().items()}
    for provider, billed in each_bill(meter):
        assert first[provider] <= billed <= first[provider] + unknown[provider], provider
        assert meter[provider]["repeated_requests"] <= unknown[provider]
    desk.wrote_every_row_of(people)


def test_a_finished_refresh_is_over_and_asking_for_one_again_is_a_new_one(desk: Desk) -> None:
    people = desk.people(5)
    for _ in range(2):
        desk.finished(people, "--refresh", "--sources", "apollo")
    billed = desk.sandbox.meter()["providers"]["apollo"]
    assert billed["repeated_billed"] * 2 == billed["billed"] > 0


def test_a_refresh_that_fails_keeps_what_is_held(desk: Desk) -> None:
    people = desk.people(8)
    desk.finished(people, "--sources", "apollo")
    held = [row["enriched_title"] for row in desk.rows()]
    assert any(held)
    desk.sandbox.post("/_answer", {"provider": "apollo", "status": 422, "body": '{"error": "no"}', "times": 8})
    desk.finished(people, "--sources", "apollo", "--refresh")
    assert [row["enriched_title"] for row in desk.rows()] == held
    assert {row["apollo_status"] for row in desk.rows()} == {"failed"}


def test_the_first_rows_and_then_the_whole_file_pay_for_the_first_rows_once(desk: Desk) -> None:
    people = desk.people(15)
    first = desk.finished(people, "--first", "5")
    assert "5 rows, 5 prospects" in first.screen
    assert desk.sandbox.meter()["providers"]["exa"]["requests"] <= 5
    desk.wrote_every_row_of(people)
    assert [row["enrichment_status"] == "none" for row in desk.rows()] == [False] * 5 + [True] * 10
    desk.finished(people)
    verdict = desk.judged(faultless=True)
    assert verdict.statuses["apollo"]["cached"] == 5
    assert desk.sandbox.meter()["repeated_requests"] == 0
    assert all(row["enrichment_status"] in ("complete", "no_data") for row in desk.rows())


def test_left_unknown_is_not_asked_again_and_ask_once_asks_once(desk: Desk) -> None:
    people = desk.people(6)
    lost = {"provider": "apollo", "cut": "after", "billed": True, "credits": 1000, "usd_micros": 26000, "times": 6}
    desk.sandbox.post("/_answer", lost)
    desk.finished(people, "--sources", "apollo", "--on-unknown", "leave")
    assert desk.requests("apollo") == 6
    assert {row["apollo_status"] for row in desk.rows()} == {"failed"}
    desk.finished(people, "--sources", "apollo", "--on-unknown", "leave")
    assert desk.requests("apollo") == 6
    assert {row["apollo_status"] for row in desk.rows()} <= {"failed", "unknown"}
    desk.finished(people, "--sources", "apollo", "--on-unknown", "ask-once")
    assert desk.requests("apollo") == 12
    assert {row["apollo_status"] for row in desk.rows()} <= {"complete", "no_data"}
    desk.judged()


def _count(desk: Desk, table: str) -> int:
    with Ledger(desk.store) as ledger:
        count: int = ledger.one(f"SELECT count(*) FROM {table}")
        return count
