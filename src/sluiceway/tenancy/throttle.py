"""Makes guessing slow: after some failures, each next try at an account or from an address has to wait twice as long.

Kept in the store, so that a restart forgives nothing. Names are kept as hashes: people type passwords into the wrong
field. A try is counted before it is known how it ends, so that many at once do not slip through together.
"""

from __future__ import annotations

import ipaddress
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

import msgspec
from sqlalchemy import Connection, delete, select, update

from sluiceway.outcome import parse_timestamp, timestamp
from sluiceway.store.bulk import Insert
from sluiceway.store.schema import login_attempts
from sluiceway.tenancy.secret_text import hash_of

FORGOTTEN_AFTER: Final = timedelta(days=1)
_PURPOSE: Final = "slw sign-in"


class Kind(StrEnum):
    """By what tries are counted."""

    ACCOUNT = "account"
    ADDRESS = "address"


class Patience(msgspec.Struct, frozen=True):
    """How many failures are free, and how long a wait can get, in seconds."""

    free: int
    longest_s: int

    def wait_s(self, failures: int) -> int:
        """Return the seconds to wait after so many failures: 0, then 1, 2, 4, …"""
        over = failures - self.free
        return min(self.longest_s, 1 << min(over, 30)) if over >= 0 else 0


PATIENCE: Final = {Kind.ACCOUNT: Patience(5, 900), Kind.ADDRESS: Patience(20, 3600)}
"""An account's wait is short enough that nobody can lock its owner out for long; many people may share an address."""

_NEW = Insert(login_attempts, ("kind", "name", "failures", "last_at"))
_L = login_attempts.c


def take_try(connection: Connection, kind: Kind, name: str, now: datetime) -> float:
    """Count a try, and return 0; or, where one has to wait, count nothing and return for how many seconds."""
    key = hash_of(name, _PURPOSE)
    forget_tries(connection, now)
    _NEW.run(connection, [(kind.value, key, 0, timestamp(now))])
    mine = (_L.kind == kind.value, _L.name == key)
    query = select(_L.failures, _L.blocked_until).where(*mine).with_for_update()
    failures, blocked_until = connection.execute(query).one()
    until = parse_timestamp(blocked_until) if blocked_until else None
    if until is not None and until > now:
        return (until - now).total_seconds()
    wait_s = PATIENCE[kind].wait_s(failures + 1)
    blocked = timestamp(now + timedelta(seconds=wait_s)) if wait_s else None
    values = {"failures": failures + 1, "last_at": timestamp(now), "blocked_until": blocked}
    connection.execute(update(login_attempts).where(*mine).values(values))
    return 0.0


def forget_tries(connection: Connection, now: datetime) -> None:
    """Forget what was tried so long ago that it no longer counts."""
    connection.execute(delete(login_attempts).where(_L.last_at < timestamp(now - FORGOTTEN_AFTER)))


def forgive_account(connection: Connection, name: str) -> None:
    """Forget an account's failures: its owner has signed in."""
    mine = (_L.kind == Kind.ACCOUNT.value, _L.name == hash_of(name, _PURPOSE))
    connection.execute(delete(login_attempts).where(*mine))


def give_back_try(connection: Connection, name: str) -> None:
    """Take back an address's last try, which was none at guessing; what was tried before it still counts."""
    mine = (_L.kind == Kind.ADDRESS.value, _L.name == hash_of(name, _PURPOSE), _L.failures > 0)
    connection.execute(update(login_attempts).where(*mine).values(failures=_L.failures - 1, blocked_until=None))


def shared_address(address: str) -> str:
    """Return what tries from an address are counted under: of IPv6 the network that one household has, a /64."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if parsed.version == 4:
        return str(parsed)
    mapped = parsed.ipv4_mapped
    return str(mapped) if mapped else str(ipaddress.ip_network((parsed, 64), strict=False))
