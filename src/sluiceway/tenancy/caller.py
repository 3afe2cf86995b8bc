"""Who is asking: the one value that everything a request may do is decided from."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, or_, select, update

from sluiceway.errors import NotAllowed
from sluiceway.outcome import timestamp
from sluiceway.store.schema import api_keys, sessions, tenants, users
from sluiceway.tenancy.keys import KeyKind, is_well_formed, key_hash, prefix_of
from sluiceway.tenancy.roles import Permission, Role, allows
from sluiceway.tenancy.secret_text import is_same
from sluiceway.tenancy.sessions import Session, session_of

USE_NOTED_EVERY: Final = timedelta(minutes=1)


class Principal(msgspec.Struct, frozen=True):
    """Somebody who has shown who they are, by a key or by a session.

    `tenant_id` is `None` for a super admin. `sandbox_only`: came with a test key, so no real provider may be asked.
    """

    user_id: str
    tenant_id: str | None
    role: Role
    key_id: str | None = None
    sandbox_only: bool = False
    session: Session | None = None

    @property
    def actor(self) -> str:
        """Who it is, for the audit."""
        return f"user:{self.user_id}"

    def may(self, permission: Permission) -> bool:
        """Tell whether the role allows something; whose things it is about is the scope's to say."""
        return allows(self.role, permission)

    def must(self, permission: Permission) -> None:
        """Go on only if the role allows something; raises `NotAllowed`."""
        if not self.may(permission):
            raise NotAllowed(f"the role {self.role} may not {permission.replace('_', ' ')}")


_HOLDS = (users.c.disabled_at.is_(None), tenants.c.disabled_at.is_(None))


def authenticate_key(connection: Connection, text: str) -> Principal | None:
    """Return who an API key acts for; `None` when it is no key, is revoked, or its user or tenant is disabled."""
    if not is_well_formed(text):
        return None
    k, u, hashed = api_keys.c, users.c, key_hash(text)
    query = select(k.id, k.hash, k.kind, u.id.label("user_id"), u.tenant_id, u.role).join(users, u.id == k.user_id)
    query = query.outerjoin(tenants, tenants.c.id == u.tenant_id)
    query = query.where(k.prefix == prefix_of(text), k.revoked_at.is_(None), *_HOLDS)
    for row in connection.execute(query.where(k.tenant_id.is_not_distinct_from(u.tenant_id))):
        if is_same(row.hash, hashed):
            return Principal(row.user_id, row.tenant_id, Role(row.role), row.id, row.kind == KeyKind.TEST)
    return None


def authenticate_session(connection: Connection, token: str, now: datetime) -> Principal | None:
    """Return whose browser holds a session's token; `None` when the session is over, or its user or tenant disabled."""
    session = session_of(connection, token, now)
    if session is None:
        return None
    u = users.c
    query = select(u.tenant_id, u.role).outerjoin(tenants, tenants.c.id == u.tenant_id)
    row = connection.execute(query.where(u.id == session.user_id, *_HOLDS)).first()
    return Principal(session.user_id, row.tenant_id, Role(row.role), session=session) if row else None


Post = Callable[[Callable[[Connection], Any]], object]
"""Takes work for the store's writer and does not wait for it."""


class Uses:
    """Notes when keys and sessions were last used: at most once a minute each, and nobody waits for it."""

    def __init__(self, post: Post, now: Callable[[], datetime]) -> None:
        self._post = post
        self._now = now
        self._noted: dict[str, datetime] = {}

    def note(self, principal: Principal) -> None:
        """Note that somebody has just asked for something."""
        used = principal.key_id or (principal.session.id if principal.session else None)
        now = self._now()
        if used is None or now - self._noted.get(used, _NEVER) < USE_NOTED_EVERY:
            return
        self._forget_old(now)
        self._noted[used] = now
        write = note_key_use if principal.key_id else note_session_use
        self._post(partial(write, used=used, now=now))

    def _forget_old(self, now: datetime) -> None:
        if len(self._noted) >= _REMEMBERED:
            self._noted = {used: at for used, at in self._noted.items() if now - at < USE_NOTED_EVERY}


_NEVER: Final = datetime.fromisoformat("1970-01-01T00:00:00+00:00")
_REMEMBERED: Final = 10_000


def note_key_use(connection: Connection, used: str, now: datetime) -> None:
    """Write when a key was used, unless another process has within the minute."""
    k = api_keys.c
    long_ago = or_(k.last_used_at.is_(None), k.last_used_at <= timestamp(now - USE_NOTED_EVERY))
    connection.execute(update(api_keys).where(k.id == used, long_ago).values(last_used_at=timestamp(now)))


def note_session_use(connection: Connection, used: str, now: datetime) -> None:
    """Write when a session was used, which puts off its end for want of use."""
    s = sessions.c
    long_ago = s.seen_at <= timestamp(now - USE_NOTED_EVERY)
    connection.execute(update(sessions).where(s.id == used, long_ago).values(seen_at=timestamp(now)))
