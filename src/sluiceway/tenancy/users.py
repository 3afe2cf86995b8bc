"""Users: people who may sign in, and what they may do."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import Connection, delete, insert, select, update

from sluiceway.errors import BadInput, Conflict
from sluiceway.identifier import new_id
from sluiceway.outcome import timestamp
from sluiceway.prospect import normal_email
from sluiceway.store.schema import api_keys, sessions, sign_in_links, users
from sluiceway.tenancy.audit import record
from sluiceway.tenancy.roles import Role
from sluiceway.tenancy.tenants import tenant_of


class User(msgspec.Struct, frozen=True):
    """A user, without the password. `tenant_id` is `None` for a super admin, and for nobody else."""

    id: str
    tenant_id: str | None
    email: str
    role: Role
    created_at: str
    last_sign_in_at: str | None
    disabled_at: str | None
    has_password: bool


_U = users.c
_ALL = select(
    _U.id, _U.tenant_id, _U.email, _U.role, _U.created_at, _U.last_sign_in_at, _U.disabled_at, _U.password_hash
)


def add_user(connection: Connection, email: str, role: Role, tenant_id: str | None, *, by: str, now: datetime) -> User:
    """Make a user, who has no password yet; raises `BadInput` when the e-mail is no e-mail or somebody's already."""
    normal = normal_email(email)
    if not normal:
        raise BadInput(f"{email!r} is no e-mail")
    return add_user_as_named(connection, normal, role, tenant_id, by=by, now=now)


def add_user_as_named(
    connection: Connection, email: str, role: Role, tenant_id: str | None, *, by: str, now: datetime
) -> User:
    """Make a user whose name for signing in may be no e-mail, as the very first one's is."""
    _check_tenant(connection, role, tenant_id)
    if _found(connection, email):
        raise BadInput(f"there is a user {email} already")
    made = User(new_id(), tenant_id, email, role, timestamp(now), None, None, has_password=False)
    values = {"id": made.id, "tenant_id": tenant_id, "email": email, "role": role.value, "created_at": made.created_at}
    connection.execute(insert(users).values(**values))
    _record(connection, "user.add", made, by=by, now=now, detail=role.value)
    return made


def user_of(connection: Connection, email: str) -> User:
    """Return a user by e-mail; raises `BadInput` where there is none."""
    if (found := _found(connection, email)) is None:
        raise BadInput(f"there is no user {email!r}; `sluiceway user list` shows those there are")
    return found


def user_by_id(connection: Connection, user_id: str) -> User | None:
    """Return a user by id."""
    row = connection.execute(_ALL.where(_U.id == user_id)).first()
    return user_from(row) if row else None


def all_users(connection: Connection, tenant_id: str | None = None) -> list[User]:
    """Return users by e-mail: all, or one tenant's."""
    query = _ALL if tenant_id is None else _ALL.where(_U.tenant_id == tenant_id)
    return [user_from(row) for row in connection.execute(query.order_by(_U.email))]


def set_role(connection: Connection, user: User, role: Role, tenant_id: str | None, *, by: str, now: datetime) -> User:
    """Make a user something else, in the tenant named. Sessions end; in another tenant, keys are revoked too.

    Raises `Conflict` where nobody would be left to operate the platform.
    """
    _check_tenant(connection, role, tenant_id)
    if role is not Role.SUPER_ADMIN:
        _check_not_the_last(connection, user)
    changed = msgspec.structs.replace(user, role=role, tenant_id=tenant_id)
    connection.execute(update(users).where(_U.id == user.id).values(role=role.value, tenant_id=tenant_id))
    end_sessions(connection, user.id)
    if tenant_id != user.tenant_id:
        revoke_keys(connection, user.id, now)
    _record(connection, "user.set-role", changed, by=by, now=now, detail=f"{user.role} -> {role}")
    return changed


def set_password_hash(connection: Connection, user: User, password_hash: str, *, by: str, now: datetime) -> None:
    """Keep a password that `passwords.hashed` has prepared. Whoever is signed in as the user is so no longer."""
    connection.execute(update(users).where(_U.id == user.id).values(password_hash=password_hash))
    end_sessions(connection, user.id)
    _record(connection, "user.password", user, by=by, now=now)


def disable_user(connection: Connection, user: User, *, by: str, now: datetime) -> User:
    """Keep a user out: sessions and links end, keys do not work while it lasts.

    Raises `Conflict` where nobody would be left to operate the platform.
    """
    if user.disabled_at:
        return user
    _check_not_the_last(connection, user)
    changed = msgspec.structs.replace(user, disabled_at=timestamp(now))
    connection.execute(update(users).where(_U.id == user.id).values(disabled_at=changed.disabled_at))
    end_sessions(connection, user.id)
    _record(connection, "user.disable", user, by=by, now=now)
    return changed


def enable_user(connection: Connection, user: User, *, by: str, now: datetime) -> User:
    """Let a user in again."""
    if not user.disabled_at:
        return user
    connection.execute(update(users).where(_U.id == user.id).values(disabled_at=None))
    _record(connection, "user.enable", user, by=by, now=now)
    return msgspec.structs.replace(user, disabled_at=None)


def end_sessions(connection: Connection, user_id: str) -> None:
    """Sign a user out everywhere, and void the sign-in links."""
    connection.execute(delete(sessions).where(sessions.c.user_id == user_id))
    connection.execute(delete(sign_in_links).where(sign_in_links.c.user_id == user_id))


def revoke_keys(connection: Connection, user_id: str, now: datetime) -> None:
    """Revoke all of a user's API keys."""
    open_ones = (api_keys.c.user_id == user_id, api_keys.c.revoked_at.is_(None))
    connection.execute(update(api_keys).where(*open_ones).values(revoked_at=timestamp(now)))


def _check_tenant(connection: Connection, role: Role, tenant_id: str | None) -> None:
    if role is Role.SUPER_ADMIN and tenant_id is not None:
        raise BadInput("a super_admin operates the platform and belongs to no tenant")
    if role is not Role.SUPER_ADMIN:
        if tenant_id is None:
            raise BadInput(f"every {role} belongs to a tenant: name it")
        tenant_of(connection, tenant_id)


def _check_not_the_last(connection: Connection, user: User) -> None:
    """Refuse to take away the last super admin; of two who do it to each other at once, the second one is refused."""
    admins = select(_U.id).where(_U.role == Role.SUPER_ADMIN.value, _U.disabled_at.is_(None)).with_for_update()
    if connection.execute(admins).scalars().all() == [user.id]:
        raise Conflict(f"{user.email} is the only super_admin who can come in: make another one first")


def _found(connection: Connection, email: str) -> User | None:
    row = connection.execute(_ALL.where(_U.email == email.strip().lower())).first()
    return user_from(row) if row else None


def user_from(row: Any) -> User:
    """Return a row of `users` as what may be shown of it."""
    return User(
        id=row.id,
        tenant_id=row.tenant_id,
        email=row.email,
        role=Role(row.role),
        created_at=row.created_at,
        last_sign_in_at=row.last_sign_in_at,
        disabled_at=row.disabled_at,
        has_password=row.password_hash is not None,
    )


def _record(
    connection: Connection, action: str, user: User, *, by: str, now: datetime, detail: str | None = None
) -> None:
    record(connection, action, f"user:{user.id}", by=by, now=now, tenant_id=user.tenant_id, detail=detail)
