"""Somebody adds a source of their own, outside the package, by an entry point."""

from __future__ import annotations

import json
import os
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, ClassVar

import pytest

from acceptance.judge import Ledger

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from acceptance.desk import Desk

SOURCE = '''
from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from sluiceway.outcome import Status, billed
from sluiceway.prospect import Field, Found, Match, Person, match
from sluiceway.sources import Source
from sluiceway.sources._contract import (
    Credential, Price, Reading, Request, Response, Retry, Skip, Subject, refused, text, trouble,
)


class Mine(Source):
    """Ask my own directory where somebody is."""

    name = "mine"
    provider = "mine"
    title = "My directory"
    needs = Credential("MINE_API_KEY", "the directory's front page")
    finds = (Field.LOCATION,)
    pace = 500.0
    hosts: ClassVar[Mapping[str, str]] = {"": "https://api.mine.example"}
    docs_url = "https://api.mine.example/docs"

    def headers(self) -> Mapping[str, str]:
        return {"x-key": self.credential}

    def price(self, want: tuple[Any, ...]) -> Price:
        return Price({"lookup": 1000}, 5_000)

    def request(self, subject: Subject) -> Request | Skip:
        if not subject.person.name.strip():
            return Skip("needs a name")
        query = (("name", subject.person.name),)
        return Request("lookup", "GET", "/lookup", query, price=self.price(subject.want))

    def read(self, subject: Subject, request: Request, response: Response) -> Reading:
        if response.status == 401:
            return refused(Status.UNAUTHORIZED, "HTTP 401: no such key", Retry.STOP)
        if response.status != 200:
            return trouble(response, response.text()) or refused(Status.FAILED, f"HTTP {response.status}")
        said = response.json()
        place = text(said["place"])
        paid = billed(credits={"lookup": 1000}, usd_micros=5_000)
        if not place:
            return Reading(Status.NO_DATA, paid)
        found = (Found(Field.LOCATION, place, 99),)
        return Reading(Status.COMPLETE, paid, found=found, match=Match.AGREES)
'''


class _Directory(BaseHTTPRequestHandler):
    """The provider behind it."""

    asked: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self.asked.append(self.path)
        known = self.headers["x-key"] == "right"
        said = json.dumps({"place": f"Room {len(self.asked)}"} if known else {}).encode()
        self.send_response(200 if known else 401)
        self.send_header("content-length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture
def provider() -> Iterator[str]:
    _Directory.asked.clear()
    with ThreadingHTTPServer(("127.0.0.1", 0), _Directory) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture
def installed(tmp_path: Path) -> dict[str, str]:
    """Install the source as a distribution of its own, on the path of the processes we start."""
    site = tmp_path / "site"
    about = site / "mysource-1.0.dist-info"
    about.mkdir(parents=True)
    (site / "mysource.py").write_text(SOURCE, encoding="utf-8")
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: mysource\nVersion: 1.0\n", encoding="utf-8")
    (about / "entry_points.txt").write_text("[sluiceway.sources]\nmine = mysource:Mine\n", encoding="utf-8")
    path = os.pathsep.join(filter(None, (str(site), os.environ.get("PYTHONPATH"))))
    return {"PYTHONPATH": path, "MINE_API_KEY": "right"}


def test_it_is_listed_asked_accounted_for_and_not_bought_twice(
    desk: Desk, provider: str, installed: dict[str, str]
) -> None:
    people = desk.people(12)
    env = {**installed, "SLUICEWAY_BASE_URLS": json.dumps({"mine": provider})}
    listed = desk.run("source", "list", "--json", env=env).json()["sources"]
    assert listed[-1]["name"] == "mine"
    assert listed[-1]["ready"] is True

    command = ("enrich", str(people), "--sources", "mine", "--yes", "-o", str(desk.out), "--database", desk.url)
    done = desk.run(*command, env=env)
    assert done.code == 0, done.screen
    assert len(_Directory.asked) == 12
    spent = desk.usage()["mine"]
    assert (spent["billed"], spent["credits"], spent["usd_micros"]) == (12, 12_000, 60_000)
    rows = desk.rows()
    assert {row["mine_status"] for row in rows} == {"complete"}
    assert {row["enriched_location"] for row in rows} == {f"Room {number}" for number in range(1, 13)}
    with Ledger(desk.store) as ledger:
        assert ledger.one("SELECT billed FROM daily_totals WHERE name LIKE 'api_usage:mine:%'") == 12

    assert desk.run(*command, env=env).code == 0
    assert len(_Directory.asked) == 12


def test_its_wrong_key_stops_it_alone(desk: Desk, provider: str, installed: dict[str, str]) -> None:
    people = desk.people(12)
    env = {**installed, "SLUICEWAY_BASE_URLS": json.dumps({"mine": provider}), "MINE_API_KEY": "wrong"}
    command = ("enrich", str(people), "--sources", "mine", "--yes", "-o", str(desk.out), "--database", desk.url)
    done = desk.run(*command, "--concurrency", "2", env=env)
    assert done.code == 3, done.screen
    assert "My directory is not asked any more: it refused the credential (MINE_API_KEY)" in " ".join(
        done.screen.split()
    )
    assert len(_Directory.asked) <= 2


def test_it_passes_the_contract_that_every_source_passes(desk: Desk, installed: dict[str, str]) -> None:
    import subprocess
    import sys

    check = "from sluiceway.sources.testing import check_source; from mysource import Mine; check_source(Mine)"
    done = subprocess.run(
        [sys.executable, "-c", check], env=desk.env | installed, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_one_that_cannot_be_loaded_is_named(desk: Desk, installed: dict[str, str]) -> None:
    site = desk.folder / "site"
    (site / "mysource.py").write_text("import no_such_module\n", encoding="utf-8")
    done = desk.run("source", "list", env=installed)
    assert done.code == 2, done.screen
    assert "the source 'mine' (mysource:Mine) cannot be loaded" in done.err
    done = desk.enrich(desk.people(2), env=installed)
    assert done.code == 0, "sources that were not asked for do no harm"
