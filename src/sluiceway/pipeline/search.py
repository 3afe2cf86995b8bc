"""Searching for people, accountably: one request that belongs to no prospect, in its turn, with a row in the ledger."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Final

import msgspec

from sluiceway.errors import BadSetting
from sluiceway.outcome import Status
from sluiceway.pipeline.caller import Budget, Caller, Obtained
from sluiceway.pipeline.gate import Held
from sluiceway.pipeline.turns import Behalf
from sluiceway.prospect import Person
from sluiceway.sources._contract import FoundPage, Request, Search, Source, Subject
from sluiceway.store.engine import Clock
from sluiceway.store.writer import Writer
from sluiceway.usage.ledger import Attempt, Op

PATIENCE_S: Final = 15.0
"""Seconds a search waits for its turn; somebody waits for it, so it is not put aside for later."""


def searcher(
    search: Search, sources: Mapping[str, Source], unusable: Mapping[str, str], own: Mapping[str, Source]
) -> tuple[Source, Request]:
    """Return the source that can search for people, a tenant's own credential before the platform's, and what it asks.

    `own` and `unusable` are by name. Raises `BadSetting`, which says what to set, where there is none.
    """
    reason = "no source that is installed can"
    for name, platforms in sources.items():
        source = own.get(name, platforms)
        request = source.search_request(search)
        if request is None:
            continue
        if source.credential_id or name not in unusable:
            return source, request
        reason = f"{source.title} cannot be asked: {unusable[name]}, nor has this tenant a key of its own"
    raise BadSetting(f"people cannot be searched for: {reason}")


async def ask(
    source: Source,
    request: Request,
    behalf: Behalf,
    *,
    named: str,
    caller: Caller,
    writer: Writer[Op],
    clock: Clock,
) -> Obtained:
    """Send a search once, and write down how it ended before anybody is told.

    `named` are its keywords, which may name somebody, and so are in no error. Raises `Held` and `Exhausted` where it
    was not sent.
    """
    subject = Subject(Person(full_name=named), (), clock.now().date())
    begun = await _begun(source, request, behalf, caller)
    obtained = await caller.obtain(source, subject, request, behalf, Budget(unknowns=0), begun, patient=False)
    await writer.put(obtained.finish)
    return obtained


async def _begun(source: Source, request: Request, behalf: Behalf, caller: Caller) -> Attempt:
    try:
        return await asyncio.wait_for(caller.turns.begin(source, request, behalf), PATIENCE_S)
    except TimeoutError:
        raise Held(f"{source.title} has so much to answer that this search did not get its turn") from None


def page_in(obtained: Obtained) -> FoundPage | None:
    """Return what a search found; `None` where it was not answered."""
    if obtained.reading.status not in (Status.COMPLETE, Status.NO_DATA):
        return None
    return msgspec.convert(obtained.reading.data, FoundPage)
