"""Uploads: people brought as a file, taken in chunk by chunk as a batch that waits to be asked for.

Until all its rows are in the store an upload is not whole and cannot be asked for (`batches.rows` is unknown). What a
process leaves half done is withdrawn when the service starts again, with the file it was read from.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from tempfile import mkstemp
from typing import Final

import msgspec
from sqlalchemy import Connection, func, insert, select

from sluiceway.identifier import new_id
from sluiceway.outcome import as_json
from sluiceway.pipeline.batch import InputRow, all_taken_in, count_prospects, take_in, withdraw
from sluiceway.pipeline.recover import is_alive
from sluiceway.store.bulk import Insert
from sluiceway.store.engine import Store
from sluiceway.store.schema import batch_rejects, batches
from sluiceway.store.writer import Writer
from sluiceway.usage.ledger import Op, Task

_SPOOLED: Final = "upload-"


class Upload(msgspec.Struct, frozen=True):
    """Who brings people, for whom, through what, and under which name; `worker_id` is the process that takes them."""

    tenant_id: str
    name: str
    trigger: str
    worker_id: str
    user_id: str
    api_key_id: str | None


class Rejected(msgspec.Struct, frozen=True):
    """A row of an upload that could not be used; `number` counts rows from 0, `line` lines from 1."""

    number: int
    line: int | None
    reason: str


class _TakenBy(msgspec.Struct, frozen=True):
    """What stands in place of a batch's options until it is asked for."""

    taken_in_by: str = ""


_REJECTS = Insert(batch_rejects, ("batch_id", "number", "line", "reason"))


def begin_upload(connection: Connection, upload: Upload, now: str) -> str:
    """Make a batch for an upload's rows; returns its id. The same file again is another batch."""
    batch_id = new_id()
    values = {
        "id": batch_id,
        "digest": batch_id,
        "generation": 1,
        "options": as_json(_TakenBy(upload.worker_id)),
        "refresh": False,
        "tenant_id": upload.tenant_id,
        "name": upload.name,
        "trigger": upload.trigger,
        "user_id": upload.user_id,
        "api_key_id": upload.api_key_id,
        "created_at": now,
    }
    connection.execute(insert(batches).values(values))
    return batch_id


def add_to_upload(
    connection: Connection, batch_id: str, rows: Sequence[InputRow], rejects: Sequence[Rejected], now: str
) -> None:
    """Take in some rows of an upload, and note which were rejects."""
    if rows:
        take_in(connection, batch_id, rows, now)
    _REJECTS.run(connection, [(batch_id, reject.number, reject.line, reject.reason) for reject in rejects])


def end_upload(connection: Connection, batch_id: str, *, rows: int) -> tuple[int, int]:
    """Note that an upload of so many rows is whole; returns how many prospects it has, and how many rejects."""
    r = batch_rejects.c
    rejected: int = connection.execute(select(func.count()).where(r.batch_id == batch_id)).scalar_one()
    all_taken_in(connection, batch_id, rows=rows, rejected=rejected)
    return count_prospects(connection, batch_id), rejected


# Files on their way in, and what a process that died has left.


def spooled(store: Store, worker_id: str) -> tuple[int, Path]:
    """Make a file for what somebody uploads, which only this user can read; returns it open, as `mkstemp` does."""
    descriptor, path = mkstemp(prefix=f"{_SPOOLED}{worker_id}-", dir=store.state)
    return descriptor, Path(path)


async def withdraw_left_behind(store: Store, writer: Writer[Op]) -> int:
    """Withdraw the uploads that dead processes have not brought to their end; returns how many there were."""
    for path in store.state.glob(f"{_SPOOLED}*-*"):
        if not is_alive(store, path.name.removeprefix(_SPOOLED).partition("-")[0]):
            path.unlink(missing_ok=True)
    left = [batch_id for batch_id, worker_id in _unfinished(store) if not is_alive(store, worker_id)]
    for batch_id in left:
        await writer.put(Task(partial(withdraw, batch_id=batch_id)))
    return len(left)


def _unfinished(store: Store) -> list[tuple[str, str]]:
    """Return the uploads that are not whole, with who takes them in."""
    b = batches.c
    query = select(b.id, b.options).where(b.rows.is_(None), b.requested_at.is_(None), b.began_at.is_(None))
    with store.read() as connection:
        found = [(row.id, msgspec.json.decode(row.options, type=_TakenBy)) for row in connection.execute(query)]
    return [(batch_id, said.taken_in_by) for batch_id, said in found if said.taken_in_by]
