"""Signing in, with a password or by a link that works once.

With a password in three steps, because checking one takes long on purpose and must not hold a transaction: `claim`
(writes: counts the try), `Claim.is_proven_by` (no store), `let_in` (writes: the session).
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

import msgspec
from sqlalchemy import Connection, insert, select, update

from sluiceway.outcome import timestamp
from sluiceway.store.schema import sign_in_links, tenants, users
from sluiceway.tenancy.audit import record
from sluiceway.tenancy.passwords import hashed, is_outdated, is_password
from sluiceway.tenancy.roles import Role
from sluiceway.tenancy.secret_text import hash_of, new_secret
from sluiceway.tenancy.sessions import NewSession, begin_session
from sluiceway.tenancy.throttle import Kind, forgive_account, give_back_try, shared_address, take_try
from sluiceway.tenancy.users import User, add_user_as_named, set_password_hash, user_by_id

LINK_HOLDS: Final = timedelta(hours=1)
FIRST_LINK_HOLDS: Final = timedelta(days=1)
FIRST_ADMIN: Final = "admin@localhost"
"""By what name the very first super admin signs in, before there is anybody else."""

_PURPOSE: Final = "slw link"


class Wait(msgspec.Struct, frozen=True):
    """Too many tries have failed; the next one is heard in so many seconds."""

    seconds: float


class Claim(msgspec.Struct, frozen=True):
    """Somebody says to be a user. `user_id` is `None` where there is no such user, which the time taken hides."""

    email: str
    address: str
    user_id: str | None
    password_hash: str | None

    def is_proven_by(self, password: str) -> bool:
        """Tell whether the password is the user's. Takes some fifty milliseconds of a processor, whoever it is."""
        return is_password(password, self.password_hash) and self.user_id is not None


def claim(connection: Connection, email: str, address: str, now: datetime) -> Claim | Wait:
    """Hear somebody who wants to sign in from an address, and count the try; or say how long to wait.

    Commit it before the password is looked at, or tries that fail are not counted.
    """
    email, address = email.strip().lower(), shared_address(address)
    if (wait_s := take_try(connection, Kind.ADDRESS, address, now)) or (
        wait_s := take_try(connection, Kind.ACCOUNT, email, now)
    ):
        return Wait(wait_s)
    u = users.c
    query = select(u.id, u.password_hash).outerjoin(tenants, tenants.c.id == u.tenant_id)
    found = connection.execute(query.where(u.email == email, *_MAY_COME_IN)).first()
    return Claim(email, address, found.id, found.password_hash) if found else Claim(email, address, None, None)


_MAY_COME_IN = (users.c.disabled_at.is_(None), tenants.c.disabled_at.is_(None))


def let_in(
    connection: Connection, proven: Claim, now: datetime, *, former: str | None = None, renewed: str | None = None
) -> NewSession | None:
    """Begin the session of a claim that is proven; `former` is the token the browser came with.

    `renewed` is kept of the password from now on, where `renewed_hash` has returned something.

    Returns `None` when the user was disabled, or got another password, since the claim.
    """
    query = select(users.c.password_hash).outerjoin(tenants, tenants.c.id == users.c.tenant_id)
    held = connection.execute(query.where(users.c.id == proven.user_id, *_MAY_COME_IN)).scalar()
    if proven.user_id is None or held is None or held != proven.password_hash:
        return None
    forgive(connection, proven)
    if renewed is not None:
        connection.execute(update(users).where(users.c.id == proven.user_id).values(password_hash=renewed))
    return _begin(connection, proven.user_id, now, former, "password")


def forgive(connection: Connection, proven: Claim) -> None:
    """Take back the try of a claim that turned out to be true, and forget the account's failures."""
    forgive_account(connection, proven.email)
    give_back_try(connection, proven.address)


def renewed_hash(proven: Claim, password: str) -> str | None:
    """Return what to keep of a password that was hashed with weaker parameters than today's; else `None`."""
    if proven.password_hash is None or not is_outdated(proven.password_hash):
        return None
    return hashed(password, proven.email)


def make_link(connection: Connection, user: User, *, by: str, now: datetime, holds: timedelta = LINK_HOLDS) -> str:
    """Return the token of a link that signs a user in once, within an hour; earlier links of the user are void."""
    token = new_secret()
    links = sign_in_links
    connection.execute(links.delete().where(links.c.user_id == user.id))
    values = {"user_id": user.id, "created_at": timestamp(now), "expires_at": timestamp(now + holds)}
    connection.execute(insert(links).values(hash=hash_of(token, _PURPOSE), **values))
    record(connection, "user.sign-in-link", f"user:{user.id}", by=by, now=now, tenant_id=user.tenant_id)
    return token


def let_in_by_link(
    connection: Connection, token: str, now: datetime, *, former: str | None = None
) -> NewSession | None:
    """Begin the session a link stands for; `None` when it was used, is too old or void, or its user is disabled.

    Only ask when a person has pressed a button: mail scanners and chat previews follow links too, and use them up.
    """
    link = sign_in_links.c
    fresh = (link.hash == hash_of(token, _PURPOSE), link.used_at.is_(None), link.expires_at > timestamp(now))
    used = update(sign_in_links).where(*fresh).values(used_at=timestamp(now)).returning(link.user_id)
    user_id = connection.execute(used).scalar()
    query = select(users.c.id).outerjoin(tenants, tenants.c.id == users.c.tenant_id)
    if user_id is None or not connection.execute(query.where(users.c.id == user_id, *_MAY_COME_IN)).first():
        return None
    return _begin(connection, user_id, now, former, "link")


def came_by_link(connection: Connection, token: str, user_id: str, now: datetime) -> bool:
    """Tell whether a user has come in by a link within the hour: who forgot a password may choose another then."""
    link = sign_in_links.c
    lately = (link.user_id == user_id, link.used_at > timestamp(now - LINK_HOLDS))
    return (
        connection.execute(select(link.hash).where(link.hash == hash_of(token, _PURPOSE), *lately)).first() is not None
    )


def change_password(connection: Connection, user: User, password_hash: str, now: datetime) -> NewSession:
    """Keep the password a signed-in user chose, and return the one session that goes on; all others end."""
    set_password_hash(connection, user, password_hash, by=f"user:{user.id}", now=now)
    return begin_session(connection, user.id, now)


class FirstLink(msgspec.Struct, frozen=True):
    """The way in for the first super admin: the name to sign in with later, and the link's token."""

    email: str
    token: str


def first_link(connection: Connection, now: datetime) -> FirstLink | None:
    """Return a link for the first super admin, whom it makes; `None` once a super admin has signed in or can.

    There is no default password. A link that nobody used in a day is replaced the next time this is asked.
    """
    u = users.c
    admins = [u.role == Role.SUPER_ADMIN.value, u.disabled_at.is_(None)]
    got_in = (u.password_hash.is_not(None)) | (u.last_sign_in_at.is_not(None))
    if connection.execute(select(u.id).where(*admins, got_in).limit(1)).first():
        return None
    waiting = connection.execute(select(u.id).where(*admins).order_by(u.id).limit(1)).scalar()
    user = user_by_id(connection, waiting) if waiting else None
    if user is None:
        user = add_user_as_named(connection, FIRST_ADMIN, Role.SUPER_ADMIN, None, by="system", now=now)
    return FirstLink(user.email, make_link(connection, user, by="system", now=now, holds=FIRST_LINK_HOLDS))


def link_url(public_url: str, token: str) -> str:
    """Return a link as a person can open it."""
    return f"{public_url.rstrip('/')}/sign-in/{token}"


def _begin(connection: Connection, user_id: str, now: datetime, former: str | None, how: str) -> NewSession:
    connection.execute(update(users).where(users.c.id == user_id).values(last_sign_in_at=timestamp(now)))
    tenant_id = connection.execute(select(users.c.tenant_id).where(users.c.id == user_id)).scalar()
    target = f"user:{user_id}"
    record(connection, "user.sign-in", target, by=target, now=now, tenant_id=tenant_id, detail=how)
    return begin_session(connection, user_id, now, former=former)
