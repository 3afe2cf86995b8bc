"""The audit: who did what to whom, within a tenant or on the whole platform."""

from __future__ import annotations

from typing import Annotated

import msgspec
from fastapi import APIRouter
from sqlalchemy import Connection, select

from sluiceway.api.answers import Json, answers
from sluiceway.api.caller import Asker, who_manages
from sluiceway.api.paging import CursorText, Limit, Page, after, cursor
from sluiceway.store.schema import audit
from sluiceway.tenancy.roles import Permission
from sluiceway.tenancy.scope import Scope

router = APIRouter(prefix="/audit", tags=["audit"])


class AuditEntry(msgspec.Struct, frozen=True):
    """One act. `actor` is `user:<id>`, `cli:<name at the machine>` or `system`; `target` likewise `<what>:<id>`."""

    id: str
    at: str
    actor: str
    action: str
    tenant_id: str | None
    target: str
    detail: str | None


def page_of(connection: Connection, before: str | None, limit: int, *, scope: Scope) -> Page[AuditEntry]:
    """Return entries, newest first."""
    a = scope.of(audit)
    query = select(*(a.c[name] for name in AuditEntry.__struct_fields__)).order_by(a.c.id.desc()).limit(limit + 1)
    found = [AuditEntry(*row) for row in connection.execute(query.where(a.c.id < before) if before else query)]
    return Page(found[:limit], cursor(found[limit - 1].id) if len(found) > limit else None)


@router.get("", name="list_audit", **answers(Page[AuditEntry]))
async def list_entries(
    asker: Annotated[Asker, who_manages(Permission.READ_AUDIT)], limit: Limit = 50, cursor_text: CursorText = None
) -> Json:
    """List who changed tenants, users and keys and who signed in, newest first. Users are named by id."""
    start = after(cursor_text, tuple[str])
    return Json(await asker.world.read(page_of, start[0] if start else None, limit, scope=asker.scope))
