"""A person who is erased, or on the list, is in nothing that we hold or write, and nobody is asked about them."""

from __future__ import annotations

import csv
import json
import os
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from acceptance.desk import slow, until
from acceptance.test_canaries import traces
from planted import EMAIL, EMPLOYER, FIRST, FOUND_EMAIL, LAST, PHONE, PROFILE, TRACES, plant

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from acceptance.desk import Desk

HEADER = ("first_name", "last_name", "email", "linkedin_url", "company")


def write_people(path: Path, *rows: tuple[str, ...]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(HEADER)
        writer.writerows(rows)
    return path


@pytest.fixture
def planted(desk: Desk) -> Path:
    """A list of one, of whom Apollo, ContactOut and Exa know all there is to know."""
    plant(desk.sandbox)
    return write_people(desk.folder / "one.csv", (FIRST, LAST, EMAIL, "", EMPLOYER))


@pytest.fixture
def logged(desk: Desk) -> Path:
    """Where everything that any command logs is kept, as an operator would who looks for a fault."""
    log = desk.folder / "all.log"
    (desk.folder / "sitecustomize.py").write_text(
        f"import logging\nlogging.basicConfig(filename={str(log)!r}, level=logging.DEBUG)\n"
        "logging.getLogger('sqlalchemy').setLevel(logging.INFO)\n"
    )
    desk.env["PYTHONPATH"] = os.pathsep.join(filter(None, (str(desk.folder), os.environ.get("PYTHONPATH"))))
    return log


def looked(desk: Desk, *command: str) -> str:
    done = desk.look(*command, "--database", desk.url)
    assert done.code == 0, done.screen
    return done.out


FIGURES = (
    ("usage", "--json"),
    *(("usage", "--by", by, "--json") for by in ("source", "tenant", "batch", "trigger", "hour")),
)


def figures(desk: Desk) -> list[str]:
    """Every sum that a person can ask for, as it is printed, and how source results ended."""
    with closing(sqlite3.connect(desk.store)) as ledger:
        ended = ledger.execute("SELECT source, status, count(*) FROM source_results GROUP BY 1, 2 ORDER BY 1, 2")
        outcomes = json.dumps(ended.fetchall())
    return [looked(desk, *command) for command in FIGURES] + [outcomes]


def in_tables(store: Path) -> Iterator[tuple[str, str, list[str]]]:
    with closing(sqlite3.connect(store)) as ledger:
        for (table,) in ledger.execute("SELECT name FROM sqlite_schema WHERE type = 'table'").fetchall():
            rows = ledger.execute(f'SELECT * FROM "{table}"')
            columns = [column for column, *_ in rows.description]
            for row in rows:
                for column, value in zip(columns, row, strict=True):
                    if found := traces(str(value), TRACES):
                        yield table, column, found


def in_files(desk: Desk) -> dict[str, list[str]]:
    """What is left in the store's own files, whatever part of them is in use."""
    paths = [path for path in desk.folder.glob(f"{desk.store.name}*") if path.is_file()]
    found = {path.name: traces(path.read_bytes().decode("latin-1"), TRACES) for path in paths}
    return {name: what for name, what in found.items() if what}


def test_nothing_of_an_erased_person_is_left_no_sum_moves_and_nobody_asks_again(
    desk: Desk, planted: Path, logged: Path
) -> None:
    others = desk.people(30)
    desk.finished(planted, "--want", "work_email,personal_email,phone")
    assert desk.rows()[0]["enriched_phone"] == f"'{PHONE}"
    desk.finished(others)
    assert list(in_tables(desk.store))
    before, asked = figures(desk), desk.requests()

    report = json.loads(looked(desk, "prospect", "report", "--email", EMAIL.upper(), "--json"))["reports"][0]
    assert {"phone", "work_email", "personal_email", "linkedin_url"} <= {each["field"] for each in report["values"]}
    assert report["batches"][0]["name"] == "one.csv"
    assert len(report["calls"]) >= 3

    erased = desk.run("prospect", "erase", "--email", EMAIL, "--yes", "--json", "--database", desk.url)
    assert erased.code == 0, erased.screen
    assert erased.json()["erased"] == 1
    assert erased.json()["file_rewritten"]
    assert list(in_tables(desk.store)) == []
    assert in_files(desk) == {}
    assert figures(desk) == before
    assert desk.look("usage", "reconcile", "--database", desk.url).code == 0
    assert json.loads(looked(desk, "prospect", "find", EMAIL, "--json")) == {"prospects": []}

    again = write_people(
        desk.folder / "again.csv",
        (FIRST, LAST, EMAIL.upper(), "", EMPLOYER),
        ("Zuleika", "QUINT ORSTED", "", "", f"{EMPLOYER}, Inc."),
        ("Z.", "Q.", "", f"{PROFILE}/?x=1", ""),
        ("", "", FOUND_EMAIL, "", ""),
    )
    for file, rows in ((planted, 1), (again, 4)):
        done = desk.finished(file, "--refresh")
        assert f"{rows} not asked about (suppressed)" in " ".join(done.screen.split())
        for row in desk.rows():
            assert (row["enrichment_status"], row["enrichment_error"]) == ("skipped", "suppressed")
            assert {row[name] for name in row if name.startswith("enriched_")} == {""}
        desk.wrote_every_row_of(file)
    assert desk.requests() == asked
    assert list(in_tables(desk.store)) == []
    assert in_files(desk) == {}
    assert figures(desk)[0] == before[0]
    assert "erasures" in logged.read_text(encoding="utf-8"), "what the commands did was logged"
    assert traces(logged.read_text(encoding="utf-8"), TRACES) == []


def test_somebody_suppressed_is_left_out_of_the_output_and_not_asked_about_until_they_are_taken_off(
    desk: Desk,
) -> None:
    people = desk.people(12)
    place, first = next((place, row) for place, row in enumerate(desk.rows(people)[:6]) if row["email"])
    desk.finished(people, "--first", "6")
    asked = desk.requests()
    suppressed = desk.run("suppress", "add", first["email"], "--everywhere", "--database", desk.url)
    assert suppressed.code == 0, suppressed.screen
    assert "everywhere: 1 added" in suppressed.out

    done = desk.finished(people, "--first", "6", "--refresh")
    row = desk.rows()[place]
    assert (row["enrichment_status"], row["apollo_status"], row["apollo_error"]) == ("skipped", "skipped", "suppressed")
    assert {row[name] for name in row if name.startswith("enriched_")} == {""}
    assert "1 not asked about (suppressed)" in " ".join(done.screen.split())
    assert desk.requests() > asked, "the others were asked about again"

    assert desk.run("suppress", "remove", first["email"], "--everywhere", "--database", desk.url).code == 0
    asked = desk.requests()
    desk.finished(people, "--first", "6")
    assert desk.rows()[place]["enriched_title"], "what was bought is still held"
    assert desk.requests() == asked


def test_somebody_is_erased_beside_a_running_command_and_both_get_done(desk: Desk, planted: Path) -> None:
    desk.finished(planted)
    people = desk.people(60)
    desk.sandbox.post("/_scenario", slow(150))
    running = desk.begin(people, concurrency=4)
    until(lambda: desk.requests() > 40)
    erased = desk.run("prospect", "erase", "--email", EMAIL, "--yes", "--database", desk.url)
    assert erased.code == 0, erased.screen
    assert running.done().code == 0
    assert desk.look("usage", "reconcile", "--database", desk.url).code == 0
    desk.judged()
    assert list(in_tables(desk.store)) == []
    assert looked(desk, "retention", "run", "--json")
    assert in_files(desk) == {}
