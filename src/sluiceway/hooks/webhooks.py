"""Tenants' webhooks: where a tenant wants to be told that its runs and batches ended."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, func, insert, select, update

from sluiceway.errors import Conflict
from sluiceway.hooks.deliveries import Notice, drop_all_for
from sluiceway.hooks.signature import new_signing_secret
from sluiceway.identifier import new_id
from sluiceway.outcome import timestamp
from sluiceway.store.schema import webhooks
from sluiceway.store.secret import SecretKey
from sluiceway.tenancy.audit import record
from sluiceway.tenancy.seal import seal, unseal
from sluiceway.tenancy.tenants import tenant_of

SUBSCRIBED: Final = (Notice.BATCH_FINISHED, Notice.RUN_FINISHED)
"""What a webhook may be told of."""

MOST: Final = 20
"""Webhooks that a tenant may have."""


class Webhook(msgspec.Struct, frozen=True):
    """A tenant's webhook, without its secret."""

    id: str
    tenant_id: str
    url: str
    events: list[str]
    created_at: str
    created_by: str


class NewWebhook(msgspec.Struct, frozen=True):
    """A webhook that was just made, and the only sight of the secret that signs what it is sent."""

    webhook: Webhook
    secret: str


_W = webhooks.c


def add_webhook(
    connection: Connection,
    tenant_id: str,
    url: str,
    events: Sequence[str],
    key: SecretKey,
    *,
    by: str,
    now: datetime,
) -> NewWebhook:
    """Have a tenant told of events from the next commit on; whoever calls has checked that the address may be called.

    Raises `Conflict` when the tenant has as many webhooks as it may have.
    """
    tenant_of(connection, tenant_id)
    mine = (_W.tenant_id == tenant_id, _W.removed_at.is_(None))
    if connection.execute(select(func.count()).where(*mine)).scalar_one() >= MOST:
        raise Conflict(f"a tenant has at most {MOST} webhooks; remove one first")
    made = Webhook(new_id(), tenant_id, url, sorted(set(events)), timestamp(now), by)
    secret = new_signing_secret()
    values = {**msgspec.structs.asdict(made), "events": ",".join(made.events)}
    connection.execute(insert(webhooks).values(**values, sealed_secret=seal(key, secret, place_of(made))))
    record(connection, "webhook.add", f"webhook:{made.id}", by=by, now=now, tenant_id=tenant_id)
    return NewWebhook(made, secret)


def remove_webhook(connection: Connection, webhook_id: str, *, by: str, now: datetime, why: str | None = None) -> bool:
    """Tell a webhook nothing any more, and forget its secret; returns whether there was one."""
    there = (_W.id == webhook_id, _W.removed_at.is_(None))
    gone = update(webhooks).where(*there).values(removed_at=timestamp(now), sealed_secret="").returning(_W.tenant_id)
    row = connection.execute(gone).first()
    if row is None:
        return False
    drop_all_for(connection, webhook_id, "the webhook was removed")
    record(connection, "webhook.remove", f"webhook:{webhook_id}", by=by, now=now, tenant_id=row.tenant_id, detail=why)
    return True


def webhook(row: Any) -> Webhook:
    """Return a row as a webhook."""
    return Webhook(row.id, row.tenant_id, row.url, row.events.split(","), row.created_at, row.created_by)


def signing_secret(row: Any, key: SecretKey) -> str:
    """Return the secret of a webhook's row; raises `BadSetting` where it does not open."""
    return unseal(key, row.sealed_secret, place_of(row))


def place_of(of: Any) -> str:
    """Return what a webhook's secret is sealed for."""
    return f"webhook {of.id} of {of.tenant_id}"
