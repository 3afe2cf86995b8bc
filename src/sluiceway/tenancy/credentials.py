"""Tenants' own keys for providers ("bring your own key"), sealed in the store.

A provider is asked for a tenant's prospects with the tenant's own key, where it has one, and that key's calls are its
own: its pace, its breaker, its meters, and no part of what the platform spends.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from hashlib import blake2b
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, insert, select, update

from sluiceway.errors import BadInput
from sluiceway.identifier import new_id
from sluiceway.outcome import timestamp
from sluiceway.store.facts import raise_version, version
from sluiceway.store.schema import provider_credentials
from sluiceway.store.secret import SecretKey
from sluiceway.tenancy.audit import record
from sluiceway.tenancy.seal import seal, unseal
from sluiceway.tenancy.tenants import tenant_of

_LONGEST: Final = 1000
_VERSION: Final = "credentials"


class Credential(msgspec.Struct, frozen=True):
    """What may be shown of a tenant's key for a provider. Two keys of the same digest are the same key."""

    id: str
    tenant_id: str
    provider: str
    digest: str
    created_at: str
    created_by: str
    revoked_at: str | None


class OpenCredential(msgspec.Struct, frozen=True):
    """A tenant's key for a provider, as it is sent."""

    id: str
    tenant_id: str
    provider: str
    value: str


_C = provider_credentials.c
_ALL = select(*(_C[name] for name in Credential.__struct_fields__))


def set_credential(
    connection: Connection,
    tenant_id: str,
    provider: str,
    value: str,
    key: SecretKey,
    *,
    by: str,
    now: datetime,
) -> Credential:
    """Keep a tenant's key for a provider instead of the one before, from the next call on.

    The same key again stays the same credential, and is sealed anew. Raises `BadInput` for what cannot be a key.
    """
    tenant_of(connection, tenant_id)
    _check(value)
    digest, held = credential_digest(value), _held(connection, tenant_id, provider)
    if held is not None and held.digest == digest:
        sealed = seal(key, value, _place(held))
        connection.execute(update(provider_credentials).where(_C.id == held.id).values(sealed=sealed))
        _note(connection, "credential.set", held, "the same key again", by=by, now=now)
        return held
    if held is not None:
        _revoke(connection, held, now)
    made = Credential(new_id(), tenant_id, provider, digest, timestamp(now), by, None)
    values = {**msgspec.structs.asdict(made), "sealed": seal(key, value, _place(made))}
    connection.execute(insert(provider_credentials).values(values))
    _note(connection, "credential.set", made, provider, by=by, now=now)
    return made


def unset_credential(connection: Connection, tenant_id: str, provider: str, *, by: str, now: datetime) -> Credential:
    """Take a tenant's key away; the platform's is used for it from the next call on. Raises `BadInput` without one."""
    held = _held(connection, tenant_id, provider)
    if held is None:
        raise BadInput(f"tenant {tenant_id!r} has no key of its own for {provider}")
    _revoke(connection, held, now)
    _note(connection, "credential.unset", held, provider, by=by, now=now)
    return msgspec.structs.replace(held, revoked_at=timestamp(now))


def all_credentials(
    connection: Connection, tenant_id: str | None = None, *, with_revoked: bool = False
) -> list[Credential]:
    """Return what may be shown of tenants' keys, by tenant and provider: all, or one tenant's."""
    query = _ALL if with_revoked else _ALL.where(_C.revoked_at.is_(None))
    if tenant_id is not None:
        query = query.where(_C.tenant_id == tenant_id)
    return [Credential(*row) for row in connection.execute(query.order_by(_C.tenant_id, _C.provider, _C.id))]


def opened_credentials(connection: Connection, key: Callable[[], SecretKey]) -> list[OpenCredential]:
    """Return all tenants' keys as they are sent. `key` is only asked where there are any.

    Raises `BadSetting` where the secret key is missing, or not the one they were sealed with.
    """
    rows = connection.execute(_ALL.add_columns(_C.sealed).where(_C.revoked_at.is_(None)).order_by(_C.id)).all()
    if not rows:
        return []
    secret = key()
    return [
        OpenCredential(row.id, row.tenant_id, row.provider, unseal(secret, row.sealed, _place(row))) for row in rows
    ]


def credentials_version(connection: Connection) -> int:
    """Return how often tenants' keys have been changed."""
    return version(connection, _VERSION)


def credential_digest(value: str) -> str:
    """Tell credentials apart without keeping any: a mended key is a new one, and starts with a closed breaker."""
    return blake2b(value.encode(), digest_size=8, person=b"sluiceway").hexdigest()


def _held(connection: Connection, tenant_id: str, provider: str) -> Credential | None:
    mine = (_C.tenant_id == tenant_id, _C.provider == provider, _C.revoked_at.is_(None))
    row = connection.execute(_ALL.where(*mine)).first()
    return Credential(*row) if row else None


def _revoke(connection: Connection, held: Credential, now: datetime) -> None:
    """Revoke a key and forget what was sealed: what is not needed any more need not be kept."""
    gone = {"revoked_at": timestamp(now), "sealed": ""}
    connection.execute(update(provider_credentials).where(_C.id == held.id).values(gone))


def _note(connection: Connection, action: str, held: Credential, detail: str, *, by: str, now: datetime) -> None:
    raise_version(connection, _VERSION)
    target = f"credential:{held.id}"
    record(connection, action, target, by=by, now=now, tenant_id=held.tenant_id, detail=detail)


def _place(of: Any) -> str:
    return f"credential {of.id} of {of.tenant_id} for {of.provider}"


def _check(value: str) -> None:
    if not value or not value.isascii() or not value.isprintable() or " " in value or len(value) > _LONGEST:
        raise BadInput("that cannot be a provider's key: it is empty, too long, or has spaces or other odd characters")
