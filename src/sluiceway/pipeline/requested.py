"""Batches that are asked for while the service runs, through the API or the console, and run by its runner.

Such a batch is in the store before its asker is answered, so it is run to its end whatever happens to the process.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import Any, Final

import msgspec
from sqlalchemy import ColumnElement, Connection, delete, func, insert, select, update

from sluiceway.errors import BadInput, Conflict
from sluiceway.identifier import new_id
from sluiceway.outcome import as_json
from sluiceway.pipeline.batch import Batch
from sluiceway.pipeline.controls import lift_pause
from sluiceway.pipeline.selection import Selection, matching
from sluiceway.prospect import Want
from sluiceway.store.facts import raise_version
from sluiceway.store.schema import batch_rows, batches, limit_windows, prospects
from sluiceway.tenancy.tenants import know_tenants
from sluiceway.usage.quota import VERSION_OF, Unit, caps_of, set_caps

MOST_NAMED: Final = 1_000
"""Prospects that one request may name; more are asked for by a selection, or uploaded."""

_FILLED_AT_ONCE: Final = 500


class State(StrEnum):
    """Where a batch stands. `UPLOADED` waits to be asked for; `CANCELLING` and `CANCELLED` were given up."""

    UPLOADED = "uploaded"
    QUEUED = "queued"
    RUNNING = "running"
    PAUSED = "paused"
    CANCELLING = "cancelling"
    CANCELLED = "cancelled"
    FINISHED = "finished"


class Cap(msgspec.Struct, frozen=True):
    """The most a batch may spend: requests, milli-credits or micro-dollars, of one provider or (`*`) of all."""

    provider: str
    unit: Unit
    amount: int


class Terms(msgspec.Struct, frozen=True):
    """How a batch is run: which sources (none named is all there are) for which contact data, and for whom.

    `selection` says who is meant, where they were not named one by one; `interactive`: somebody waits for it.
    """

    sources: tuple[str, ...] = ()
    want: tuple[Want, ...] = (Want.WORK_EMAIL,)
    interactive: bool = False
    selection: Selection | None = None


class Wish(msgspec.Struct, frozen=True):
    """What is asked for, by whom and through what."""

    tenant_id: str
    name: str
    trigger: str
    terms: Terms
    refresh: bool = False
    caps: tuple[Cap, ...] = ()
    user_id: str = ""
    api_key_id: str | None = None


class Requested(msgspec.Struct, frozen=True):
    """A batch that the runner has to bring to its end."""

    batch: Batch
    tenant_id: str
    trigger: str
    terms: Terms
    user_id: str
    api_key_id: str | None
    cancelled: bool


def request_batch(connection: Connection, wish: Wish, prospect_ids: Sequence[str], now: str) -> str:
    """Ask for a batch of prospects named one by one, or (`terms.selection`) of all that are meant; returns its id."""
    know_tenants(connection, [wish.tenant_id], now)
    batch_id = new_id()
    values = {"id": batch_id, "digest": batch_id, "generation": 1, "created_at": now, "requested_at": now}
    rows = None if wish.terms.selection is not None else len(prospect_ids)
    connection.execute(insert(batches).values(**values, **_columns(wish), rows=rows, rejected=0))
    _add_rows(connection, batch_id, 0, prospect_ids)
    set_caps(connection, batch_id, [(cap.provider, cap.unit, cap.amount) for cap in wish.caps])
    return batch_id


def request_upload(connection: Connection, batch_id: str, wish: Wish, now: str) -> None:
    """Ask for a batch whose file was uploaded before. Raises `Conflict` when it was asked for already.

    A file's batch that was given on the command line is that command's, and may hold other tenants' people.
    """
    b = batches.c
    uploaded = (b.id == batch_id, b.digest == b.id, b.rows.is_not(None))
    waiting = (*uploaded, b.requested_at.is_(None), b.finished_at.is_(None))
    values = {**_columns(wish), "requested_at": now}
    if connection.execute(update(batches).where(*waiting).values(values)).rowcount == 0:
        raise Conflict("this is no upload, or is not whole, or was asked for already; its batch says how it stands")
    set_caps(connection, batch_id, [(cap.provider, cap.unit, cap.amount) for cap in wish.caps])


def _columns(wish: Wish) -> dict[str, Any]:
    return {
        "tenant_id": wish.tenant_id,
        "name": wish.name,
        "options": as_json(wish.terms),
        "trigger": wish.trigger,
        "refresh": wish.refresh,
        "user_id": wish.user_id or None,
        "api_key_id": wish.api_key_id,
    }


def _add_rows(connection: Connection, batch_id: str, first: int, ids: Iterable[str]) -> None:
    rows = [
        {"batch_id": batch_id, "number": number, "prospect_id": prospect_id}
        for number, prospect_id in enumerate(ids, first)
    ]
    if rows:
        connection.execute(insert(batch_rows), rows)


def fill(connection: Connection, requested: Requested) -> bool:
    """Add the next of those who are meant to a batch; returns whether there may be more.

    They are added in the order of their ids, and only those who were there when the batch was asked for, so that it
    does not matter how often this is interrupted.
    """
    batch_id, r, p = requested.batch.id, batch_rows.c, prospects.c
    found = select(func.count(), func.max(r.prospect_id), func.max(r.number)).where(r.batch_id == batch_id)
    held = connection.execute(found).one()
    which = meant(requested.tenant_id, requested.terms.selection or Selection())
    query = select(p.id).where(which, p.id > (held[1] or ""), p.id < batch_id).order_by(p.id).limit(_FILLED_AT_ONCE)
    ids = list(connection.execute(query).scalars())
    _add_rows(connection, batch_id, 0 if held[2] is None else held[2] + 1, ids)  # some may have been erased
    if len(ids) == _FILLED_AT_ONCE:
        return True
    filled = {"rows": held[0] + len(ids), "options": as_json(_without_text(requested.terms))}
    connection.execute(update(batches).where(batches.c.id == batch_id).values(filled))
    return False


def _without_text(terms: Terms) -> Terms:
    """Return how a batch is run without the words somebody was looked for by: who is in it is known by now."""
    selection = terms.selection and msgspec.structs.replace(terms.selection, text="")
    return msgspec.structs.replace(terms, selection=selection)


def meant(tenant_id: str, selection: Selection) -> ColumnElement[bool]:
    """Return the condition that a tenant's prospects meet who are meant."""
    return (prospects.c.tenant_id == tenant_id) & matching(selection, prospects.c)


def to_run(connection: Connection) -> list[Requested]:
    """Return the batches that were asked for and have not ended, oldest first."""
    b = batches.c
    query = select(batches).where(b.requested_at.is_not(None), b.finished_at.is_(None)).order_by(b.requested_at, b.id)
    return [_requested(row) for row in connection.execute(query)]


def _requested(row: Any) -> Requested:
    return Requested(
        batch=Batch(row.id, row.began_at or row.requested_at, row.refresh, row.began_at is not None, row.rows),
        tenant_id=row.tenant_id,
        trigger=row.trigger,
        terms=msgspec.json.decode(row.options, type=Terms),
        user_id=row.user_id or "",
        api_key_id=row.api_key_id,
        cancelled=row.cancelled_at is not None,
    )


def cancel_batch(connection: Connection, batch_id: str, now: str) -> None:
    """Give a batch up. The runner ends what is open of it; what was bought stays. Raises `Conflict` if it has ended."""
    b = batches.c
    unended = (b.id == batch_id, b.finished_at.is_(None))
    values = {"cancelled_at": func.coalesce(b.cancelled_at, now), "requested_at": func.coalesce(b.requested_at, now)}
    if connection.execute(update(batches).where(*unended).values(values)).rowcount == 0:
        raise Conflict("this batch has ended already")


def end_batch(connection: Connection, batch_id: str, now: str) -> bool:
    """Note that nothing of a batch is left to do; returns whether that was news. Its caps and pause are over."""
    b = batches.c
    ended = update(batches).where(b.id == batch_id, b.finished_at.is_(None)).values(finished_at=now)
    if connection.execute(ended).rowcount == 0:
        return False
    lift_pause(connection, "batch", batch_id)
    if caps := caps_of(connection, batch_id):
        windows = limit_windows.c.limit_id.in_([cap.id for cap in caps])
        connection.execute(delete(limit_windows).where(windows))
        raise_version(connection, VERSION_OF)
    return True


def state_of(row: Any, *, paused: bool) -> State:
    """Say where a batch stands, from its row."""
    if row.finished_at:
        return State.CANCELLED if row.cancelled_at else State.FINISHED
    if row.cancelled_at:
        return State.CANCELLING
    if not row.requested_at and not row.began_at:
        return State.UPLOADED
    if paused:
        return State.PAUSED
    return State.RUNNING if row.began_at else State.QUEUED


def check_named(ids: Sequence[str]) -> None:
    """Raise `BadInput` when more prospects are named than one request may name."""
    if len(ids) > MOST_NAMED:
        raise BadInput(f"names {len(ids):,} prospects; name at most {MOST_NAMED:,}, or say by a filter who is meant")
