"""Doing a request that costs money once, however often it comes under the same key.

A key is one tenant's and one route's. It is stored with the digest of what was asked, in the transaction that makes
the work; the same request again is answered what the first one was.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

import msgspec
from sqlalchemy import ColumnElement, Connection, delete, insert, select, update

from sluiceway.errors import BadInput, Conflict
from sluiceway.outcome import timestamp
from sluiceway.pipeline.recover import is_alive
from sluiceway.store.engine import Store
from sluiceway.store.schema import idempotency_keys

KEPT_FOR: Final = timedelta(days=7)


class Key(msgspec.Struct, frozen=True):
    """A request's key, with what it asks for."""

    tenant_id: str
    route: str
    key: str
    digest: str


class Kept(msgspec.Struct, frozen=True):
    """What the first request of a key led to; `status` is `None` while it is not answered."""

    batch_id: str | None
    status: int | None
    answer: bytes
    worker_id: str


def claim(connection: Connection, key: Key, worker_id: str, now: str) -> Kept | None:
    """Take a key for the work that this transaction makes; returns what it led to where it was taken before.

    Raises `BadInput` when it came with another request, and `Conflict` when the answer was dropped with people who
    were erased.
    """
    k = idempotency_keys.c
    forget_old(connection, now)
    query = select(k.digest, k.batch_id, k.status, k.answer, k.worker_id)
    row = connection.execute(query.where(*_named(key))).first()
    if row is None:
        values = {"digest": key.digest, "worker_id": worker_id, "created_at": now}
        named = {"tenant_id": key.tenant_id, "route": key.route, "key": key.key}
        connection.execute(insert(idempotency_keys).values(**named, **values))
        return None
    if row.digest != key.digest:
        raise BadInput("this Idempotency-Key came with another request before; use a new one for a new request")
    if row.status is not None and row.answer is None:
        raise Conflict("this was done; people were erased since, and its answer with them. Ask with a new key")
    return Kept(row.batch_id, row.status, (row.answer or "").encode(), row.worker_id)


def settle(
    connection: Connection, key: Key, status: int | None, answer: bytes = b"", batch_id: str | None = None
) -> None:
    """Keep what a request was answered, or (`status` is `None`) which batch it made."""
    values = {"status": status, "answer": answer.decode(), "batch_id": batch_id}
    connection.execute(update(idempotency_keys).where(*_named(key)).values(values))


def release(connection: Connection, key: Key, taken_at: str | None = None) -> None:
    """Give a key back whose request came to nothing and cost nothing; with `taken_at` only if it was taken then."""
    k = idempotency_keys.c
    mine = () if taken_at is None else (k.created_at == taken_at,)
    connection.execute(delete(idempotency_keys).where(*_named(key), k.status.is_(None), *mine))


def check_unfinished(store: Store, kept: Kept) -> None:
    """Raise `Conflict` about a request that is not answered yet, or never will be."""
    if is_alive(store, kept.worker_id):
        raise Conflict("the first request with this Idempotency-Key is not finished; ask again in a moment")
    raise Conflict(
        "the first request with this Idempotency-Key was cut off; it may have been billed, as `usage` says. "
        "Ask again with a new key if you want to"
    )


def forget_old(connection: Connection, now: str) -> None:
    """Forget the keys that were kept for long enough."""
    before = timestamp(datetime.fromisoformat(now) - KEPT_FOR)
    connection.execute(delete(idempotency_keys).where(idempotency_keys.c.created_at < before))


def _named(key: Key) -> tuple[ColumnElement[bool], ...]:
    k = idempotency_keys.c
    return k.tenant_id == key.tenant_id, k.route == key.route, k.key == key.key
