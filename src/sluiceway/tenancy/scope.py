"""The tenant-scoped select: what a caller may see of the tables that tenants own.

Rooms that answer callers select from `Scope.of(table)` and never from the table itself; `tests/test_architecture.py`
insists. So a query that forgets whose rows it wants cannot be written, whatever it joins.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import FromClause, Table, select

from sluiceway.errors import NotAllowed
from sluiceway.store.schema import metadata
from sluiceway.tenancy.caller import Principal
from sluiceway.tenancy.roles import Role

OWNED: Final = frozenset(name for name, table in metadata.tables.items() if "tenant_id" in table.c)
"""The names of the tables whose rows belong to tenants."""


class Scope:
    """The rows one may see: a tenant's (`tenant_id`), or everybody's (`None`)."""

    def __init__(self, tenant_id: str | None) -> None:
        self.tenant_id = tenant_id

    def of(self, table: Table) -> FromClause:
        """Return a table's rows within the scope, under the table's name and with its columns (`.c`).

        Rows that belong to no tenant are in nobody's scope but everybody's.
        """
        if table.name not in OWNED:
            raise ValueError(f"{table.name} has no tenant: select from what it belongs to, and join it")
        if self.tenant_id is None:
            return table
        # Both databases fold this into the query around it, so the table's indexes serve as they would without.
        return select(table).where(table.c.tenant_id == self.tenant_id).subquery(table.name)


def scope_of(principal: Principal, tenant_id: str | None = None) -> Scope:
    """Return what a caller may see: a super admin everything, or the one tenant named; others only their own tenant.

    Raises `NotAllowed` when somebody names a tenant that is not theirs, whether or not there is one of that name.
    """
    if principal.role is Role.SUPER_ADMIN:
        return Scope(tenant_id)
    if principal.tenant_id is None or tenant_id not in (None, principal.tenant_id):
        raise NotAllowed("that tenant is not yours")
    return Scope(principal.tenant_id)
