"""Runs: what was asked about a prospect each time, by which calls, and what came of it."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from fastapi import APIRouter
from sqlalchemy import Connection, select

from sluiceway.api import prospects as of_prospects
from sluiceway.api.answers import Json, answers
from sluiceway.api.caller import Asker, who_may
from sluiceway.api.paging import LIMIT, CursorText, Limit, Page, after, cursor
from sluiceway.errors import NotThere
from sluiceway.pipeline.timeline import Timeline, timeline
from sluiceway.store.schema import runs
from sluiceway.tenancy.roles import Permission
from sluiceway.tenancy.scope import Scope

router = APIRouter(tags=["runs"])

Reader = Annotated[Asker, who_may(Permission.READ_PROSPECTS)]


class RunLine(msgspec.Struct, frozen=True):
    """One enrichment of a prospect; `closed_at` is `null` while it is open."""

    id: str
    batch_id: str | None
    trigger: str
    status: str
    opened_at: str
    closed_at: str | None


@router.get("/prospects/{prospect_id}/runs", **answers(Page[RunLine], problems=[404]))
async def list_runs(prospect_id: str, asker: Reader, limit: Limit = LIMIT, cursor_text: CursorText = None) -> Json:
    """List the runs of a prospect, newest first."""
    start = after(cursor_text, tuple[str])
    return Json(await asker.world.read(_page, prospect_id, start[0] if start else None, limit, scope=asker.scope))


def _page(connection: Connection, prospect_id: str, before: str | None, limit: int, *, scope: Scope) -> Page[RunLine]:
    of_prospects.found(connection, prospect_id, scope)
    r = scope.of(runs).c
    query = select(*(r[name] for name in RunLine.__struct_fields__)).where(r.prospect_id == prospect_id)
    query = query.order_by(r.id.desc()).limit(limit + 1)
    rows = [RunLine(*row) for row in connection.execute(query.where(r.id < before) if before else query)]
    return Page(rows[:limit], cursor(rows[limit - 1].id) if len(rows) > limit else None)


@router.get("/runs/{run_id}", name="read_run", **answers(Timeline, problems=[404]))
async def read(run_id: str, asker: Reader) -> Json:
    """Read one run as it happened: what came of each source, and every call with its charge."""
    return Json(await asker.world.read(_timeline, run_id, scope=asker.scope))


def _timeline(connection: Connection, run_id: str, *, scope: Scope) -> Timeline:
    r: Any = scope.of(runs).c
    mine = connection.execute(select(r.id).where(r.id == run_id)).scalar()
    said = timeline(connection, mine) if mine is not None else None
    if said is None:
        raise NotThere(f"there is no run {run_id!r}")
    return said
