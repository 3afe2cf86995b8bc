"""API keys: `slw_live_…` and `slw_test_…`, by which a program acts for a user. A test key reaches only the sandbox.

A key is 256 random bits and a checksum, so a mistyped one is told without asking the store. It is shown once; a hash
is kept (`secret_text` says why a fast one is enough), and the first letters, by which a person knows it again.
"""

from __future__ import annotations

import re
from datetime import datetime
from enum import StrEnum
from typing import Any, Final
from zlib import crc32

import msgspec
from sqlalchemy import Connection, insert, select, update

from sluiceway.errors import BadInput
from sluiceway.identifier import new_id
from sluiceway.outcome import timestamp
from sluiceway.store.schema import api_keys
from sluiceway.tenancy.audit import record
from sluiceway.tenancy.secret_text import LENGTH, base62, hash_of, new_secret
from sluiceway.tenancy.users import User

_CHECKED: Final = 6
_SHOWN: Final = 8
_PURPOSE: Final = "slw api key"
_KEY: Final = re.compile(rf"(slw_(live|test)_[0-9A-Za-z]{{{LENGTH}}})([0-9A-Za-z]{{{_CHECKED}}})")
_PREFIX_LENGTH: Final = len("slw_live_") + _SHOWN


class KeyKind(StrEnum):
    """Whether a key reaches the real providers or only the sandbox."""

    LIVE = "live"
    TEST = "test"


class ApiKey(msgspec.Struct, frozen=True):
    """What is known of a key; the key itself is not."""

    id: str
    user_id: str
    tenant_id: str | None
    name: str
    prefix: str
    kind: KeyKind
    created_at: str
    last_used_at: str | None
    revoked_at: str | None


class IssuedKey(msgspec.Struct, frozen=True):
    """A new key, and the only sight of its text."""

    key: ApiKey
    text: str


_K = api_keys.c
_ALL = select(*(_K[name] for name in ApiKey.__struct_fields__))


def issue_key(
    connection: Connection, user: User, kind: KeyKind, name: str = "", *, by: str, now: datetime
) -> IssuedKey:
    """Make a key for a user; `name` says what it is for."""
    text = new_key_text(kind)
    key = ApiKey(new_id(), user.id, user.tenant_id, name, prefix_of(text), kind, timestamp(now), None, None)
    connection.execute(insert(api_keys).values(**msgspec.to_builtins(key), hash=key_hash(text)))
    record(connection, "key.add", f"key:{key.id}", by=by, now=now, tenant_id=key.tenant_id, detail=key.prefix)
    return IssuedKey(key, text)


def revoke_key(connection: Connection, named: str, *, by: str, now: datetime) -> ApiKey:
    """Revoke a key, named by its id or its visible prefix, from the next request on.

    Raises `BadInput` when there is none, or several begin so.
    """
    query = _ALL.where((_K.id == named) | (_K.prefix == named))
    found = [_key(row) for row in connection.execute(query)]
    if len(found) != 1:
        problem = "several keys are" if found else "no key is"
        raise BadInput(f"{problem} named {named!r}; `sluiceway key list` shows ids and prefixes")
    (key,) = found
    if key.revoked_at:
        return key
    connection.execute(update(api_keys).where(_K.id == key.id).values(revoked_at=timestamp(now)))
    record(connection, "key.revoke", f"key:{key.id}", by=by, now=now, tenant_id=key.tenant_id, detail=key.prefix)
    return msgspec.structs.replace(key, revoked_at=timestamp(now))


def all_keys(connection: Connection, *, tenant_id: str | None = None, user_id: str | None = None) -> list[ApiKey]:
    """Return keys, oldest first: all, one tenant's, or one user's. Revoked ones are among them."""
    query = _ALL.order_by(_K.id)
    if tenant_id is not None:
        query = query.where(_K.tenant_id == tenant_id)
    if user_id is not None:
        query = query.where(_K.user_id == user_id)
    return [_key(row) for row in connection.execute(query)]


def new_key_text(kind: KeyKind) -> str:
    """Return a new key of a kind, as it is shown once."""
    body = f"slw_{kind}_{new_secret()}"
    return body + _checksum(body)


def is_well_formed(text: str) -> bool:
    """Tell whether a text can be a key at all: a mistyped or cut one fails here, before the store is asked."""
    found = _KEY.fullmatch(text)
    return found is not None and found[3] == _checksum(found[1])


def prefix_of(text: str) -> str:
    """Return the part of a key that may be shown."""
    return text[:_PREFIX_LENGTH]


def key_hash(text: str) -> str:
    """Return what is kept of a key."""
    return hash_of(text, _PURPOSE)


def _checksum(body: str) -> str:
    return base62(crc32(body.encode()), _CHECKED)


def _key(row: Any) -> ApiKey:
    return msgspec.convert(row._mapping, ApiKey)  # noqa: SLF001 - SQLAlchemy's public name for a row as a mapping
