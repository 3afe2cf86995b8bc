"""A service started from the command line at a desk, with people to enrich and a key to ask it with."""

from __future__ import annotations

import re
import time
from contextlib import closing
from typing import TYPE_CHECKING, Any

import requests
from sqlalchemy import select

from acceptance.desk import KILLED, until
from acceptance.judge import Ledger
from sluiceway.people_file import PeopleFile, Row
from sluiceway.pipeline.batch import Asked, InputRow, open_batch, take_in
from sluiceway.pipeline.requested import end_batch
from sluiceway.store.engine import open_store
from sluiceway.store.schema import batch_rows
from sluiceway.tenancy.keys import KeyKind, issue_key
from sluiceway.tenancy.roles import Role
from sluiceway.tenancy.users import add_user

if TYPE_CHECKING:
    from acceptance.desk import Desk, Running

TENANT = "default"
_ADDRESS = re.compile(r"listens on (http://127\.0\.0\.1:\d+)")


class ServiceDesk:
    """A desk at which `sluiceway serve` is started, asked, stopped and killed. It has so many people to enrich."""

    def __init__(self, desk: Desk, people: int) -> None:
        self.desk = desk
        self.people = people
        self.url = ""
        self.running: Running | None = None
        with closing(open_store(desk.url)) as store, store.change() as connection:
            now = store.clock.now()
            user = add_user(connection, "ines@acme.example", Role.AGENT, TENANT, by="test", now=now)
            self.key = issue_key(connection, user, KeyKind.LIVE, by="test", now=now).text
            self.prospects = self._take_in(connection, store.clock.stamp())

    def _take_in(self, connection: Any, now: str) -> list[str]:
        rows = PeopleFile.open(self.desk.people(self.people)).read()
        batch = open_batch(connection, Asked(TENANT, "people", "people", {}, "file", False), now)
        people = [InputRow(row.number, TENANT, row.person) for row in rows if isinstance(row, Row)]
        take_in(connection, batch.id, people, now)
        end_batch(connection, batch.id, now)  # it only brought them
        ids = connection.execute(select(batch_rows.c.prospect_id).where(batch_rows.c.batch_id == batch.id)).scalars()
        return list(ids)

    def start(self, *options: str, env: dict[str, str] | None = None) -> Running:
        """Start the service, and wait until it listens."""
        self.launch(*options, env=env)
        assert self.running is not None
        self.running.wait_for("listens on")
        found = _ADDRESS.search(self.running.screen)
        assert found, self.running.screen
        self.url = found[1]
        return self.running

    def launch(self, *options: str, env: dict[str, str] | None = None) -> Running:
        """Start the service, whatever becomes of it."""
        command = ("serve", "--port", "0", "--sandbox-url", self.desk.sandbox.url, "--database", self.desk.url)
        self.running = self.desk.start(*command, *options, env={"SLUICEWAY_CONCURRENCY": "8", **(env or {})})
        return self.running

    def ask(self, method: str, path: str, said: Any = None) -> requests.Response:
        """Send a request as the agent."""
        headers = {"Authorization": f"Bearer {self.key}"}
        return requests.request(method, f"{self.url}/api/v1{path}", json=said, headers=headers, timeout=30)

    def enrich_all(self) -> str:
        """Ask for everybody; returns the batch's id."""
        answer = self.ask("POST", "/batches", {"prospects": self.prospects})
        assert answer.status_code == 202, answer.text
        batch_id: str = answer.json()["id"]
        return batch_id

    def finishes(self, batch_id: str, within: float = 90.0) -> None:
        """Wait until a batch has ended."""
        until(lambda: self.ask("GET", f"/batches/{batch_id}").json()["state"] == "finished", within, "the batch's end")

    def was_killed(self) -> None:
        """Insist that the service died at its crash point."""
        assert self.running is not None
        done = self.running.done()
        assert done.code == KILLED, f"it ended with {done.code}:\n{done.screen}"

    def asks_some_more(self, more: int, within: float = 30.0) -> bool:
        """Wait for so many more requests to the providers; returns whether they came in time."""
        enough, give_up = self.desk.requests() + more, time.monotonic() + within
        while self.desk.requests() < enough and time.monotonic() < give_up:
            time.sleep(0.01)
        return self.desk.requests() >= enough

    def every_prospect_ended(self) -> None:
        """Check that every prospect's run is closed, and that it was run for the batch."""
        with Ledger(self.desk.store) as ledger:
            assert ledger.one("SELECT count(*) FROM runs WHERE closed_at IS NULL") == 0
            assert ledger.one("SELECT count(DISTINCT prospect_id) FROM runs") == len(set(self.prospects))
            ended = ledger.one("SELECT count(*) FROM prospects WHERE enrichment_status NOT IN ('none', 'running')")
            assert ended == len(set(self.prospects))
