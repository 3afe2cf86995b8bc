"""Turning a delivery into the letter that is sent: to which address, signed with which secret, saying what."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
from sqlalchemy import Connection, select

from sluiceway.errors import NotThere
from sluiceway.hooks.alert_receivers import Form, opened
from sluiceway.hooks.body import Dropped, body_of, in_envelope
from sluiceway.hooks.deliveries import Delivery, To
from sluiceway.hooks.letter import Letter
from sluiceway.hooks.webhooks import signing_secret
from sluiceway.rights.suppression import Suppressions
from sluiceway.store.schema import alerts, tenants, webhooks
from sluiceway.store.secret import SecretKey

_REMOVED = Dropped("the receiver was removed")
_DISABLED = Dropped("the tenant is disabled")


def letter_of(
    connection: Connection, delivery: Delivery, suppressions: Suppressions, key: Callable[[], SecretKey]
) -> Letter | Dropped:
    """Return what is sent for a delivery, or why nothing is; raises `BadSetting` where the secret key is missing."""
    if delivery.receiver == To.WEBHOOK:
        return _to_webhook(connection, delivery, suppressions, key)
    try:
        return letter_to_operators(connection, delivery, key())
    except NotThere:
        return _REMOVED


def _to_webhook(
    connection: Connection, delivery: Delivery, suppressions: Suppressions, key: Callable[[], SecretKey]
) -> Letter | Dropped:
    w, t = webhooks.c, tenants.c
    query = select(webhooks, t.disabled_at).join(tenants, t.id == w.tenant_id)
    row = connection.execute(query.where(w.id == delivery.receiver_id, w.removed_at.is_(None))).first()
    if row is None:
        return _REMOVED
    if row.disabled_at:
        return _DISABLED
    body = body_of(connection, delivery, suppressions)
    if isinstance(body, Dropped):
        return body
    return Letter(row.url, signing_secret(row, key()), delivery.id, delivery.event, body)


def letter_to_operators(connection: Connection, delivery: Delivery, key: SecretKey) -> Letter:
    """Return what a receiver of alerts is sent; raises `NotThere` where it was removed."""
    there = (alerts.c.id == delivery.receiver_id, alerts.c.removed_at.is_(None))
    row = connection.execute(select(alerts).where(*there)).first()
    if row is None:
        raise NotThere(f"there is no receiver {delivery.receiver_id!r} any more")
    url, secret = opened(row, key)
    return Letter(url, secret, delivery.id, delivery.event, _words(row.form, delivery))


def _words(form: str, delivery: Delivery) -> bytes:
    """Say something to operators. Slack and Teams show `text`, Discord `content`; each leaves the other alone."""
    said = delivery.said or ""
    if form == Form.TEXT:
        return msgspec.json.encode({"text": said, "content": said})
    return in_envelope(delivery, _alarm(delivery.target, said))


def _alarm(target: str, said: str) -> dict[str, Any]:
    """Return what a program reads of an alarm, whose target is `kind/subject/window`."""
    kind, _, rest = target.partition("/")
    subject, _, window = rest.rpartition("/")
    return {"text": said, "kind": kind, "subject": subject, "window": window}
