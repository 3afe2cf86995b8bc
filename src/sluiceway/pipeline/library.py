"""Documents that are about nobody in particular: fetched once, kept in the store, shared by everyone.

Several prospects that need the same document at the same moment wait for one fetch.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from datetime import datetime, timedelta

import msgspec
from sqlalchemy import bindparam, select

from sluiceway.crash import crash_point
from sluiceway.outcome import BOUGHT, ChargeKind, Status, as_json, parse_timestamp
from sluiceway.pipeline.caller import Budget, Caller, Obtained
from sluiceway.pipeline.turns import Behalf
from sluiceway.sources._contract import Reading, Request, Source, Subject
from sluiceway.store.engine import Store
from sluiceway.store.schema import documents
from sluiceway.store.writer import Writer
from sluiceway.usage.ledger import Document, Op

_BY_KEYS = select(documents.c.request_key, documents.c.reading, documents.c.etag, documents.c.fetched_at).where(
    documents.c.request_key.in_(bindparam("keys", expanding=True))
)
_REMEMBERED = 64
"""Documents held decoded: those that everybody needs. More would cost the garbage collector more than they save."""

_NOT_MODIFIED = 304
_MISSING_FOR_S = 86_400.0
"""How long a document stays missing that the provider did not have; what is there may be kept for ever."""


class Kept(msgspec.Struct, frozen=True):
    """A document we hold, and since when."""

    reading: Reading
    etag: str | None
    fetched_at: datetime


class Reader(msgspec.Struct, frozen=True):
    """Whose work needs a document, and what sends the request if it has to be fetched."""

    caller: Caller
    behalf: Behalf


class Library:
    """Get shared documents through memory, the store, and (last) the provider; all batches of a process use one."""

    def __init__(self, *, store: Store, writer: Writer[Op]) -> None:
        self._store = store
        self._writer = writer
        self._kept: OrderedDict[str, Kept] = OrderedDict()
        self._fetching: dict[str, asyncio.Task[Reading]] = {}
        self._sought: set[str] = set()
        self._search: asyncio.Future[dict[str, Kept]] | None = None

    async def get(self, source: Source, subject: Subject, request: Request, reader: Reader) -> Reading:
        """Return a document's reading, or the reading of why it could not be had. May raise `Held`."""
        key = request.key(source.provider)
        kept = self._kept.get(key)
        if kept and self._is_fresh(kept, request):
            self._kept.move_to_end(key)
            return kept.reading
        if key not in self._fetching:
            fetch = asyncio.create_task(self._look_up(key, source, subject, request, reader))
            self._fetching[key] = fetch
            fetch.add_done_callback(lambda done: self._fetched(key, done))
        return await asyncio.shield(self._fetching[key])

    def _fetched(self, key: str, fetch: asyncio.Task[Reading]) -> None:
        self._fetching.pop(key, None)
        if not fetch.cancelled():
            fetch.exception()  # looked at here, because everybody who waited may have been cancelled

    async def _look_up(self, key: str, source: Source, subject: Subject, request: Request, reader: Reader) -> Reading:
        kept = self._kept.get(key) or await self._stored(key)
        if kept and self._is_fresh(kept, request):
            self._remember(key, kept)
            return kept.reading
        asked = request
        if kept and kept.etag:
            asked = msgspec.structs.replace(request, headers={**request.headers, "if-none-match": kept.etag})
        obtained = await reader.caller.obtain(source, subject, asked, reader.behalf, Budget(unknowns=0))
        reading = await self._keep(key, source, obtained, kept)
        crash_point("document.stored")
        return reading

    async def _keep(self, key: str, source: Source, obtained: Obtained, kept: Kept | None) -> Reading:
        """Store what was fetched; an old copy is better than a failure to get a new one."""
        finish, reading = obtained.finish, obtained.reading
        now = self._store.clock.now()
        if finish.http_status == _NOT_MODIFIED and kept:
            document = Document(key, source.provider, kept.etag, None)
            self._remember(key, Kept(kept.reading, kept.etag, now))
        elif reading.status in BOUGHT and reading.charge.kind is not ChargeKind.UNKNOWN:
            document = Document(key, source.provider, obtained.etag, as_json(reading))
            self._remember(key, Kept(reading, obtained.etag, now))
        else:
            await self._writer.put_first(finish)
            return kept.reading if kept else reading
        await self._writer.put_first(msgspec.structs.replace(finish, document=document))
        return self._kept[key].reading

    async def _stored(self, key: str) -> Kept | None:
        """Look a document up in the store, by one query for all that are looked for at this moment."""
        self._sought.add(key)
        if self._search is None:
            self._search = asyncio.ensure_future(self._read_sought())
        return (await asyncio.shield(self._search)).get(key)

    async def _read_sought(self) -> dict[str, Kept]:
        keys, self._sought, self._search = list(self._sought), set(), None
        with self._store.read() as connection:
            rows = connection.execute(_BY_KEYS, {"keys": keys}).all()
        return {key: kept for key, *row in rows if (kept := _kept(*row))}

    def _is_fresh(self, kept: Kept, request: Request) -> bool:
        missing = kept.reading.status is Status.NO_DATA
        fresh_for = min(request.fresh_for or _MISSING_FOR_S, _MISSING_FOR_S) if missing else request.fresh_for
        return fresh_for is None or self._store.clock.now() - kept.fetched_at < timedelta(seconds=fresh_for)

    def _remember(self, key: str, kept: Kept) -> None:
        self._kept[key] = kept
        self._kept.move_to_end(key)
        if len(self._kept) > _REMEMBERED:
            self._kept.popitem(last=False)


def _kept(reading: str, etag: str | None, fetched_at: str) -> Kept | None:
    since = parse_timestamp(fetched_at)
    return Kept(msgspec.json.decode(reading, type=Reading), etag, since) if since else None
