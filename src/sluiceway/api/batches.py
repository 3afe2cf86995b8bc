"""Batches: how far what was asked for is, what it has spent, and stopping it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Annotated, Any, Final

import msgspec
from fastapi import APIRouter, Request, Response
from sqlalchemy import Connection, func, select
from starlette.responses import StreamingResponse

from sluiceway.api.answers import Json, answers, in_text
from sluiceway.api.caller import Asker, who_may
from sluiceway.api.paging import CursorText, Limit, Page, after, cursor
from sluiceway.errors import Conflict, NotThere
from sluiceway.pipeline.batch import count_prospects
from sluiceway.pipeline.controls import all_pauses, lift_pause, set_pause
from sluiceway.pipeline.gate import Pause
from sluiceway.pipeline.requested import (
    State,
    Terms,
    cancel_batch,
    state_of,
)
from sluiceway.pipeline.uploads import Rejected
from sluiceway.store.schema import (
    batch_caps,
    batch_rejects,
    batch_rows,
    batches,
    runs,
    source_results,
    usage_days,
    users,
)
from sluiceway.store.schema import prospects as prospects_table
from sluiceway.tenancy.roles import Permission
from sluiceway.tenancy.scope import Scope

router = APIRouter(tags=["batches"])

Reader = Annotated[Asker, who_may(Permission.READ_PROSPECTS)]
Spender = Annotated[Asker, who_may(Permission.ENRICH)]

_LOOK_EVERY_S: Final = 0.5
_TIMES_AS_LONG: Final = 10
_QUIET_LOOKS: Final = 30
"""After so many looks that found nothing new, whoever follows is told that somebody is still looking."""
ENDED: Final = frozenset({State.FINISHED, State.CANCELLED})
"""The states in which nothing is left to do."""

_Place = Annotated[int, msgspec.Meta(ge=0, lt=2**31)]
"""The place of a row, as a column can hold it."""


# What is answered.


class ShownCap(msgspec.Struct, frozen=True):
    """The most a batch may spend: requests, milli-credits or micro-dollars, of one provider or (`*`) of all."""

    provider: str
    unit: str
    amount: int


class Spent(msgspec.Struct, frozen=True):
    """What calls to a provider cost so far: micro-dollars and milli-credits; `unpriced` ones are in no sum.

    Public documents that a batch was the first to need are shared by all, so they are in no tenant's sums.
    """

    calls: int
    billed: int
    unknown: int
    milli_credits: int
    usd_micros: int
    unpriced: int


class ShownBatch(msgspec.Struct, frozen=True):
    """A batch. `rows` is `null` until it is known who is in it; `done` of its `prospects` have nothing left to ask."""

    id: str
    tenant_id: str
    name: str
    state: State
    trigger: str
    refresh: bool
    sources: list[str]
    want: list[str]
    caps: list[ShownCap]
    user_id: str | None
    api_key_id: str | None
    rows: int | None
    rejected: int | None
    prospects: int
    done: int
    outcomes: dict[str, dict[str, int]]
    spent: dict[str, Spent]
    created_at: str
    began_at: str | None
    finished_at: str | None
    cancelled_at: str | None
    paused: str | None


class BatchLine(msgspec.Struct, frozen=True):
    """A batch in a list."""

    id: str
    tenant_id: str
    name: str
    state: State
    trigger: str
    user_id: str | None
    rows: int | None
    rejected: int | None
    spent: dict[str, Spent]
    created_at: str
    finished_at: str | None


# Reading.


def found(connection: Connection, batch_id: str, scope: Scope) -> Any:
    """Return a batch's row; raises `NotThere` for one that is nobody's, or another tenant's."""
    b = scope.of(batches)
    row = connection.execute(select(b).where(b.c.id == batch_id)).first()
    if row is None:
        raise NotThere(f"there is no batch {batch_id!r}")
    return row


def show(connection: Connection, batch_id: str, *, scope: Scope) -> ShownBatch:
    """Say how a batch stands."""
    row = found(connection, batch_id, scope)
    pause = next((p for p in all_pauses(connection) if p.covers("", row.tenant_id, row.id)), None)
    terms = _terms(row)
    caps = connection.execute(select(batch_caps).where(batch_caps.c.batch_id == row.id))
    r = scope.of(runs).c
    over = select(func.count(r.prospect_id.distinct())).where(r.batch_id == row.id, r.closed_at.is_not(None))
    return ShownBatch(
        id=row.id,
        tenant_id=row.tenant_id,
        name=row.name,
        state=state_of(row, paused=pause is not None),
        trigger=row.trigger,
        refresh=row.refresh,
        sources=list(terms.sources),
        want=list(terms.want),
        caps=[ShownCap(cap.provider, cap.unit, cap.amount) for cap in caps],
        user_id=row.user_id,
        api_key_id=row.api_key_id,
        rows=row.rows,
        rejected=row.rejected,
        prospects=count_prospects(connection, row.id),
        done=connection.execute(over).scalar_one(),
        outcomes=_outcomes(connection, row.id, scope),
        spent=_spent(connection, [row.id], scope).get(row.id, {}),
        created_at=row.created_at,
        began_at=row.began_at,
        finished_at=row.finished_at,
        cancelled_at=row.cancelled_at,
        paused=_why_paused(pause),
    )


def _why_paused(pause: Pause | None) -> str | None:
    """Say what is paused; who did so, and why, is the operators' where it is more than this batch."""
    if pause is None:
        return None
    return "this batch is paused" if pause.scope == "batch" else "an operator has paused all work, or this tenant's"


def _terms(row: Any) -> Terms:
    """Return how a batch is run; a file's, given on the command line, keeps its options otherwise."""
    try:
        return msgspec.json.decode(row.options, type=Terms, strict=False)
    except msgspec.ValidationError:
        return Terms()


def _outcomes(connection: Connection, batch_id: str, scope: Scope) -> dict[str, dict[str, int]]:
    """Count, by source, how its results stand in the runs of a batch."""
    r, s = scope.of(runs), scope.of(source_results)
    query = select(s.c.source, s.c.status, func.count()).join(r, r.c.id == s.c.run_id)
    counted: dict[str, dict[str, int]] = {}
    for source, status, count in connection.execute(
        query.where(r.c.batch_id == batch_id).group_by(s.c.source, s.c.status).order_by(s.c.source, s.c.status)
    ):
        counted.setdefault(source, {})[status] = count
    return counted


_SUMS: Final = ("attempts", "billed", "unknown", "milli_credits", "usd_micros", "unpriced")


def _spent(connection: Connection, batch_ids: list[str], scope: Scope) -> dict[str, dict[str, Spent]]:
    """Sum what was spent on batches, by provider."""
    u = scope.of(usage_days).c
    query = select(u.batch_id, u.provider, *(func.sum(u[name]) for name in _SUMS))
    spent: dict[str, dict[str, Spent]] = {}
    for batch_id, provider, *sums in connection.execute(
        query.where(u.batch_id.in_(batch_ids)).group_by(u.batch_id, u.provider).order_by(u.provider)
    ):
        spent.setdefault(batch_id, {})[provider] = Spent(*map(int, sums))
    return spent


def page_of(connection: Connection, before: str | None, limit: int, *, scope: Scope) -> Page[BatchLine]:
    """Return batches, newest first."""
    b = scope.of(batches)
    query = select(b).order_by(b.c.id.desc()).limit(limit + 1)
    rows = connection.execute(query.where(b.c.id < before) if before else query).all()
    paused = all_pauses(connection)
    spent = _spent(connection, [row.id for row in rows], scope)
    items = [
        BatchLine(
            id=row.id,
            tenant_id=row.tenant_id,
            name=row.name,
            state=state_of(row, paused=any(p.covers("", row.tenant_id, row.id) for p in paused)),
            trigger=row.trigger,
            user_id=row.user_id,
            rows=row.rows,
            rejected=row.rejected,
            spent=spent.get(row.id, {}),
            created_at=row.created_at,
            finished_at=row.finished_at,
        )
        for row in rows[:limit]
    ]
    return Page(items, cursor(items[-1].id) if len(rows) > limit else None)


# Looking, and stopping.


@router.get("/batches", **answers(Page[BatchLine]))
async def list_batches(asker: Reader, limit: Limit = 50, cursor_text: CursorText = None) -> Json:
    """List batches, newest first, with what each has spent."""
    start = after(cursor_text, tuple[str])
    return Json(await asker.world.read(page_of, start[0] if start else None, limit, scope=asker.scope))


@router.get("/batches/{batch_id}", name="read_batch", **answers(ShownBatch, problems=[404]))
async def read(batch_id: str, asker: Reader) -> Json:
    """Say how far a batch is: how its source results stand, and what it has spent."""
    return Json(await asker.world.read(show, batch_id, scope=asker.scope))


@router.get("/batches/{batch_id}/rejects", name="list_batch_rejects", **answers(Page[Rejected], problems=[404]))
async def rejects(batch_id: str, asker: Reader, limit: Limit = 50, cursor_text: CursorText = None) -> Json:
    """List the rows of an upload that could not be used, with their lines and why."""
    start = after(cursor_text, tuple[_Place])
    return Json(await asker.world.read(_rejects, batch_id, start[0] if start else -1, limit, scope=asker.scope))


def _rejects(connection: Connection, batch_id: str, last: int, limit: int, *, scope: Scope) -> Page[Rejected]:
    found(connection, batch_id, scope)
    r = batch_rejects.c
    query = select(r.number, r.line, r.reason).where(r.batch_id == batch_id, r.number > last)
    rows = [Rejected(*row) for row in connection.execute(query.order_by(r.number).limit(limit + 1))]
    return Page(rows[:limit], cursor(rows[limit - 1].number) if len(rows) > limit else None)


@router.get(
    "/batches/{batch_id}/events",
    name="follow_batch",
    response_class=Response,
    responses={
        **answers(None, problems=[404])["responses"],
        200: in_text("text/event-stream", "`progress` events with the batch, and `finished` at its end."),
    },
)
async def events(batch_id: str, request: Request, asker: Reader) -> Response:
    """Follow a batch as server-sent events: its state whenever that changes, until it has ended.

    Where nothing changes, a comment every 15 seconds keeps proxies from taking the connection for a dead one.
    """
    first = await asker.world.read(show, batch_id, scope=asker.scope)
    return StreamingResponse(_events(first, request, asker), media_type="text/event-stream")


async def _events(batch: ShownBatch, request: Request, asker: Asker) -> AsyncIterator[bytes]:
    took_s = 0.0
    while True:
        over = batch.state in ENDED
        yield b"event: %s\ndata: %s\n\n" % (b"finished" if over else b"progress", msgspec.json.encode(batch))
        before, looks = batch, 0
        while batch == before:
            if over or asker.world.gate.draining.is_set() or await request.is_disconnected():
                return
            # However large a batch is, and however many follow it, most of the time is left to the work.
            await asyncio.sleep(max(_LOOK_EVERY_S, _TIMES_AS_LONG * took_s))
            looks += 1
            if looks % _QUIET_LOOKS == 0:
                yield b": nothing new\n\n"
            began = time.monotonic()
            batch = await asker.world.read(show, batch.id, scope=asker.scope)
            took_s = time.monotonic() - began


@router.post("/batches/{batch_id}/pause", name="pause_batch", **answers(ShownBatch, problems=[404, 409]))
async def pause(batch_id: str, asker: Spender) -> Json:
    """Begin no more calls for a batch until it is resumed; those in flight are finished and booked."""

    def stop(connection: Connection) -> None:
        _unended(connection, batch_id, asker.scope)
        _check_whose_pause(connection, batch_id, asker)
        set_pause(connection, Pause("batch", batch_id, asker.principal.actor), asker.world.stamp)

    await asker.world.read(_check_nobody_elses, batch_id, asker)
    await asker.world.write(stop)
    return Json(await _as_it_stands(asker, batch_id))


@router.post("/batches/{batch_id}/resume", name="resume_batch", **answers(ShownBatch, problems=[404, 409]))
async def resume(batch_id: str, asker: Spender) -> Json:
    """Go on with a batch that was paused. What an operator has stopped stays stopped."""

    def go_on(connection: Connection) -> None:
        _unended(connection, batch_id, asker.scope)
        _check_whose_pause(connection, batch_id, asker)
        lift_pause(connection, "batch", batch_id)

    await asker.world.read(_check_nobody_elses, batch_id, asker)
    await asker.world.write(go_on)
    asker.world.runner.wake(batch_id)
    return Json(await _as_it_stands(asker, batch_id))


@router.post("/batches/{batch_id}/cancel", name="cancel_batch", **answers(ShownBatch, 202, problems=[404, 409]))
async def cancel(batch_id: str, asker: Spender) -> Json:
    """Give a batch up: no more calls begin, what was bought stays, and what is open of it ends as `cancelled`."""

    def give_up(connection: Connection) -> None:
        _unended(connection, batch_id, asker.scope)
        set_pause(connection, Pause("batch", batch_id, asker.principal.actor, "cancelled"), asker.world.stamp)
        cancel_batch(connection, batch_id, asker.world.stamp)

    await asker.world.read(_check_nobody_elses, batch_id, asker)
    await asker.world.write(give_up)
    asker.world.runner.wake(batch_id)
    return Json(await _as_it_stands(asker, batch_id), 202)


async def _as_it_stands(asker: Asker, batch_id: str) -> ShownBatch:
    """Show a batch after a change of it: not within that, for the sums of a large one would hold everybody else up."""
    return await asker.world.read(show, batch_id, scope=asker.scope)


def _unended(connection: Connection, batch_id: str, scope: Scope) -> None:
    row = found(connection, batch_id, scope)
    if row.finished_at or row.cancelled_at:
        raise Conflict("this batch has ended already" if row.finished_at else "this batch is being cancelled")


def _check_nobody_elses(connection: Connection, batch_id: str, asker: Asker) -> None:
    """Raise `Conflict` where a file of the command line has rows of other tenants, who would be stopped as well."""
    row = found(connection, batch_id, asker.scope)
    if row.digest == row.id or asker.principal.may(Permission.OPERATE):
        return
    r, p = batch_rows.c, asker.scope.of(prospects_table).c
    others = select(r.number).where(r.batch_id == batch_id, r.prospect_id.not_in(select(p.id)))
    if connection.execute(others.limit(1)).first() is not None:
        raise Conflict("other tenants are in this batch as well, so only an operator stops it or lets it go on")


def _check_whose_pause(connection: Connection, batch_id: str, asker: Asker) -> None:
    """Raise `Conflict` where a batch was paused by somebody outside its tenant, who is an operator."""
    pause = next((p for p in all_pauses(connection) if (p.scope, p.name) == ("batch", batch_id)), None)
    if pause is None or asker.principal.may(Permission.OPERATE):
        return
    u = asker.scope.of(users).c
    if pause.paused_by not in {f"user:{user_id}" for user_id in connection.execute(select(u.id)).scalars()}:
        raise Conflict("an operator has paused this batch; ask them to resume it")
