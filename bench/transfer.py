"""People as files over HTTP: uploading and exporting beside csv and a plain table, and the memory of the server."""

from __future__ import annotations

import csv
import json
import signal
import sqlite3
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

from bench.result import Result
from bench.world import SEED
from sluiceway.sandbox.people import people_csv
from sluiceway.store.engine import open_store
from sluiceway.tenancy.keys import KeyKind, issue_key
from sluiceway.tenancy.roles import Role
from sluiceway.tenancy.tenants import add_tenant
from sluiceway.tenancy.users import add_user

SMALL, LARGE = 20_000, 100_000
FLAT = 1.25
"""How much more memory five times the people may take: tables of names that were seen fill up to their bound."""


def measure(folder: Path, *, people: int, pairs: int, large: int) -> list[Result]:
    """Alternate the baseline and the real thing; then do it once with many more people, for the memory."""
    small, many = _people(folder, people), _people(folder, large)
    plain, ours = [], []
    for pair in range(pairs):
        plain.append(_plain(small, folder / f"plain-{pair}.db"))
        ours.append(_over_http(small, folder / f"ours-{pair}.db"))
    peak = statistics.median(run["peak"] for run in ours) / 2**20
    large_peak = _over_http(many, folder / "large.db")["peak"] / 2**20
    return [
        _beside("upload", "csv and executemany into a plain table", people, ours, plain),
        _beside("export", "csv out of a plain table", people, ours, plain),
        Result(
            f"peak memory of the server, {large:,} people beside {people:,}",
            large_peak,
            "MiB",
            peak,
            large_peak / peak,
            FLAT,
            large_peak / peak < FLAT,
        ),
    ]


def _beside(part: str, what: str, people: int, ours: list[dict[str, float]], plain: list[dict[str, float]]) -> Result:
    """Say how many times as long one part takes as the least it could."""
    ratio = statistics.median(mine[part] / theirs[part] for mine, theirs in zip(ours, plain, strict=True))
    mine, theirs = (statistics.median(run[part] for run in runs) for runs in (ours, plain))
    return Result(f"{part} of {people:,} people over HTTP, beside {what}", mine, "s", theirs, ratio, None, None)


def _people(folder: Path, count: int) -> Path:
    path = folder / f"people-{count}.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        file.writelines(people_csv(count, seed=SEED))
    return path


# The least it could take.


def _plain(people: Path, store: Path) -> dict[str, float]:
    """Read a CSV into a table of its own columns, durably, and write a CSV out of it."""
    with closing(sqlite3.connect(store)) as connection, people.open(encoding="utf-8", newline="") as file:
        connection.execute("PRAGMA journal_mode = WAL")
        started = time.perf_counter()
        rows = csv.reader(file)
        headers = next(rows)
        names = ", ".join(f'"{header}"' for header in headers)
        connection.execute(f"CREATE TABLE people (id INTEGER PRIMARY KEY, {names})")
        with connection:
            marks = ", ".join("?" * len(headers))
            connection.executemany(f"INSERT INTO people ({names}) VALUES ({marks})", rows)
        upload = time.perf_counter() - started
        started = time.perf_counter()
        with store.with_suffix(".csv").open("w", encoding="utf-8", newline="") as out:
            csv.writer(out).writerows(connection.execute("SELECT * FROM people ORDER BY id"))
        return {"upload": upload, "export": time.perf_counter() - started}


# The real thing.


def _over_http(people: Path, store: Path) -> dict[str, float]:
    """Upload a CSV to a new service and take its people out again."""
    key = _key(store)
    with _service(store) as said:
        started = time.perf_counter()
        with people.open("rb") as file:
            taken = json.loads(_send(said["port"], key, "POST", "/api/v1/prospects/upload", file))
        upload = time.perf_counter() - started
        started = time.perf_counter()
        lines = _send(said["port"], key, "GET", "/api/v1/prospects/export").count(b"\r\n")
        export = time.perf_counter() - started
    if lines - 1 != taken["prospects"]:
        raise RuntimeError(f"{taken['prospects']} were brought and {lines - 1} came out")
    return {"upload": upload, "export": export, "peak": said["peak"]}


def _key(path: Path) -> str:
    """Make a store with a tenant and an agent; returns the agent's API key."""
    with closing(open_store(f"sqlite:///{path}")) as store, store.change() as connection:
        now = store.clock.now()
        add_tenant(connection, "bench", by="bench", now=now)
        user = add_user(connection, "agent@bench.example", Role.AGENT, "bench", by="bench", now=now)
        return issue_key(connection, user, KeyKind.LIVE, by="bench", now=now).text


@contextmanager
def _service(store: Path) -> Iterator[dict[str, Any]]:
    """Run the service in a process of its own; what it says of itself is all there after the block."""
    command = [sys.executable, "-m", "bench.service", str(store)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        if process.stdout is None:
            raise RuntimeError("the service cannot be heard")
        try:
            said = json.loads(process.stdout.readline())
            yield said
        finally:
            process.send_signal(signal.SIGTERM)
            rest = process.stdout.read()
    said |= json.loads(rest.splitlines()[-1])


def _send(port: int, key: str, method: str, path: str, body: Any = None) -> bytes:
    with closing(HTTPConnection("127.0.0.1", port, timeout=600)) as connection:
        connection.request(method, path, body, {"Authorization": f"Bearer {key}", "Content-Type": "text/csv"})
        answer = connection.getresponse()
        said = answer.read()
        if answer.status >= 300:
            raise RuntimeError(f"{method} {path}: {answer.status} {said[:300]!r}")
        return said
