"""Several processes that ask a provider at once under limits, and what has to be true when they have ended."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sluiceway.sandbox.process import SandboxProcess
from sluiceway.store.engine import Store
from sluiceway.usage.quota import Quota, QuotaClock, Unit, ledger_use, set_quota, uses

RACER = Path(__file__).with_name("racer.py")


def limit(amount: int, clock: QuotaClock = QuotaClock.DAY, unit: Unit = Unit.REQUESTS, **more: Any) -> Quota:
    """A limit on Exa."""
    return Quota("exa", unit, clock, amount, **more)


def limited(store: Store, *quotas: Quota) -> None:
    """Set limits."""
    with store.writing.begin() as connection:
        for quota in quotas:
            set_quota(connection, quota, by="test", now=store.clock.stamp())


class Racers:
    """Processes that are ready to start."""

    def __init__(self, processes: list[subprocess.Popen[str]]) -> None:
        self.processes = processes
        self.said: list[str] = []

    def start(self) -> None:
        for process in self.processes:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()

    def ended(self, within_s: float = 60.0) -> Counter[str]:
        """Wait for their end; returns what became of all calls."""
        became: Counter[str] = Counter()
        for process in self.processes:
            out, err = process.communicate(timeout=within_s)
            assert process.returncode == 0, err
            became.update(json.loads(out.splitlines()[-1]))
            self.said.append(err)
        return became


@contextmanager
def racers(
    store_url: str, sandbox: SandboxProcess, redis_url: str, *, processes: int, calls: int, patience_s: float = 0.0
) -> Iterator[Racers]:
    """Bring processes to the start; whatever still runs at the end is ended."""
    common = {"store": store_url, "sandbox": sandbox.url, "redis": redis_url, "patience_s": patience_s}
    orders = [{**common, "calls": calls // processes, "number": number} for number in range(processes)]
    pipe = subprocess.PIPE
    started = [
        subprocess.Popen(
            [sys.executable, str(RACER), json.dumps(each)], stdin=pipe, stdout=pipe, stderr=pipe, text=True
        )
        for each in orders
    ]
    try:
        for process in started:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line == "ready\n", process.stderr and process.stderr.read()
        yield Racers(started)
    finally:
        for process in started:
            process.kill()
            process.communicate()


def received(sandbox: SandboxProcess) -> int:
    """How many requests reached the provider."""
    requests: int = sandbox.meter()["providers"]["exa"]["requests"]
    return requests


def spent(sandbox: SandboxProcess) -> int:
    """What the provider asks for them, in micro-dollars."""
    micros: int = sandbox.meter()["providers"]["exa"]["usd_micros"]
    return micros


def kept(store: Store) -> None:
    """Check that what is kept of every limit is what the ledger's rows say, and is not above it."""
    now = store.clock.stamp()
    with store.read() as connection:
        for use in uses(connection, now):
            folded = ledger_use(connection, use.quota, now)
            assert (use.used, use.pending) == (folded.used, folded.pending)
            assert use.used <= use.quota.amount
