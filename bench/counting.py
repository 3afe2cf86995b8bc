"""Redis commands spent on counting, by Redis' own account: `INFO commandstats` after a run, per million calls."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import redis

from bench.private_redis import PrivateRedis
from bench.result import Result
from bench.throughput import IN_FLIGHT, call
from bench.world import sandbox, write_people

TARGET = 5_000
BY_HAND = 2_000_000
"""INCR and EXPIRE for every call."""

_NOT_COUNTING = {"info", "ping", "config|resetstat"}


def measure(folder: Path, *, people: int) -> list[Result]:
    """Enrich a file beside a Redis of its own."""
    csv, store = write_people(folder / "counted.csv", people), folder / "counted.db"
    with _published_to() as client, sandbox(folder, 0) as process:
        call("bench.ours", process.url, str(csv), str(store), str(IN_FLIGHT))
        commands = _commands(client)
    calls = _calls(store)
    value = commands / calls * 1_000_000
    name = f"Redis commands on counting per 1,000,000 calls (from {calls:,})"
    return [Result(name, value, "commands", BY_HAND, value / BY_HAND, TARGET, value < TARGET)]


def _commands(client: redis.Redis) -> int:
    """Count everything Redis was told to do, also inside scripts, and by connections that were being set up."""
    stats = client.info("commandstats")
    spent = {name.removeprefix("cmdstat_"): of["calls"] for name, of in stats.items()}
    return sum(times for name, times in spent.items() if name not in _NOT_COUNTING)


def _calls(store: Path) -> int:
    connection = sqlite3.connect(store)
    try:
        (calls,) = connection.execute("SELECT count(*) FROM attempts").fetchone()
        return int(calls)
    finally:
        connection.close()


@contextmanager
def _published_to() -> Iterator[redis.Redis]:
    """Run a Redis, and have every process that is started meanwhile publish to it."""
    before = os.environ.get("SLUICEWAY_REDIS_URL")
    with PrivateRedis() as server:
        os.environ["SLUICEWAY_REDIS_URL"] = server.url
        server.client.config_resetstat()
        try:
            yield server.client
        finally:
            os.environ.pop("SLUICEWAY_REDIS_URL")
            if before is not None:
                os.environ["SLUICEWAY_REDIS_URL"] = before
