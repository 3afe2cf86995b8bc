"""A receiver of webhooks and alerts: a real HTTP server on this machine that keeps what it was sent."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

HERE = "127.0.0.1"


class Got(NamedTuple):
    """One request that came in."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Inbox:
    """What came in; `answers` are the statuses to come, the last of which stays."""

    def __init__(self) -> None:
        self.got: list[Got] = []
        self.answers = [200]
        self.url = ""

    def take(self, got: Got) -> int:
        """Keep a request, and return the status it is answered with."""
        self.got.append(got)
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]

    def of(self, event: str) -> list[Got]:
        """What came of an event."""
        return [got for got in self.got if got.headers["Sluiceway-Event"] == event]


@contextmanager
def receiving() -> Iterator[Inbox]:
    """Receive until the end of the block."""
    inbox = Inbox()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            status = inbox.take(Got(self.path, dict(self.headers.items()), body))
            self.send_response(status)
            if status in (301, 302):
                self.send_header("Location", f"{inbox.url}/elsewhere")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *said: object) -> None:
            """Keep quiet."""

    with ThreadingHTTPServer((HERE, 0), Handler) as server:
        inbox.url = f"http://{HERE}:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        try:
            yield inbox
        finally:
            server.shutdown()
            thread.join()
