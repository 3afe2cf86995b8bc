"""What a batch would do and cost at most, without asking anybody anything."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import msgspec
from sqlalchemy import Connection, select

from sluiceway.pipeline.batch import PAGE, Batch, prospect_pages
from sluiceway.pipeline.embedded import Embedded
from sluiceway.pipeline.plan import Intention
from sluiceway.pipeline.requested import Requested, Wish, meant
from sluiceway.pipeline.selection import Selection
from sluiceway.store.engine import Store
from sluiceway.store.schema import prospects


class SourceEstimate(msgspec.Struct):
    """What one source would be asked: for how many prospects, at most at what price, and why not for the others.

    `credits` are milli-credits by pool; `usd_micros` is `None` when a price is unknown.
    """

    provider: str
    ask: int = 0
    held: int = 0
    skipped: Counter[str] = msgspec.field(default_factory=Counter)
    credits: Counter[str] = msgspec.field(default_factory=Counter)
    usd_micros: int | None = 0

    def add(self, intention: Intention) -> None:
        """Add what would be done about one prospect."""
        price = intention.price
        if price is not None:
            self.ask += 1
            self.credits.update(price.credits)
            if self.usd_micros is not None:
                self.usd_micros = None if price.usd_micros is None else self.usd_micros + price.usd_micros
        elif intention.status == "cached":
            self.held += 1
        else:
            self.skipped[intention.reason or intention.status] += 1


async def estimate(
    store: Store,
    dispatch: Callable[[Requested], Embedded],
    wish: Wish,
    named: Sequence[str] | None,
    upload: str | None,
    check: Callable[[Connection, list[str]], Any],
) -> tuple[int, dict[str, SourceEstimate]]:
    """Say, source by source, what a wish would ask and what that can cost at most; and of how many prospects.

    `check` is given those who are named one by one, and raises for one who may not be.
    """
    now = store.clock.stamp()
    batch = Batch(upload or "", now, wish.refresh, continued=False, rows=None)
    dispatcher = dispatch(Requested(batch, wish.tenant_id, wish.trigger, wish.terms, wish.user_id, None, False))
    sources = dispatcher.enricher.providers
    estimates = {name: SourceEstimate(provider) for name, provider in sources.items()}
    pages = _named(store, list(dict.fromkeys(named)), check) if named is not None else _pages(store, wish, upload)
    seen = 0
    nobody: list[str] = []
    while page := await asyncio.to_thread(next, pages, nobody):
        for history in await asyncio.to_thread(dispatcher.load, page):
            for name, intention in dispatcher.enricher.intentions(history).items():
                estimates[name].add(intention)
            seen += 1
        await asyncio.sleep(0)
    return seen, estimates


def _named(store: Store, ids: list[str], check: Callable[[Connection, list[str]], Any]) -> Iterator[list[str]]:
    with store.read() as connection:
        check(connection, ids)
    yield from (ids[start : start + PAGE] for start in range(0, len(ids), PAGE))


def _pages(store: Store, wish: Wish, upload: str | None) -> Iterator[list[str]]:
    if upload is not None:
        yield from prospect_pages(store.read, upload)
        return
    last, p = "", prospects.c
    which = meant(wish.tenant_id, wish.terms.selection or Selection())
    while True:
        with store.read() as connection:
            query = select(p.id).where(which, p.id > last).order_by(p.id).limit(PAGE)
            ids = list(connection.execute(query).scalars())
        if not ids:
            return
        last = ids[-1]
        yield ids
