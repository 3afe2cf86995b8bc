"""Redis commands spent on counting, by Redis' own account: `INFO commandstats` after a run, per million calls."""

from __future__ import annotations

import os
import shutil
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import redis

from bench.result import Result
from bench.throughput import IN_FLIGHT, call
from bench.world import sandbox, write_people

TARGET = 5_000
BY_HAND = 2_000_000
"""INCR and EXPIRE for every call."""

_NOT_COUNTING = {"info", "ping", "config|resetstat"}


def measure(folder: Path, *, people: int) -> list[Result]:
    """Enrich a file beside a Redis of its own; nothing is measured where there is no redis-server."""
    program = shutil.which("redis-server")
    if program is None:
        print("redis-server is not installed: commands spent on counting are not measured", file=sys.stderr)
        return []
    csv, store = write_people(folder / "counted.csv", people), folder / "counted.db"
    with _redis(program, folder) as client, sandbox(folder, 0) as process:
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
def _redis(program: str, folder: Path) -> Iterator[redis.Redis]:
    """Run a Redis that keeps nothing, and have every process that is started meanwhile publish to it."""
    with socket.socket() as any_socket:
        any_socket.bind(("127.0.0.1", 0))
        port = any_socket.getsockname()[1]
    options = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)]
    process = subprocess.Popen([program, *options], stdout=subprocess.DEVNULL)
    before = os.environ.get("SLUICEWAY_REDIS_URL")
    os.environ["SLUICEWAY_REDIS_URL"] = f"redis://127.0.0.1:{port}"
    try:
        with redis.Redis(port=port) as client:
            while not _answers(client):
                time.sleep(0.01)
            client.config_resetstat()
            yield client
    finally:
        process.kill()
        process.wait()
        os.environ.pop("SLUICEWAY_REDIS_URL")
        if before is not None:
            os.environ["SLUICEWAY_REDIS_URL"] = before


def _answers(client: redis.Redis) -> bool:
    try:
        return bool(client.ping())
    except redis.ConnectionError:
        return False
