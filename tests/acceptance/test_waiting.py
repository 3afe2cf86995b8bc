"""Work that sleeps until a limit's window turns, and a process that is killed while it does."""

from __future__ import annotations

from typing import TYPE_CHECKING

from acceptance.desk import until
from acceptance.judge import Ledger

if TYPE_CHECKING:
    from acceptance.desk import Desk

THREE = ("--sources", "apollo,contactout,exa")


def _all_asleep(desk: Desk, count: int) -> bool:
    """Tell whether so many wait for their time, and every call that was made is answered and recorded."""
    with Ledger(desk.store) as ledger:
        asleep = "SELECT count(*) FROM source_results WHERE status = 'waiting' AND wake_at IS NOT NULL"
        pending = "SELECT count(*) FROM source_results WHERE status IN ('pending', 'running')"
        return (ledger.one(asleep), ledger.one(pending)) == (count, 0)


def _asked(desk: Desk) -> dict[str, int]:
    """Return how many requests about people each provider was sent."""
    with Ledger(desk.store) as ledger:
        query = "SELECT provider, count(*) AS n FROM attempts WHERE prospect_id IS NOT NULL GROUP BY provider"
        return {row["provider"]: row["n"] for row in ledger.rows(query)}


def test_a_process_that_is_killed_while_its_work_sleeps_is_gone_on_with_and_nothing_is_bought_twice(desk: Desk) -> None:
    people = desk.people(30)
    limit = ("quota", "set", "exa", "--per", "minute", "--first-request", "--database", desk.url)
    desk.look(*limit, "4")
    sleeping = desk.begin(people, *THREE, concurrency=10)
    until(lambda: _all_asleep(desk, 26), what="everybody else asleep")
    assert _asked(desk) == {"apollo": 30, "contactout": 30, "exa": 4}, "the others were asked meanwhile"
    sleeping.kill()
    desk.judged(ended=False)
    desk.look(*limit, "1000")
    desk.finished(people, *THREE, concurrency=10)
    assert _asked(desk) == {"apollo": 30, "contactout": 30, "exa": 30}
    desk.judged(faultless=True)


def test_two_processes_share_one_short_limit_and_both_finish(desk: Desk) -> None:
    one, other = desk.people(20), desk.people(20, start=40, name="others.csv")
    desk.look("quota", "set", "exa", "8", "--per", "second", "--database", desk.url)
    started = [
        desk.begin(one, "--sources", "exa", concurrency=10),
        desk.begin(other, "--sources", "exa", "-o", "others-out.csv", concurrency=10),
    ]
    for running in started:
        done = running.done()
        assert done.code == 0, done.screen
    with Ledger(desk.store) as ledger:
        most = "SELECT count(*) AS n FROM attempts GROUP BY substr(begun_at, 1, 19)"
        assert ledger.one(f"SELECT max(n) FROM ({most})") == 8
    assert desk.requests("exa") >= 38
    desk.judged(faultless=True)


def test_a_quotas_file_holds_for_those_who_name_it_and_stays_for_those_who_do_not(desk: Desk) -> None:
    people = desk.people(10)
    file = desk.folder / "quotas.toml"
    file.write_text('[[quota]]\nprovider = "exa"\nlimit = 3\n', encoding="utf-8")
    desk.enrich(people, "--sources", "exa", env={"SLUICEWAY_QUOTAS_FILE": str(file)})
    assert desk.requests("exa") == 3
    desk.enrich(people, "--sources", "exa")
    assert desk.requests("exa") == 3, "a process that names no file takes nobody's limit away"
    file.write_text('[[quota]]\nprovider = "exo"\nlimit = 3\n', encoding="utf-8")
    refused = desk.enrich(people, "--sources", "exa", env={"SLUICEWAY_QUOTAS_FILE": str(file)})
    assert refused.code == 2
    assert "'exo' is no provider; there are apollo" in refused.err
    file.write_text("", encoding="utf-8")
    desk.finished(people, "--sources", "exa", env={"SLUICEWAY_QUOTAS_FILE": str(file)})
    assert desk.requests("exa") == 10
    desk.judged()
