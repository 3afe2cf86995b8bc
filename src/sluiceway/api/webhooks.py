"""Webhooks: where a tenant is told that its runs and batches ended; trying one out, and what became of deliveries."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any, Literal

import msgspec
from fastapi import APIRouter, Response
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import Connection, select

from sluiceway.api.answers import Json, answers
from sluiceway.api.caller import Asker, who_may
from sluiceway.api.paging import LIMIT, CursorText, Limit, Page, after, cursor
from sluiceway.api.world import World
from sluiceway.errors import Conflict, NotThere
from sluiceway.hooks.address import allowed_by
from sluiceway.hooks.body import Dropped
from sluiceway.hooks.deliveries import Logged, To, keep_ping, logged, ping_for
from sluiceway.hooks.door import checked, send
from sluiceway.hooks.letters import letter_of
from sluiceway.hooks.webhooks import NewWebhook, Webhook, add_webhook, remove_webhook, webhook
from sluiceway.store.schema import deliveries, webhooks
from sluiceway.store.secret import SecretKey, secret_key
from sluiceway.tenancy.roles import Permission
from sluiceway.tenancy.scope import Scope

router = APIRouter(prefix="/webhooks", tags=["webhooks"])

Manager = Annotated[Asker, who_may(Permission.MANAGE_WEBHOOKS)]


class WebhookAsked(BaseModel):
    """A webhook to be made. The address has to be public, unless the operator has listed it."""

    model_config = ConfigDict(extra="forbid")

    url: str = Field(min_length=1, max_length=2000, examples=["https://crm.example.com/sluiceway"])
    events: list[Literal["run.finished", "batch.finished"]] = Field(
        ["batch.finished", "run.finished"], min_length=1, max_length=2, description="What it is told of."
    )


class Tried(msgspec.Struct, frozen=True):
    """What came back of a `ping`: the HTTP status, or `null` with the reason why there is none."""

    delivery_id: str
    delivered: bool
    http_status: int | None
    error: str | None


_EXAMPLE = {
    "webhook": {
        "id": "019ac1f07c6f7d0f9f0d5ad2a4f0c0de",
        "tenant_id": "acme",
        "url": "https://crm.example.com/sluiceway",
        "events": ["batch.finished", "run.finished"],
        "created_at": "2026-11-27T09:30:00.000Z",
        "created_by": "user:019ac1f0000070008000000000000001",
    },
    "secret": "whsec_kq0d7TL1mNnV5bq2G3l6iN1a8Jw0cYh4rZxE9uSfPoM",
}


@router.post(
    "", name="add_webhook", **answers(NewWebhook, 201, problems=[404, 409], description="Made.", example=_EXAMPLE)
)
async def add(asked: WebhookAsked, asker: Manager) -> Response:
    """Have a tenant told when its runs or batches end. The secret that signs what is sent is shown once, here.

    Every delivery is signed, and tried again for a day and a half until it is answered with a 2xx. 410 removes the
    webhook. What a test key makes is told of what test keys do.
    """
    world, tenant_id = asker.world, asker.tenant_id
    url = await checked(asked.url, allowed_by(world.settings.webhook_allow))
    key = await asyncio.to_thread(_key, world, make=True)
    made = await world.write(
        add_webhook, tenant_id, str(url), asked.events, key, by=_by(asker), now=world.now
    )  # fmt: skip
    return Json(made, 201, {"Location": f"/api/v1/webhooks/{made.webhook.id}"})


@router.get("", name="list_webhooks", **answers(Page[Webhook]))
async def listed(asker: Manager, limit: Limit = LIMIT, cursor: CursorText = None) -> Response:
    """List webhooks, newest first; their secrets are not shown again."""
    before = after(cursor, tuple[str])
    return Json(await asker.world.read(_page, before[0] if before else None, limit, scope=asker.scope))


@router.get("/{webhook_id}", name="read_webhook", **answers(Webhook, problems=[404]))
async def read(webhook_id: str, asker: Manager) -> Response:
    """Read one webhook."""
    return Json(await asker.world.read(_one, webhook_id, scope=asker.scope))


@router.delete(
    "/{webhook_id}",
    name="remove_webhook",
    **answers(None, 204, problems=[404], description="It is told nothing any more."),
)
async def remove(webhook_id: str, asker: Manager) -> Response:
    """Remove a webhook; what was still to be told to it is dropped."""
    await asker.world.write(_remove, webhook_id, asker=asker)
    return Response(status_code=204)


@router.post(
    "/{webhook_id}/test", name="test_webhook", **answers(Tried, problems=[404, 409], description="What came back.")
)
async def test(webhook_id: str, asker: Manager) -> Response:
    """Send a `ping` to a webhook now, once, and say what came back; waits up to 10 seconds."""
    world = asker.world
    whose = await world.read(_one, webhook_id, scope=asker.scope)
    ping = ping_for(To.WEBHOOK, whose.id, whose.tenant_id, world.stamp)
    letter = await world.read(letter_of, ping, world.suppressions, lambda: _key(world))
    if isinstance(letter, Dropped):
        raise Conflict(f"nothing is sent to this webhook: {letter.reason}")
    reply = await send(letter, allowed_by(world.settings.webhook_allow))
    await world.write(keep_ping, ping, reply, world.stamp)
    return Json(Tried(ping.id, reply.is_delivered, reply.http_status, reply.error))


@router.get("/{webhook_id}/deliveries", name="list_webhook_deliveries", **answers(Page[Logged], problems=[404]))
async def log(webhook_id: str, asker: Manager, limit: Limit = LIMIT, cursor: CursorText = None) -> Response:
    """List what a webhook was told or is to be told, newest first, for 30 days: when, how often, what came back.

    What is `dropped` is not told after all, for example because the person has been erased since.
    """
    before = after(cursor, tuple[str])
    page = await asker.world.read(_log, webhook_id, before[0] if before else None, limit, scope=asker.scope)
    return Json(page)


def _one(connection: Connection, webhook_id: str, *, scope: Scope) -> Webhook:
    """Return a webhook; raises `NotThere` for one that is nobody's, another tenant's, or removed."""
    w = scope.of(webhooks)
    row = connection.execute(select(w).where(w.c.id == webhook_id, w.c.removed_at.is_(None))).first()
    if row is None:
        raise NotThere(f"there is no webhook {webhook_id!r}")
    return webhook(row)


def _page(connection: Connection, before: str | None, limit: int, *, scope: Scope) -> Page[Webhook]:
    w = scope.of(webhooks)
    query = select(w).where(w.c.removed_at.is_(None)).order_by(w.c.id.desc()).limit(limit + 1)
    rows = connection.execute(query.where(w.c.id < before) if before else query).all()
    return _as_page([webhook(row) for row in rows], limit)


def _log(connection: Connection, webhook_id: str, before: str | None, limit: int, *, scope: Scope) -> Page[Logged]:
    whose = _one(connection, webhook_id, scope=scope)
    d = scope.of(deliveries)
    query = select(d).where(d.c.receiver_id == whose.id).order_by(d.c.id.desc()).limit(limit + 1)
    rows = connection.execute(query.where(d.c.id < before) if before else query).all()
    return _as_page([logged(row) for row in rows], limit)


def _as_page(found: list[Any], limit: int) -> Page[Any]:
    return Page(found[:limit], cursor(found[limit - 1].id) if len(found) > limit else None)


def _remove(connection: Connection, webhook_id: str, *, asker: Asker) -> None:
    whose = _one(connection, webhook_id, scope=asker.scope)
    remove_webhook(connection, whose.id, by=_by(asker), now=asker.world.now)


def _by(asker: Asker) -> str:
    return f"user:{asker.principal.user_id}"


def _key(world: World, *, make: bool = False) -> SecretKey:
    settings = world.settings
    return secret_key(settings.secret_key.get_secret_value(), settings.database_url, make=make)
