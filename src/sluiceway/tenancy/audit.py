"""Who did what to whom, and when. Written in the transaction that did it, and never changed.

Entries name users by id and not by e-mail, so that a user can be forgotten without changing what happened.
"""

from __future__ import annotations

from datetime import datetime

import msgspec
from sqlalchemy import Connection, insert, select

from sluiceway.identifier import new_id
from sluiceway.outcome import timestamp
from sluiceway.store.schema import audit


class Entry(msgspec.Struct, frozen=True):
    """One act. `actor` is `user:<id>`, `cli:<name at the machine>` or `system`; `target` likewise `<what>:<id>`.

    Ids sort by time.
    """

    at: str
    actor: str
    action: str
    tenant_id: str | None
    target: str
    detail: str | None
    id: str


def record(
    connection: Connection,
    action: str,
    target: str,
    *,
    by: str,
    now: datetime,
    tenant_id: str | None = None,
    detail: str | None = None,
) -> None:
    """Write down what is being done in this transaction. Never give it a secret, or a person's name or e-mail."""
    values = {"id": new_id(), "at": timestamp(now), "actor": by, "action": action, "tenant_id": tenant_id}
    connection.execute(insert(audit).values(**values, target=target, detail=detail))


def entries(
    connection: Connection, *, tenant_id: str | None = None, before: str | None = None, limit: int = 100
) -> list[Entry]:
    """Return the latest entries, newest first: all, or one tenant's; only those before an entry (its id), if given."""
    query = select(*(audit.c[name] for name in Entry.__struct_fields__))
    if tenant_id is not None:
        query = query.where(audit.c.tenant_id == tenant_id)
    if before is not None:
        query = query.where(audit.c.id < before)
    return [Entry(*row) for row in connection.execute(query.order_by(audit.c.id.desc()).limit(limit))]
