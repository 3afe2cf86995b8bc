"""Sessions: a browser that is signed in. It holds a random token in a cookie; the store holds the token's hash.

A session ends after a time without use, at the latest some days after it began, and when its user signs out, is
disabled, or gets another password or role. Signing in always makes a new one and ends the one the browser had.
"""

from __future__ import annotations

import hmac
from datetime import datetime, timedelta
from typing import Final

import msgspec
from sqlalchemy import ColumnElement, Connection, delete, insert, or_, select

from sluiceway.outcome import timestamp
from sluiceway.store.schema import sessions
from sluiceway.tenancy.secret_text import hash_of, is_same, new_secret

IDLE: Final = timedelta(hours=12)
LONGEST: Final = timedelta(days=7)
_PURPOSE: Final = "slw session"


class Session(msgspec.Struct, frozen=True):
    """A session that holds. `csrf_token` goes into every form; a request that changes something must bring it."""

    id: str
    user_id: str
    csrf_token: str
    expires_at: str

    def accepts(self, csrf_token: str) -> bool:
        """Tell whether a request comes from a page of this session, and not from another site's."""
        return is_same(self.csrf_token, csrf_token)


class NewSession(msgspec.Struct, frozen=True):
    """A session just begun, and the only sight of the token for its cookie."""

    session: Session
    token: str


def begin_session(connection: Connection, user_id: str, now: datetime, *, former: str | None = None) -> NewSession:
    """Begin a session; the one the browser had (`former`, its token) ends, so that nobody can have planted it."""
    if former is not None:
        end_session(connection, former)
    token, csrf_secret = new_secret(), new_secret()
    expires_at = timestamp(now + LONGEST)
    session_id = _id_of(token)
    forget_sessions(connection, now)
    connection.execute(
        insert(sessions).values(
            id=session_id,
            user_id=user_id,
            csrf_secret=csrf_secret,
            created_at=timestamp(now),
            seen_at=timestamp(now),
            expires_at=expires_at,
        )
    )
    return NewSession(Session(session_id, user_id, _csrf_token(session_id, csrf_secret), expires_at), token)


def session_of(connection: Connection, token: str, now: datetime) -> Session | None:
    """Return the session of a browser's token; `None` when there is none or it is over."""
    s = sessions.c
    query = select(s.id, s.user_id, s.csrf_secret, s.expires_at).where(s.id == _id_of(token), ~_is_over(now))
    row = connection.execute(query).first()
    return Session(row.id, row.user_id, _csrf_token(row.id, row.csrf_secret), row.expires_at) if row else None


def end_session(connection: Connection, token: str) -> None:
    """Sign a browser out."""
    connection.execute(delete(sessions).where(sessions.c.id == _id_of(token)))


def forget_sessions(connection: Connection, now: datetime) -> None:
    """Drop the sessions that are over."""
    connection.execute(delete(sessions).where(_is_over(now)))


def _is_over(now: datetime) -> ColumnElement[bool]:
    return or_(sessions.c.expires_at <= timestamp(now), sessions.c.seen_at <= timestamp(now - IDLE))


def _id_of(token: str) -> str:
    return hash_of(token, _PURPOSE)


def _csrf_token(session_id: str, secret: str) -> str:
    return hmac.new(secret.encode(), session_id.encode(), "sha256").hexdigest()
