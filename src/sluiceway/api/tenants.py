"""Tenants, for who operates the platform."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import Connection, select

from sluiceway.api.answers import Json, answers
from sluiceway.api.caller import Asker, who_manages
from sluiceway.api.paging import CursorText, Limit, Page, after, cursor
from sluiceway.errors import NotThere
from sluiceway.store.schema import tenants
from sluiceway.tenancy.roles import Permission
from sluiceway.tenancy.tenants import Tenant, add_tenant, disable_tenant, enable_tenant, is_there

router = APIRouter(prefix="/tenants", tags=["tenants"])

Operator = Annotated[Asker, who_manages(Permission.MANAGE_TENANTS)]


class TenantAsked(BaseModel):
    """A customer of the platform."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"id": "acme", "name": "Acme Instruments"}]}
    )

    id: str = Field(max_length=200, description="What it is named by everywhere; it never changes.")
    name: str = Field("", max_length=200, description="What people call it. Default: its id.")


def page_of(connection: Connection, last: str, limit: int) -> Page[Tenant]:
    """Return tenants by id."""
    t = tenants.c
    query = select(*(t[name] for name in Tenant.__struct_fields__)).where(t.id > last)
    found = [Tenant(*row) for row in connection.execute(query.order_by(t.id).limit(limit + 1))]
    return Page(found[:limit], cursor(found[limit - 1].id) if len(found) > limit else None)


@router.get("", **answers(Page[Tenant]))
async def list_tenants(asker: Operator, limit: Limit = 50, cursor_text: CursorText = None) -> Json:
    """List tenants by id."""
    start = after(cursor_text, tuple[str])
    return Json(await asker.world.read(page_of, start[0] if start else "", limit))


@router.post("", name="add_tenant", **answers(Tenant, 201, description="Made."))
async def add(asked: TenantAsked, asker: Operator) -> Json:
    """Make a tenant. Its first user is made with `POST /api/v1/users?tenant=…`."""
    by, now = asker.principal.actor, asker.world.now
    return Json(await asker.world.write(add_tenant, asked.id, asked.name, by=by, now=now), 201)


@router.post("/{tenant_id}/disable", name="disable_tenant", **answers(Tenant, problems=[404]))
async def disable(tenant_id: str, asker: Operator) -> Json:
    """Keep a tenant's users and API keys out, from the next request on. What it has stays."""
    return await _change(asker, tenant_id, disable_tenant)


@router.post("/{tenant_id}/enable", name="enable_tenant", **answers(Tenant, problems=[404]))
async def enable(tenant_id: str, asker: Operator) -> Json:
    """Let a tenant's users and API keys in again."""
    return await _change(asker, tenant_id, enable_tenant)


async def _change(asker: Asker, tenant_id: str, how: Callable[..., Tenant]) -> Json:
    def change(connection: Connection) -> Tenant:
        if not is_there(connection, tenant_id):
            raise NotThere(f"there is no tenant {tenant_id!r}")
        return how(connection, tenant_id, by=asker.principal.actor, now=asker.world.now)

    return Json(await asker.world.write(change))
