"""Taking over counters that another program wrote in Redis: their counts are booked once, as imported.

For each key, in this order: *take* (one script notes the value in the version key, so that from then on the key is
ours to write and the value cannot get lost), *book* (external usage under an id made of the store's and the key's
name, so that it counts once however often this is repeated), *release* (the version key says that the value was
written from this store, and the publisher writes the sum). Killed anywhere between, the next adoption goes on with
the value that was taken.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec
from sqlalchemy import Connection, select

from sluiceway.crash import crash_point
from sluiceway.outcome import timestamp
from sluiceway.store.engine import Store
from sluiceway.store.facts import Identity
from sluiceway.store.schema import external_usage
from sluiceway.usage.counter import read_usage_key
from sluiceway.usage.ledger import External, apply
from sluiceway.usage.on_redis import beside, expires_at, first_live_day, live_totals

if TYPE_CHECKING:
    from redis import Redis

_LARGEST = 2**63 - 1
_AT_ONCE = 500

# KEYS: calls, version. ARGV: store, kind, expiry. Returns the value to book, or nothing if the key is this store's.
_TAKE = """
local held = redis.call('MGET', KEYS[1], KEYS[2])
if held[2] then
  local store, kind, version, calls = string.match(held[2], '^(%S+) (%S+) (%S+) (%S+)$')
  if store == ARGV[1] then return version == 'adopting' and calls end
end
if not held[1] or not (held[1] == '0' or string.match(held[1], '^[1-9]%d*$')) then return false end
redis.call('SET', KEYS[2], ARGV[1] .. ' ' .. ARGV[2] .. ' adopting ' .. held[1], 'EXAT', ARGV[3])
return held[1]
"""

# KEYS: version. ARGV: what it holds while it is adopted, what it holds then, expiry.
_RELEASE = """
if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('SET', KEYS[1], ARGV[2], 'EXAT', ARGV[3]) end
"""


class Foreign(msgspec.Struct, frozen=True):
    """A counter in Redis that this store did not write.

    `calls` is its value; `counted` is what this store has counted under that name; `booked` is what an earlier
    adoption of the same key has booked, and then nothing more is.
    """

    key: str
    provider: str
    day: str
    calls: int
    counted: int
    booked: int | None

    @property
    def books(self) -> int:
        """Calls that adopting it adds."""
        return self.calls if self.booked is None else 0


class Found(msgspec.Struct, frozen=True):
    """What there is to adopt, and the keys that look like counters and cannot be: too old, or not a count."""

    foreign: list[Foreign]
    left_alone: list[str]


def adoption_id(identity: Identity, key: str) -> str:
    """Return the id under which a key's count is booked into a store."""
    return f"adopt:{identity.id}:{key}"


def find_foreign(store: Store, identity: Identity, client: Redis, prefix: str) -> Found:
    """Look through Redis for counters that this store did not write; changes nothing."""
    names = [name for name in _scan(client, prefix) if read_usage_key(name.removeprefix(prefix))]
    totals = {prefix + total.name: total.calls for total in live_totals(store)}
    oldest = first_live_day(store.clock.now())
    foreign, left_alone = [], []
    with store.read() as connection:
        for name, value, version in _held(client, names):
            calls = _taken(version, identity) or value
            provider, day = read_usage_key(name.removeprefix(prefix)) or ("", "")
            if _is_this_stores(version, identity):
                continue
            if day < oldest or not _is_a_count(calls):
                left_alone.append(name)
                continue
            booked = _booked(connection, adoption_id(identity, name))
            foreign.append(Foreign(name, provider, day, int(calls or 0), totals.get(name, 0), booked))
    return Found(foreign, left_alone)


def adopt(store: Store, identity: Identity, client: Redis, foreign: Sequence[Foreign]) -> list[Foreign]:
    """Take keys over and book their counts, once; returns them with the values that were taken.

    A key that has become this store's in the meantime is left out. What was adopted still has to be published.
    """
    taken = []
    for key in foreign:
        value = client.eval(_TAKE, 2, key.key, beside(key.key, "version"), *_owner(identity), expires_at(key.day))
        if value is not None:
            taken.append(msgspec.structs.replace(key, calls=int(value)))
    crash_point("adopt.taken")
    _book(store, identity, taken)
    crash_point("adopt.booked")
    owner = " ".join(_owner(identity))
    for key in taken:
        before, after = f"{owner} adopting {key.calls}", f"{owner} 0 {key.calls}"
        client.eval(_RELEASE, 1, beside(key.key, "version"), before, after, expires_at(key.day))
    return taken


def _book(store: Store, identity: Identity, taken: Sequence[Foreign]) -> None:
    now = timestamp(store.clock.now())
    bookings = [
        External(
            adoption_id(identity, key.key), key.provider, key.day, "imported", key.calls, now, note=f"adopted {key.key}"
        )
        for key in taken
        if key.calls
    ]
    with store.writing.begin() as connection:
        apply(connection, bookings)


def _owner(identity: Identity) -> tuple[str, str]:
    return identity.id, "sandbox" if identity.sandbox else "real"


def _booked(connection: Connection, booking: str) -> int | None:
    calls: int | None = connection.execute(
        select(external_usage.c.calls).where(external_usage.c.id == booking)
    ).scalar()
    return calls


def _scan(client: Redis, prefix: str) -> list[str]:
    plain = "".join(f"\\{character}" if character in "\\*?[]^-" else character for character in prefix)
    return sorted(set(client.scan_iter(match=f"{plain}api_usage:*", count=1000)))


def _held(client: Redis, names: Sequence[str]) -> list[tuple[str, str | None, str | None]]:
    """Return names with their values and what their version keys hold."""
    held = []
    for start in range(0, len(names), _AT_ONCE):
        some = names[start : start + _AT_ONCE]
        pipe = client.pipeline(transaction=False)
        for name in some:
            pipe.mget(name, beside(name, "version"))
        held += [(name, *values) for name, values in zip(some, pipe.execute(), strict=True)]
    return held


def _is_this_stores(version: str | None, identity: Identity) -> bool:
    return bool(version) and version.split()[0] == identity.id and _taken(version, identity) is None  # type: ignore[union-attr]


def _taken(version: str | None, identity: Identity) -> str | None:
    """Return the value an adoption by this store took, if it did not come to its end."""
    match (version or "").split():
        case [owner, _, "adopting", calls] if owner == identity.id:
            return calls
    return None


def _is_a_count(value: str | None) -> bool:
    counts = value is not None and value.isascii() and value.isdigit()
    return counts and str(int(value or 0)) == value and int(value) <= _LARGEST
