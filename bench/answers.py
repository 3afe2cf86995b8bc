"""How long each answer for operators takes, on stores of 100,000 and of 1,000,000 attempts: `python -m bench.answers`.

Beside it, in the same run, what the same question costs as a scan of the attempts. Targets: one in twenty takes longer
than 50 ms at most (answers that count distinct prospects: 300 ms), and ten times the attempts change nothing.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console
from rich.table import Table
from sqlalchemy import Connection, text

from bench.ledger_world import NOW, Size, fill
from sluiceway.admin.answer import last_days
from sluiceway.admin.dashboard import dashboard
from sluiceway.admin.errors import Wanted, error_feed, errors
from sluiceway.admin.funnel import funnel
from sluiceway.admin.health import health
from sluiceway.admin.quota import quotas
from sluiceway.admin.tenant_usage import limits_that_hold, tenant_usage
from sluiceway.admin.tenants import tenants_activity, users_activity, with_users
from sluiceway.admin.usage import By, Which, attempts_behind, usage
from sluiceway.api.activity import acts, user_days
from sluiceway.store.engine import Store, open_store
from sluiceway.tenancy.scope import Scope

OUT = Path(__file__).parent / "out"
TARGET_MS, DISTINCT_MS = 50.0, 300.0
TIMES = 40

Ask = Callable[[Connection], Any]

ALL = Scope(None)
_TENANT, _USER = "tenant-007", "tenant-007-user-0"
_MONTH = timedelta(days=30)
ASKED: dict[str, Ask] = {
    "dashboard, 14 days": lambda c: dashboard(c, ALL, NOW),
    "dashboard, 90 days": lambda c: dashboard(c, ALL, NOW, 90),
    "tenants, 7 days": lambda c: tenants_activity(c, ALL, NOW),
    "tenants, 30 days": lambda c: tenants_activity(c, ALL, NOW, 30),
    "tenants with their users, 7 days": lambda c: with_users(c, ALL, tenants_activity(c, ALL, NOW)),
    "users of a tenant, 7 days": lambda c: users_activity(c, ALL, NOW, _TENANT),
    "health, 14 days": lambda c: health(c, ALL, NOW),
    "health, 90 days": lambda c: health(c, ALL, NOW, 90),
    "health of a tenant, 14 days": lambda c: health(c, Scope(_TENANT), NOW),
    "quota, 14 days": lambda c: quotas(c, ALL, NOW),
    "funnel, 30 days (distinct)": lambda c: funnel(c, ALL, NOW),
    "funnel, 90 days (distinct)": lambda c: funnel(c, ALL, NOW, 90),
    "error groups, 14 days": lambda c: error_feed(c, ALL, NOW, last_days(NOW, 14)),
    "error groups, 90 days": lambda c: error_feed(c, ALL, NOW, last_days(NOW, 90)),
    "error groups of a tenant, 14 days": lambda c: error_feed(c, ALL, NOW, last_days(NOW, 14), Wanted(tenant=_TENANT)),
    "error groups of 14 days that are over": lambda c: error_feed(c, ALL, NOW, last_days(NOW - _MONTH, 14)),
    "errors, newest": lambda c: errors(c, ALL, NOW, last_days(NOW, 90)),
    "errors with a text, newest": lambda c: errors(c, ALL, NOW, last_days(NOW, 90), Wanted(text="this key")),
    "usage by provider and day, 14 days": lambda c: usage(c, ALL, NOW, last_days(NOW, 14), (By.PROVIDER, By.DAY)),
    "usage by provider and hour, 14 days": lambda c: usage(c, ALL, NOW, last_days(NOW, 14), (By.PROVIDER, By.HOUR)),
    "usage by tenant and provider, 14 days": lambda c: usage(c, ALL, NOW, last_days(NOW, 14), (By.TENANT, By.PROVIDER)),
    "usage by batch and charge, 14 days": lambda c: usage(c, ALL, NOW, last_days(NOW, 14), (By.BATCH, By.CHARGE)),
    "usage by hour and user, 2 days": lambda c: usage(c, ALL, NOW, last_days(NOW, 2), (By.HOUR, By.USER)),
    "usage by provider and day, 90 days": lambda c: usage(c, ALL, NOW, last_days(NOW, 90), (By.PROVIDER, By.DAY)),
    "usage by tenant and provider, 90 days": lambda c: usage(c, ALL, NOW, last_days(NOW, 90), (By.TENANT, By.PROVIDER)),
    "attempts, a page": lambda c: attempts_behind(c, ALL, NOW, last_days(NOW, 90)),
    "attempts of a tenant, a page": lambda c: attempts_behind(c, ALL, NOW, last_days(NOW, 90), Which(tenant=_TENANT)),
    "attempts of a user by key, a page": lambda c: attempts_behind(
        c, ALL, NOW, last_days(NOW, 90), Which(user="tenant-120-user-0", trigger="api")
    ),
    "a tenant's own usage, 30 days": lambda c: tenant_usage(c, Scope(_TENANT), NOW),
    "the limits that hold for a tenant": lambda c: limits_that_hold(c, Scope(_TENANT), _TENANT, NOW),
    "what a tenant's users did, a page": lambda c: acts(
        c, Scope(_TENANT), NOW, last_days(NOW, 30), None, None, None, 50
    ),
    "what a user did, a page": lambda c: acts(c, Scope(_TENANT), NOW, last_days(NOW, 90), _USER, None, None, 50),
    "a tenant's users by day, 14 days": lambda c: user_days(c, Scope(_TENANT), NOW, last_days(NOW, 14), None, None),
}
NAIVE = text(
    "SELECT provider, tenant_id, day, count(*), sum(CASE WHEN charge = 'billed' THEN 1 ELSE 0 END), sum(usd_micros) "
    "FROM attempts WHERE day >= :since GROUP BY provider, tenant_id, day"
)


class Took(msgspec.Struct, frozen=True):
    """How long one answer took at one size: the first time, the middle and the 95th of many, in milliseconds."""

    answer: str
    attempts: int
    first_ms: float
    p50_ms: float
    p95_ms: float


def measure(store: Store, attempts: int) -> list[Took]:
    """Ask everything many times, each on a connection of its own, as a server would."""
    return [_took(store, name, attempts, ask, TIMES) for name, ask in ASKED.items()] + [
        _took(store, "(scan of the attempts, 14 days)", attempts, _naive("2026-11-11"), 3),
        _took(store, "(scan of the attempts, 90 days)", attempts, _naive("2026-08-27"), 3),
    ]


def _naive(since: str) -> Ask:
    return lambda connection: connection.execute(NAIVE, {"since": since}).all()


def _took(store: Store, name: str, attempts: int, ask: Ask, times: int) -> Took:
    took = []
    for _ in range(times + 1):
        started = time.perf_counter()
        with store.read() as connection:
            ask(connection)
        took.append((time.perf_counter() - started) * 1000)
    first, rest = took[0], sorted(took[1:])
    return Took(name, attempts, first, statistics.median(rest), rest[min(len(rest) - 1, len(rest) * 95 // 100)])


def main() -> None:
    """Make both stores (in --keep, or for this run), measure, print a table and write `bench/out/answers.json`."""
    parser = argparse.ArgumentParser(prog="python -m bench.answers", description=__doc__)
    parser.add_argument("--sizes", default="100000,1000000", help="numbers of attempts, separated by commas")
    parser.add_argument("--keep", type=Path, help="a folder in which the stores are kept, and found again")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="sluiceway-bench-") as name:
        folder = given.keep or Path(name)
        found = [took for size in map(int, given.sizes.split(",")) for took in _at(folder, size)]
    _show(found)
    OUT.mkdir(exist_ok=True)
    (OUT / "answers.json").write_bytes(msgspec.json.format(msgspec.json.encode(found)))


def _at(folder: Path, attempts: int) -> list[Took]:
    path = folder / f"attempts-{attempts}.db"
    made = path.exists()
    store = open_store(f"sqlite:///{path}")
    try:
        if not made:
            fill(store, Size(attempts))
        return measure(store, attempts)
    finally:
        store.close()


def _show(found: list[Took]) -> None:
    sizes = sorted({took.attempts for took in found})
    columns = [f"{size:,}: {what}" for size in sizes for what in ("p50", "p95", "first")]
    table = Table("answer", *columns, "growth of p50", "holds")
    for name in dict.fromkeys(took.answer for took in found):
        of = {took.attempts: took for took in found if took.answer == name}
        times = [f"{ms:.1f}" for size in sizes for ms in (of[size].p50_ms, of[size].p95_ms, of[size].first_ms)]
        growth = of[sizes[-1]].p50_ms / of[sizes[0]].p50_ms
        target = DISTINCT_MS if "distinct" in name else TARGET_MS
        holds = "" if name.startswith("(") else "yes" if of[sizes[-1]].p95_ms <= target else "NO"
        table.add_row(name, *times, f"{growth:.2f}", holds)
    Console(width=150).print("Milliseconds.", table)


if __name__ == "__main__":
    main()
