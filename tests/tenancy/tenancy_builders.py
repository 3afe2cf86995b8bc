"""Short ways to make tenants and users, and to change and read a store."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from sluiceway.store.engine import Store
from sluiceway.tenancy.roles import Role
from sluiceway.tenancy.tenants import add_tenant
from sluiceway.tenancy.users import User, add_user

NOW = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)


def after(**passed: float) -> datetime:
    """Some time later."""
    return NOW + timedelta(**passed)


def a_tenant(store: Store, tenant_id: str = "acme") -> str:
    """Make a tenant."""
    with store.writing.begin() as connection:
        return add_tenant(connection, tenant_id, by="system", now=NOW).id


def a_user(
    store: Store, email: str = "ines@acme.example", role: Role = Role.AGENT, tenant: str | None = "acme"
) -> User:
    """Make a user; of `acme`, unless it is a super admin."""
    with store.writing.begin() as connection:
        own = None if role is Role.SUPER_ADMIN else tenant
        return add_user(connection, email, role, own, by="system", now=NOW)


def do(store: Store, write: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
    """Change something in a transaction of its own."""
    with store.writing.begin() as connection:
        return write(connection, *arguments, **named)


def look(store: Store, read: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
    """Read something."""
    with store.read() as connection:
        return read(connection, *arguments, **named)
