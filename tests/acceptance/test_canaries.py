"""Providers say back what they were told: keys and people, in every spelling. None of it may be found again.

Every provider refuses, at every status we know, with bodies full of canaries: its own key, and the name, e-mail, phone
and LinkedIn profile of the person it was asked about. Then everything that was written is searched.
"""

from __future__ import annotations

import csv
import json
import os
import re
import sqlite3
from contextlib import closing
from html import unescape
from typing import TYPE_CHECKING
from urllib.parse import quote, quote_plus, unquote_plus

import pytest

from acceptance.desk import slow

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from acceptance.desk import Desk

OTHERS = ("apollo", "contactout", "exa", "edgar")
KEYS = {
    "APOLLO_API_KEY": "sandbox-apQ7xw+One/k9",
    "CONTACTOUT_API_KEY": "sandbox-coQ7xw+Two/k9",
    "EXA_API_KEY": "sandbox-exQ7xw+Three/k9",
    "ANTHROPIC_API_KEY": "sandbox-clQ7xw+Four/k9",
}
KEY_OF = dict(zip(("apollo", "contactout", "exa", "claude"), KEYS.values(), strict=True))
REDIS_PASSWORD = "rdQ7xw+Five/k9"
NAME = "Zuleïka Quint-Ørsted"
EMAIL = "zuleika.qo@quorvane.example"
PHONE = "+44 (20) 7946-0958"
PROFILE = "https://www.linkedin.com/in/zuleika-qo-7f3a9"
EMPLOYER = "Quorvane Optics"
MARK = "trialled"
ROWS = 24

# What is searched for, in letters and digits alone: a piece of every value that nothing else has.
KEY_TRACES = ("q7xwone", "q7xwtwo", "q7xwthree", "q7xwfour", "q7xwfive")
PERSON_TRACES = ("zuleik", "zulek", "quint", "rsted", "79460958", "qo7f3a9")


def texts(provider: str) -> list[str]:
    """What a provider may say; each is short enough to be kept whole, so that nothing is hidden by a cut."""
    key = KEY_OF.get(provider, "none")
    all_of_it = f"{NAME}, {EMAIL}, {PHONE}, {PROFILE}"
    lower_hex = re.sub("%..", lambda found: found[0].lower(), quote(f"{key} {NAME} {EMAIL}", safe=""))
    return [
        f"{MARK} bad key {key} for {NAME}",
        f"{MARK} {all_of_it}",
        f"{MARK} {quote(key, safe='')} {quote(NAME)} {quote(EMAIL)} {quote(PHONE)}",
        f"{MARK} {lower_hex} {quote(PROFILE, safe='').replace('%2F', '%2f')}",
        f"{MARK} token={quote_plus(key)}&name={quote_plus(NAME)}&phone={quote_plus(PHONE)}",
        f"{MARK} GET https://api.example/v1/match?api_key={key}&name={NAME}&email={EMAIL} was wrong",
        f"{MARK} {json.dumps(all_of_it)} {quote(quote(NAME))} ({quote_plus(quote_plus(key))})",
        f"{MARK} In Quint-Orsted, ZULEIKA / zuleikaquintorsted we know nobody; call 02079460958 or {key.upper()}.",
    ]


def bodies(provider: str) -> list[str]:
    """A refusal's body around each text: in the provider's own envelope, in another's, as plain text, as a page."""
    said = texts(provider)
    envelopes = [
        lambda text: json.dumps({"type": "error", "error": {"type": "odd", "message": text}, "request_id": text}),
        lambda text: json.dumps({"error": text, "message": text, "tag": text, "status_code": None}),
        lambda text: text,
        lambda text: f"<html><head><title>{text}</title></head></html>",
    ]
    own = {"claude": (0, 2), "apollo": (1, 2), "contactout": (1, 2), "exa": (1, 2), "edgar": (2, 3)}[provider]
    return [envelopes[own[number % 2]](text) for number, text in enumerate(said)]


def traces(text: str, wanted: tuple[str, ...]) -> list[str]:
    """Find canaries in a text, whatever it is encoded in; shares nothing with what hides them."""
    found = set()
    for _ in range(4):
        letters = re.sub(r"[^a-z0-9]", "", text.lower())
        found |= {trace for trace in wanted if trace in letters}
        text = re.sub(r"\\+u([0-9a-fA-F]{4})", lambda code: chr(int(code[1], 16)), unescape(unquote_plus(text)))
    return sorted(found)


@pytest.fixture
def people(desk: Desk) -> Path:
    """One person under many addresses, so that any refusal is about everyone; and a reject."""
    path = desk.folder / "list.csv"
    first, last = NAME.split()
    with path.open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(("first_name", "last_name", "email", "company"))
        rows.writerows((first, last, f"{number}{EMAIL}", EMPLOYER) for number in range(ROWS))
        rows.writerow((first, last, "(none)", ""))
    return path


@pytest.fixture
def logged(desk: Desk) -> dict[str, str]:
    """An environment in which everything that anybody logs is kept, as an operator would who looks for a fault."""
    (desk.folder / "sitecustomize.py").write_text(
        "import logging\n"
        f"logging.basicConfig(filename={str(desk.folder / 'all.log')!r}, level=logging.DEBUG)\n"
        "logging.getLogger('sqlalchemy').setLevel(logging.INFO)\n"
    )
    path = os.pathsep.join(filter(None, (str(desk.folder), os.environ.get("PYTHONPATH"))))
    redis_url = f"redis://:{quote(REDIS_PASSWORD, safe='')}@127.0.0.1:1"  # where nobody listens
    return {**KEYS, "SLUICEWAY_REDIS_URL": redis_url, "SLUICEWAY_WAIT_AT_MOST_S": "0", "PYTHONPATH": path}


def refuse(desk: Desk, status: int, *providers: str, turn: int = 0, most: int = 4, times: int = 1) -> None:
    """Queue a provider's refusals, beginning with another one each turn, since some are asked no more after it."""
    for number, provider in enumerate(providers):
        said = bodies(provider)
        start = (turn + number) % len(said)
        for body in (said[start:] + said[:start])[:most]:
            kind = "text/html" if body.startswith("<") else "application/json" if body[0] == "{" else "text/plain"
            headers = {"content-type": kind, "request-id": texts(provider)[2], "retry-after": "0"}
            answer = {"provider": provider, "status": status, "body": body, "headers": headers, "times": times}
            desk.sandbox.post("/_answer", answer)


def find(desk: Desk) -> None:
    """Have Apollo find the person, for every row, so that Claude has something to write about."""
    found = {"name": NAME, "title": "CFO", "organization": {"name": EMPLOYER}}
    body = json.dumps({"person": found})
    wanted = {"provider": "apollo", "body": body, "times": ROWS, "billed": True, "credits": 1000, "usd_micros": 26_000}
    desk.sandbox.post("/_answer", wanted)


def clear(desk: Desk) -> None:
    desk.sandbox.post("/_answer/clear")


def test_no_key_and_nobody_is_found_again_whatever_providers_say_back(
    desk: Desk, people: Path, logged: dict[str, str]
) -> None:
    desk.sandbox.post("/_scenario", slow(1))
    screens = []

    def enrich(*options: str) -> None:
        done = desk.enrich(people, *options, concurrency=8, env=logged)
        assert done.code in (0, 3), done.screen
        screens.append(done.screen)
        clear(desk)

    # Refusals of one request: the next prospect is asked. EDGAR is asked for one page on behalf of many.
    for status in (404, 422, 429, 500, 200, 400):
        refuse(desk, status, "apollo", "contactout", "exa", turn=status)
        refuse(desk, status, "edgar", turn=status, most=1, times=ROWS if status == 400 else 1)
    enrich("--sources", ",".join(OTHERS))
    # Refusals of the key or the account: for most providers the first is the last.
    for turn, status in enumerate((401, 402, 403)):
        refuse(desk, status, *OTHERS, turn=turn, most=1, times=8)
        enrich("--sources", ",".join(OTHERS), "--tenant", f"tenant-{status}", "--first", "8")
    # Claude is asked about what others found.
    find(desk)
    for status in (422, 429, 500, 200, 400):
        refuse(desk, status, "claude", turn=status)
    enrich("--sources", "apollo,claude", "--refresh")
    for turn, status in enumerate((401, 403, 402, 404)):
        refuse(desk, status, "claude", turn=turn, most=1)
        enrich("--sources", "apollo,claude")

    asked = refusals(desk.store)
    assert asked >= {(provider, status) for provider in OTHERS for status in (401, 403, 404, 422, 429, 500)}
    assert asked >= {("claude", status) for status in (400, 401, 402, 403, 404, 422, 429, 500)}

    screens += [desk.look(*command, "--database", desk.url, env=KEYS).screen for command in LOOKS]
    screens.append(_source_check(desk, logged))
    in_screens = {screen[:80]: traces(screen, KEY_TRACES + PERSON_TRACES) for screen in screens}
    assert {where: found for where, found in in_screens.items() if found} == {}
    assert sum("It said:" in screen for screen in screens) >= 5, "what providers said was on the screens"

    _run_show_names_the_person_only_as_whose_run_it_is(desk)
    _the_files_added_columns_are_clean(desk)
    assert list(in_tables(desk.store)) == []
    log = (desk.folder / "all.log").read_text(encoding="utf-8")
    assert "sqlalchemy" in log
    assert traces(log, KEY_TRACES + PERSON_TRACES) == []
    for path in desk.folder.rglob("*"):
        if path.is_file():
            assert traces(path.read_bytes().decode("utf-8", "replace"), KEY_TRACES) == [], path.name


def _source_check(desk: Desk, env: dict[str, str]) -> str:
    """Check the keys, which is about nobody, against providers that say them back."""
    for provider in ("apollo", "contactout", "claude"):
        key = KEY_OF[provider]
        body = json.dumps({"error": {"message": f"{key} {quote(key, safe='')}"}, "message": f"no {quote_plus(key)}"})
        desk.sandbox.post("/_answer", {"provider": provider, "status": 401, "body": body})
    checked = desk.run("source", "check", "--sandbox-url", desk.sandbox.url, "--database", desk.url, env=env)
    assert checked.code == 1, checked.screen
    return checked.screen


LOOKS = (
    ("usage",),
    ("usage", "--json"),
    ("usage", "unknown"),
    ("usage", "meters"),
    ("usage", "explain", "exa"),
    ("source", "list"),
    ("stops",),
    ("stops", "--json"),
)


def refusals(store: Path) -> set[tuple[str, int]]:
    """Whose refusals, at which status, are in the ledger in the provider's own words."""
    with closing(sqlite3.connect(store)) as ledger:
        query = "SELECT DISTINCT provider, http_status FROM attempts WHERE error LIKE ? OR charge = 'unknown'"
        return set(ledger.execute(query, (f"%{MARK}%",)))


# Where people may be: what was asked about them, and what was answered.
ABOUT_PEOPLE = {
    ("prospects", "identity_key"), ("prospects", "person"), ("prospects", "fields"), ("answers", "reading"),
}  # fmt: skip


def in_tables(store: Path) -> Iterator[tuple[str, str, list[str]]]:
    """Find canaries in every column of every table there is, and of any that will be."""
    with closing(sqlite3.connect(store)) as ledger:
        tables = [name for (name,) in ledger.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
        assert {"attempts", "source_results", "prospects", "batches", "breakers"} <= set(tables)
        for table in tables:
            rows = ledger.execute(f'SELECT * FROM "{table}"')
            columns = [column for column, *_ in rows.description]
            for row in rows:
                for column, value in zip(columns, row, strict=True):
                    wanted = KEY_TRACES if (table, column) in ABOUT_PEOPLE else KEY_TRACES + PERSON_TRACES
                    if found := traces(str(value), wanted):
                        yield table, column, found


def _run_show_names_the_person_only_as_whose_run_it_is(desk: Desk) -> None:
    runs = desk.look("run", "list", "--json", "--database", desk.url).json()
    assert len(runs) == 20
    for run in runs[::4]:
        shown = desk.look("run", "show", run["run_id"], "--json", "--database", desk.url).json()
        assert traces(json.dumps([shown["results"], shown["calls"]]), KEY_TRACES + PERSON_TRACES) == []
    screen = desk.look("run", "show", runs[0]["run_id"], "--database", desk.url).screen
    head, _, rest = screen.partition("\n")
    assert NAME in head
    assert traces(rest, KEY_TRACES + PERSON_TRACES) == []


def _the_files_added_columns_are_clean(desk: Desk) -> None:
    rows = desk.rows()
    added = [{name: row[name] for name in row if name.endswith(("_error", "_status"))} for row in rows]
    assert MARK in json.dumps(added)
    assert traces(json.dumps(added), KEY_TRACES + PERSON_TRACES) == []
    rejected = desk.rows(desk.folder / "list.rejected.csv")
    assert [traces(row["reason"], PERSON_TRACES) for row in rejected] == [[]]
