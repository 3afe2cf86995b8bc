"""Before money is spent: what would be asked, the question, the refusal without a terminal, and rows nobody can use."""

from __future__ import annotations

import json
import os
import signal
from typing import TYPE_CHECKING

import pytest

from acceptance.desk import SOURCES, WINDOWS
from acceptance.judge import Ledger

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from acceptance.desk import Desk, Done

KEYS = {
    "APOLLO_API_KEY": "sandbox-a",
    "CONTACTOUT_API_KEY": "sandbox-b",
    "EXA_API_KEY": "sandbox-c",
    "ANTHROPIC_API_KEY": "sandbox-d",
    "SEC_EDGAR_USER_AGENT": "Somebody somebody@sluiceway.example",
}


def _as_if_real(desk: Desk) -> dict[str, str]:
    """Make the sandbox the providers' real address, so that the command takes it for the real ones."""
    paths = {
        "apollo": "/apollo/api/v1",
        "contactout": "/contactout/v1",
        "exa": "/exa",
        "claude": "/claude",
        "edgar": "/edgar",
    }
    urls = {name: desk.sandbox.url + path for name, path in paths.items()}
    pace = dict.fromkeys(paths, 1000.0)
    return {**KEYS, "SLUICEWAY_BASE_URLS": json.dumps(urls), "SLUICEWAY_PACE": json.dumps(pace)}


def _real_command(desk: Desk, people: Path, *options: str) -> list[str]:
    given = ["enrich", str(people), "-o", str(desk.out), "--database", desk.url, "--sources", ",".join(SOURCES)]
    return [*given, *options]


def _rows_in_the_store(desk: Desk) -> dict[str, int]:
    tables = ("batches", "batch_rows", "prospects", "runs", "source_results", "attempts")
    with Ledger(desk.store) as ledger:
        return {table: count for table in tables if (count := ledger.one(f"SELECT count(*) FROM {table}"))}


def test_a_dry_run_says_what_it_would_do_and_does_nothing(desk: Desk) -> None:
    people = desk.people(12)
    done = desk.look(*_real_command(desk, people, "--dry-run"), env=_as_if_real(desk))
    assert done.code == 0, done.screen
    assert "12 rows, 12 prospects" in done.screen
    assert "credits, at most" in done.screen
    assert desk.requests() == 0
    assert _rows_in_the_store(desk) == {}
    assert not desk.out.exists()


def test_a_dry_run_in_json_gives_every_source_its_estimate(desk: Desk) -> None:
    people = desk.people(12)
    desk.finished(people, "--first", "4", "--sources", "apollo")
    done = desk.look(*desk.command(people, "--dry-run", "--json", "--sources", "apollo,exa"))
    said = done.json()
    assert (said["rows"], said["rejected"], said["prospects"]) == (12, 0, 12)
    assert set(said["estimates"]) == {"apollo", "exa"}
    apollo = said["estimates"]["apollo"]
    assert (apollo["ask"], apollo["held"]) == (8, 4)
    assert apollo["credits"] == {"lead": 8000}
    assert apollo["usd_micros"] == 8 * 26_000


def test_a_dry_run_leaves_prospects_that_somebody_else_knows(desk: Desk) -> None:
    people = desk.people(6)
    desk.finished(people, "--first", "3", "--sources", "exa")
    before = _rows_in_the_store(desk)
    assert desk.look(*desk.command(people, "--dry-run")).code == 0
    assert _rows_in_the_store(desk) == before


def test_without_a_terminal_and_a_yes_nothing_is_spent(desk: Desk) -> None:
    people = desk.people(12)
    done = desk.run(*_real_command(desk, people), env=_as_if_real(desk))
    assert done.code == 2, done.screen
    assert "add --yes to agree" in done.err
    assert desk.requests() == 0
    assert _rows_in_the_store(desk) == {}, "a refusal leaves nothing behind"
    assert not desk.out.exists()
    done = desk.run(*_real_command(desk, people, "--yes"), env=_as_if_real(desk))
    assert done.code == 0, done.screen
    desk.judged(faultless=True)


def test_a_source_without_its_key_is_skipped_and_says_so(desk: Desk) -> None:
    people = desk.people(5)
    done = desk.run(*_real_command(desk, people, "--yes"), env=_as_if_real(desk) | {"EXA_API_KEY": ""})
    assert done.code == 0, done.screen
    assert "EXA_API_KEY is not set" in " ".join(done.screen.split())
    assert desk.requests("exa") == 0
    assert desk.judged(faultless=True).statuses["exa"] == {"skipped": 5}
    assert {row["exa_status"] for row in desk.rows()} == {"skipped"}
    done = desk.run(*_real_command(desk, people, "--yes"), env=_as_if_real(desk))
    assert done.code == 0, done.screen
    assert {row["exa_status"] for row in desk.rows()} <= {"complete", "no_data"}


@pytest.fixture
def terminal() -> Iterator[tuple[int, int]]:
    if WINDOWS:
        pytest.skip("no pseudo-terminals")
    ends = os.openpty()
    yield ends
    for end in ends:
        os.close(end)


def _answered(desk: Desk, terminal: tuple[int, int], people: Path, answer: str) -> Done:
    """Run the command at a terminal, and answer its question."""
    ours, theirs = terminal
    running = desk.start(*_real_command(desk, people), env=_as_if_real(desk), stdin=theirs)
    running.wait_for("Go on?")
    os.write(ours, f"{answer}\n".encode())
    return running.done()


def test_answering_no_sends_nothing_and_leaves_nothing(desk: Desk, terminal: tuple[int, int]) -> None:
    done = _answered(desk, terminal, desk.people(6), "n")
    assert done.code == 1, done.screen
    assert "Nothing was sent." in done.screen
    assert desk.requests() == 0
    assert _rows_in_the_store(desk) == {}


def test_answering_yes_goes_on(desk: Desk, terminal: tuple[int, int]) -> None:
    people = desk.people(6)
    done = _answered(desk, terminal, people, "y")
    assert done.code == 0, done.screen
    desk.judged(faultless=True)
    desk.wrote_every_row_of(people)


def test_ctrl_c_at_the_question_is_a_no(desk: Desk, terminal: tuple[int, int]) -> None:
    running = desk.start(*_real_command(desk, desk.people(6)), env=_as_if_real(desk), stdin=terminal[1])
    running.wait_for("Go on?")
    running.send(signal.SIGINT)
    done = running.done(within=10)
    assert done.code in (1, 130), done.screen
    assert desk.requests() == 0
    assert _rows_in_the_store(desk) == {}


BAD_ROWS = """\
first_name,last_name,email,company,linkedin_url
Michael,Pemwell,,Vellakeld Freight Ltd,
,,,,linkedin.com/company/vellakeld
Nadia,,not an address,,
Nadia,Norcombe,nadia.norcombe@vellakeld-freight.example,Vellakeld Freight Ltd,
one,two,three,four,five,six
"""


def test_rows_nobody_can_use_are_listed_with_line_and_reason_and_the_others_go_on(desk: Desk) -> None:
    people = desk.folder / "people.csv"
    people.write_text(BAD_ROWS, encoding="utf-8")
    done = desk.finished(people)
    assert "5 rows, 3 rejected (see" in " ".join(done.screen.split())
    rejects = desk.rows(desk.folder / "people.rejected.csv")
    assert [row["line"] for row in rejects] == ["3", "4", "6"]
    assert "needs a LinkedIn URL, an e-mail, or a name together with a company" in rejects[0]["reason"]
    assert "what stands under e-mail is not an address" in rejects[1]["reason"]
    assert "6 cells where there are 5 columns" in rejects[2]["reason"]
    rows = desk.rows()
    assert [row["enrichment_status"] for row in rows] == ["complete", "rejected", "rejected", "complete", "rejected"]
    assert rows[1]["enrichment_error"].startswith("line 3 needs")
    desk.judged(faultless=True)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "is empty"),
        ("first_name,last_name,company\n", "no rows below them"),
        ("colour,size\nred,4\n", "no column tells who the people are"),
    ],
)
def test_a_file_that_is_no_list_of_people_is_refused_before_anything(desk: Desk, text: str, reason: str) -> None:
    people = desk.folder / "people.csv"
    people.write_text(text, encoding="utf-8")
    done = desk.look(*desk.command(people))
    assert done.code == 2, done.screen
    assert reason in " ".join(done.err.split())
    assert desk.requests() == 0
    assert not desk.store.exists()


def test_a_word_in_brackets_is_a_word_wherever_it_is_shown(desk: Desk) -> None:
    """Column names, people and providers may write what our screens would take for markup."""
    people = desk.folder / "people [draft].csv"
    people.write_text(
        "First name,Last name,Company,email,[/e-mail]\nIn[/b]es,[red]Okafor[/red],Quell,a@quell.example,\n",
        encoding="utf-8",
    )
    body = json.dumps({"error": "unexpected [/token] in [bold]"})
    desk.sandbox.post("/_answer", {"provider": "apollo", "status": 422, "body": body})
    done = desk.finished(people)
    assert "people [draft].csv" in done.screen
    assert 'Column "[/e-mail]" is not used' in " ".join(done.screen.split())
    listed = desk.look("run", "list", "--database", desk.url)
    assert listed.code == 0, listed.screen
    run_id = desk.look("run", "list", "--json", "--database", desk.url).json()[0]["run_id"]
    shown = desk.look("run", "show", run_id, "--database", desk.url)
    assert shown.code == 0, shown.screen
    assert "[/token] in [bold]" in " ".join(shown.screen.split())
