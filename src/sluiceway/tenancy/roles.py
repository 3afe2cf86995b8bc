"""What each role may do: the one table of permissions there is."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final


class Role(StrEnum):
    """What a user is. A super admin operates the platform; the others work within one tenant."""

    SUPER_ADMIN = "super_admin"
    TENANT_ADMIN = "tenant_admin"
    AGENT = "agent"
    ASSISTANT = "assistant"


class Permission(StrEnum):
    """What there is to be allowed, within what the caller's tenant owns unless it says otherwise."""

    READ_PROSPECTS = "read_prospects"
    """Prospects, their fields and statuses, batches and their progress."""
    READ_USAGE = "read_usage"
    """The tenant's own usage and limits."""
    WRITE_PROSPECTS = "write_prospects"
    """Create, change, upload and import prospects."""
    SEARCH = "search"
    """Ask a provider for people; each search is a call."""
    ENRICH = "enrich"
    """Start, pause, resume and cancel batches: this spends."""
    EXPORT = "export"
    """Take people out as a file."""
    BOOK_USAGE = "book_usage"
    """Report calls that other code made."""
    OWN_KEYS = "own_keys"
    """Make and revoke API keys of one's own."""
    DELETE_PROSPECTS = "delete_prospects"
    """Erase people, and read the report of what is held about one."""
    MANAGE_SUPPRESSIONS = "manage_suppressions"
    MANAGE_WEBHOOKS = "manage_webhooks"
    READ_ACTIVITY = "read_activity"
    """What each user of the tenant did."""
    MANAGE_USERS = "manage_users"
    """The tenant's users, and their API keys."""
    MANAGE_CREDENTIALS = "manage_credentials"
    """The tenant's own keys for providers."""
    READ_AUDIT = "read_audit"
    MANAGE_TENANTS = "manage_tenants"
    """Of the platform: make and disable tenants, and other super admins."""
    OPERATE = "operate"
    """Of the platform: the admin answers, limits, pauses, suppressions and alerts that hold for everybody."""


_OPERATORS: Final = frozenset({Role.SUPER_ADMIN})
_ADMINS: Final = _OPERATORS | {Role.TENANT_ADMIN}
_WORKERS: Final = _ADMINS | {Role.AGENT}
_EVERYBODY: Final = _WORKERS | {Role.ASSISTANT}

ALLOWED: Final[Mapping[Permission, frozenset[Role]]] = {
    Permission.READ_PROSPECTS: _EVERYBODY,
    Permission.READ_USAGE: _EVERYBODY,
    Permission.WRITE_PROSPECTS: _WORKERS,
    Permission.SEARCH: _WORKERS,
    Permission.ENRICH: _WORKERS,
    Permission.EXPORT: _WORKERS,
    Permission.BOOK_USAGE: _WORKERS,
    Permission.OWN_KEYS: _WORKERS,
    Permission.DELETE_PROSPECTS: _ADMINS,
    Permission.MANAGE_SUPPRESSIONS: _ADMINS,
    Permission.MANAGE_WEBHOOKS: _ADMINS,
    Permission.READ_ACTIVITY: _ADMINS,
    Permission.MANAGE_USERS: _ADMINS,
    Permission.MANAGE_CREDENTIALS: _ADMINS,
    Permission.READ_AUDIT: _ADMINS,
    Permission.MANAGE_TENANTS: _OPERATORS,
    Permission.OPERATE: _OPERATORS,
}


def allows(role: Role, permission: Permission) -> bool:
    """Tell whether a role may do something."""
    return role in ALLOWED[permission]
