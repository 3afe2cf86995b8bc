"""One measured run under limits: `python -m bench.limited URL PEOPLE.CSV STORE IN_FLIGHT LIMITS [REDIS]`.

LIMITS is how many limits each provider has, none of which ever refuses. Prints one line of JSON: prospects, seconds,
calls, the median time (ms) from asking for a call until its begin is durable, and the round trips to Redis.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
import statistics
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from bench.ours import measure
from sluiceway.app import App, opened
from sluiceway.cli.options import sandbox_target
from sluiceway.pipeline.run import Enricher
from sluiceway.pipeline.turns import Turns
from sluiceway.settings import load_settings
from sluiceway.usage.ledger import Attempt, Task
from sluiceway.usage.quota import Quota, QuotaClock, Unit, set_quota

PROVIDERS = ("apollo", "contactout", "exa", "edgar", "claude")
NEVER_REFUSES = 10**12
KINDS = [(QuotaClock.DAY, Unit.REQUESTS), (QuotaClock.SECOND, Unit.REQUESTS), (QuotaClock.CYCLE, Unit.USD)]
TOOK_MS: list[float] = []


async def limit(app: App, count: int) -> None:
    """Give every provider so many limits."""
    for provider in PROVIDERS:
        for clock, unit in KINDS[:count]:
            day = 1 if clock is QuotaClock.CYCLE else None
            quota = Quota(provider, unit, clock, NEVER_REFUSES, cycle_day=day)
            now = app.store.clock.stamp()
            await app.writer.put(Task(lambda c, q=quota, at=now: set_quota(c, q, by="bench", now=at)))


def time_begins() -> None:
    """Note how long every begin takes, alone or with its run."""
    alone, together = Turns._admit_and_begin, Enricher._open  # noqa: SLF001

    async def timed_alone(self: Turns, attempt: Attempt) -> Any:
        began = time.perf_counter()
        begun = await alone(self, attempt)
        TOOK_MS.append((time.perf_counter() - began) * 1000)
        return begun

    async def timed_together(self: Enricher, history: Any, plans: Sequence[Any]) -> Any:
        began = time.perf_counter()
        opened = await together(self, history, list(plans))
        took_ms = (time.perf_counter() - began) * 1000
        TOOK_MS.extend(took_ms for plan in plans if plan.begun)
        return opened

    for kind, name, timed in ((Turns, "_admit_and_begin", timed_alone), (Enricher, "_open", timed_together)):
        setattr(kind, name, timed)


async def run(url: str, people: Path, store: str, in_flight: int, limits: int, redis_url: str) -> dict[str, float]:
    """Open everything as the command does, and measure."""
    settings = load_settings(database_url=f"sqlite:///{store}", concurrency=in_flight)
    asking = partial(opened, names=None, target=sandbox_target(url), tell=partial(print, file=sys.stderr))
    async with asking(settings) as app:
        await limit(app, limits)
    time_begins()
    async with asking(
        settings.model_copy(update={"redis_url": SecretStr(redis_url), "usage_key_prefix": f"{Path(store).stem}:"})
    ) as app:
        trips = await round_trips(redis_url)
        measured = await measure(app, people)
        trips = await round_trips(redis_url) - trips
    with sqlite3.connect(store) as ledger:
        ((calls,),) = ledger.execute("SELECT count(*) FROM attempts")
    return {**measured, "calls": calls, "begin_ms": statistics.median(TOOK_MS), "round_trips": trips}


async def round_trips(url: str) -> int:
    """How often Redis has been asked so far; what scripts do inside it is no round trip."""
    if not url:
        return 0
    from redis.asyncio import Redis

    async with Redis.from_url(url, decode_responses=True) as client:
        stats = await client.info("commandstats")
    return sum(stats.get(f"cmdstat_{name}", {}).get("calls", 0) for name in ("evalsha", "eval", "script|load"))


if __name__ == "__main__":
    address, csv, database, width, many, *rest = sys.argv[1:]
    ran = run(address, Path(csv), database, int(width), int(many), rest[0] if rest else "")
    print(json.dumps(asyncio.run(ran)))
