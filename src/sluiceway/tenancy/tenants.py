"""Tenants: whose prospects and purchases there are."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

import msgspec
from sqlalchemy import Connection, insert, select, update

from sluiceway.errors import BadInput
from sluiceway.outcome import timestamp
from sluiceway.prospect import EVERYBODY
from sluiceway.store.bulk import Insert
from sluiceway.store.schema import tenants
from sluiceway.tenancy.audit import record

DEFAULT = "default"
"""The tenant of whatever names none; it is there from the start."""

_LONGEST = 200
_NOT_IN_ADDRESSES = frozenset("/?#%\\")


class Tenant(msgspec.Struct, frozen=True):
    """A tenant; a disabled one's users and keys do not get in, and what it has stays."""

    id: str
    name: str
    created_at: str
    disabled_at: str | None


_ALL = select(*(tenants.c[name] for name in Tenant.__struct_fields__))
_NAMED_IN_FILES = Insert(tenants, ("id", "name", "created_at"))


def add_tenant(connection: Connection, tenant_id: str, name: str = "", *, by: str, now: datetime) -> Tenant:
    """Make a tenant; raises `BadInput` when there is one of that id, or the id cannot be one."""
    _check_id(tenant_id)
    if _found(connection, tenant_id):
        raise BadInput(f"there is a tenant {tenant_id!r} already")
    made = Tenant(tenant_id, name.strip() or tenant_id, timestamp(now), None)
    connection.execute(insert(tenants).values(msgspec.structs.asdict(made)))
    record(connection, "tenant.add", f"tenant:{tenant_id}", by=by, now=now, tenant_id=tenant_id)
    return made


def know_tenants(connection: Connection, ids: Iterable[str], now: str) -> None:
    """Make sure that tenants have a row, as those do that a file names; one statement, which writes nothing new twice.

    `now` is a stamp. Raises `BadInput` for the one name that is not a tenant's.
    """
    ids = sorted(set(ids))
    for tenant_id in ids:
        _refuse_everybody(tenant_id)
    _NAMED_IN_FILES.run(connection, [(tenant_id, tenant_id, now) for tenant_id in ids])


def tenant_of(connection: Connection, tenant_id: str) -> Tenant:
    """Return a tenant; raises `BadInput` where there is none."""
    if (found := _found(connection, tenant_id)) is None:
        raise BadInput(f"there is no tenant {tenant_id!r}; `sluiceway tenant list` shows those there are")
    return found


def is_there(connection: Connection, tenant_id: str) -> bool:
    """Tell whether there is a tenant of that id."""
    return _found(connection, tenant_id) is not None


def all_tenants(connection: Connection) -> list[Tenant]:
    """Return every tenant, by id."""
    return [Tenant(*row) for row in connection.execute(_ALL.order_by(tenants.c.id))]


def disable_tenant(connection: Connection, tenant_id: str, *, by: str, now: datetime) -> Tenant:
    """Keep a tenant's users and keys out, from the next request on."""
    return _set_disabled(connection, tenant_id, timestamp(now), "tenant.disable", by=by, now=now)


def enable_tenant(connection: Connection, tenant_id: str, *, by: str, now: datetime) -> Tenant:
    """Let a tenant's users and keys in again."""
    return _set_disabled(connection, tenant_id, None, "tenant.enable", by=by, now=now)


def _set_disabled(
    connection: Connection, tenant_id: str, at: str | None, action: str, *, by: str, now: datetime
) -> Tenant:
    tenant = tenant_of(connection, tenant_id)
    if bool(tenant.disabled_at) == bool(at):
        return tenant
    connection.execute(update(tenants).where(tenants.c.id == tenant_id).values(disabled_at=at))
    record(connection, action, f"tenant:{tenant_id}", by=by, now=now, tenant_id=tenant_id)
    return msgspec.structs.replace(tenant, disabled_at=at)


def _found(connection: Connection, tenant_id: str) -> Tenant | None:
    row = connection.execute(_ALL.where(tenants.c.id == tenant_id)).first()
    return Tenant(*row) if row else None


def _check_id(tenant_id: str) -> None:
    if not tenant_id or tenant_id != tenant_id.strip() or len(tenant_id) > _LONGEST or not tenant_id.isprintable():
        raise BadInput(f"{tenant_id!r} cannot be a tenant's id: it needs 1 to {_LONGEST} characters that can be read")
    if unfit := sorted(set(tenant_id) & _NOT_IN_ADDRESSES):
        raise BadInput(f"{tenant_id!r} cannot be a tenant's id: {unfit[0]!r} would end it in an address")
    _refuse_everybody(tenant_id)


def _refuse_everybody(tenant_id: str) -> None:
    if tenant_id == EVERYBODY:
        raise BadInput(f"a tenant cannot be called {EVERYBODY!r}, which stands for all of them")
