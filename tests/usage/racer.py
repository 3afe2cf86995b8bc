"""One of several processes that ask a provider at once: `python racer.py ORDER`, an order being JSON.

It says `ready`, waits for a line, makes its calls, each for another person, and prints what became of them. A call that
has to wait for a limit waits, for `patience_s` in all.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections import Counter
from datetime import date
from typing import Any

from sluiceway.app import App, Target, opened
from sluiceway.pipeline.caller import Budget, Caller
from sluiceway.pipeline.gate import Exhausted, Held
from sluiceway.pipeline.turns import Behalf
from sluiceway.prospect import Person, Want
from sluiceway.settings import load_settings
from sluiceway.sources import Subject

AT_ONCE = 50


async def called(app: App, caller: Caller, name: str, give_up: float) -> str:
    """Make one call, however often it has to wait before it may; returns what became of it."""
    source = app.sources["exa"]
    person = Person(full_name=name, company="Quell Holdings", email=f"{name.replace(' ', '.')}@quell.example")
    subject = Subject(person, (Want.WORK_EMAIL,), date(2026, 11, 24))
    request: Any = source.request(subject)
    while True:
        try:
            obtained = await caller.obtain(source, subject, request, Behalf("race", "default"), Budget(0))
        except Exhausted:
            return "exhausted"
        except Held as held:
            wait_s = app.store.clock.seconds_until(held.wake_at) if held.wake_at else 1.0
            if time.monotonic() + wait_s > give_up:
                return "held"
            await asyncio.sleep(max(0.01, wait_s))
        else:
            await app.writer.put(obtained.finish)
            return obtained.finish.charge.kind.value


async def race(order: dict[str, Any]) -> Counter[str]:
    """Open everything as a command does, wait for the start, and call."""
    settings = load_settings(database_url=order["store"], redis_url=order["redis"])
    target = Target(order["sandbox"], pace={"all": 5000.0}, timeout_s={"all": 30.0})
    told: list[str] = []
    async with opened(settings, names=["exa"], target=target, tell=told.append) as app:
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        give_up = time.monotonic() + order["patience_s"]
        caller, turns = app.caller(), asyncio.Semaphore(AT_ONCE)

        async def one(number: int) -> str:
            async with turns:
                return await called(app, caller, f"Racer {order['number']} Person {number}", give_up)

        became = Counter(await asyncio.gather(*(one(number) for number in range(order["calls"]))))
    print("\n".join(told), file=sys.stderr)
    return became


if __name__ == "__main__":
    print(json.dumps(asyncio.run(race(json.loads(sys.argv[1])))))
