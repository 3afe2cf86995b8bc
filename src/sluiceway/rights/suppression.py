"""The suppression list: people who must not be asked about, as keyed hashes, for one tenant or for everybody.

Nobody can read from the list who is on it. Whoever has its key can find out whether somebody is, by guessing; the key
is made with the store and kept in it, unless `SLUICEWAY_SUPPRESSION_KEY` keeps it elsewhere.
"""

from __future__ import annotations

import hmac
import secrets
from array import array
from bisect import bisect_left
from collections.abc import Collection, Hashable, Iterable, Mapping
from typing import Any, Final, TypeVar

import msgspec
from sqlalchemy import Connection, and_, delete, func, select

from sluiceway.errors import BadSetting
from sluiceway.prospect import EVERYBODY, Person
from sluiceway.sign import Sign, all_signs
from sluiceway.store.bulk import Insert, Lookup
from sluiceway.store.engine import Store
from sluiceway.store.facts import fact, raise_version, set_fact, version
from sluiceway.store.schema import prospects, suppressions

K = TypeVar("K", bound=Hashable)

EVERYWHERE: Final = EVERYBODY
"""The tenant whose suppressions hold for all tenants."""

PEOPLE: Final = "people"
"""The version that rises whenever the list changes or somebody is erased."""

_OWN_KEY: Final = "suppression_key"
_MADE_WITH: Final = "suppression_key_check"


def key_of(store: Store, configured: str = "") -> bytes:
    """Return the key that the list is hashed with: the one that was set, else the store's own.

    Raises `BadSetting` where the list was made with another one: nobody on it would be recognised.
    """
    with store.read() as connection:
        own, made_with = fact(connection, _OWN_KEY), fact(connection, _MADE_WITH)
    key = (configured or own or "").encode()
    if not key or made_with != _mark_of(key):
        with store.change() as connection:
            key = (configured or _own_key(connection)).encode()
            _pin(connection, _mark_of(key))
    return key


def _own_key(connection: Connection) -> str:
    own = fact(connection, _OWN_KEY)
    if own is None:
        own = secrets.token_hex(32)
        set_fact(connection, _OWN_KEY, own)
    return own


def _pin(connection: Connection, mark: str) -> None:
    """Note which key the list is made with; while nobody is on it, another one may be chosen."""
    made_with = fact(connection, _MADE_WITH)
    if made_with not in (None, mark) and connection.execute(select(suppressions.c.hash).limit(1)).first():
        raise BadSetting(
            "SLUICEWAY_SUPPRESSION_KEY is not the key that this store's suppression list was made with, so nobody on "
            "it would be recognised; set the key it was made with (or none, if none was set then)"
        )
    set_fact(connection, _MADE_WITH, mark)


def _mark_of(key: bytes) -> str:
    return hmac.digest(key, b"check", "sha256").hex()


class Unwanted(msgspec.Struct, frozen=True):
    """What a begin leads to whose prospect must not be asked about any more."""


class Found(msgspec.Struct, frozen=True):
    """Where the list has a sign: for one tenant or for everybody (`*`), since when, and why."""

    tenant_id: str
    kind: str
    created_at: str
    reason: str | None
    added_by: str | None


class Count(msgspec.Struct, frozen=True):
    """How many signs of one kind the list has for one tenant, or for everybody (`*`)."""

    tenant_id: str
    kind: str
    count: int


_ENTRIES = Insert(suppressions, ("tenant_id", "kind", "hash", "created_at", "reason", "added_by"), returning="hash")
_LOOKUP = Lookup(
    suppressions,
    ("tenant_id", "kind", "hash"),
    select="w.tenant_id, w.kind, w.hash",
    where="w.tenant_id = v.tenant_id AND w.kind = v.kind AND w.hash = v.hash",
)


class Suppressions:
    """The list, as one process keeps it at hand: eight bytes of every hash, which rule out almost everybody at once.

    Whoever may be on the list is looked up in the store. `look` takes over what has changed since.
    """

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._held: tuple[int, array[int]] = (-1, array("Q"))
        self._first_version: int | None = None

    # Who is on it.

    def look(self, connection: Connection) -> int:
        """Take over what was changed, by whichever process; returns the version that is at hand then."""
        at = version(connection, PEOPLE)
        if self._first_version is None:
            self._first_version = at
        if at != self._held[0]:
            self._held = (at, _starts(connection))
        return at

    @property
    def is_empty(self) -> bool:
        """Whether nobody is on the list, as far as it is at hand."""
        return not self._held[1]

    def may_hold(self, signs: Iterable[Sign]) -> bool:
        """Tell whether one of these signs can be on the list; almost always right, and never wrong to say no."""
        starts = self._held[1]
        return bool(starts) and any(_is_in(starts, _start(self.hash_of(sign))) for sign in signs)

    def among(self, connection: Connection, asked: Mapping[K, tuple[str, Collection[Sign]]]) -> set[K]:
        """Return those who are on the list, of some tenants' people with the signs they show."""
        suspects = {key: who for key, who in asked.items() if self.may_hold(who[1])}
        return self.surely_among(connection, suspects) if suspects else set()

    def surely_among(self, connection: Connection, asked: Mapping[K, tuple[str, Collection[Sign]]]) -> set[K]:
        """Do the same by asking the store about everybody, whatever is at hand."""
        shown: dict[tuple[str, str, str], list[K]] = {}
        for key, (tenant_id, signs) in asked.items():
            for sign in signs:
                for scope in {tenant_id, EVERYWHERE}:
                    shown.setdefault((scope, sign.kind.value, self.hash_of(sign)), []).append(key)
        return {key for row in _LOOKUP.run(connection, sorted(shown)) for key in shown[tuple(row)]}

    def find(self, connection: Connection, sign: Sign) -> list[Found]:
        """Return every entry of one sign, for whichever tenant."""
        s = suppressions.c
        columns = [s[name] for name in Found.__struct_fields__]
        query = select(*columns).where(s.kind == sign.kind.value, s.hash == self.hash_of(sign))
        return [Found(*row) for row in connection.execute(query.order_by(s.tenant_id))]

    def hash_of(self, sign: Sign) -> str:
        """Return what the list holds of a sign."""
        # A file in a strange encoding may hold halves of characters, which are nobody's sign and no reason to stop.
        written = f"{sign.kind.value}:{sign.value}".encode(errors="surrogatepass")
        return hmac.digest(self._key, written, "sha256").hex()

    # Work that goes on while the list changes.

    def moved(self, now: int) -> bool:
        """Tell whether anything was changed since this process first looked, when the version is `now`."""
        return self._first_version not in (None, now)

    def unwanted(self, connection: Connection, asked: Iterable[tuple[str | None, int | None]], now: int) -> set[str]:
        """Return the prospects that must not be asked about any more: suppressed or erased since they were looked at.

        `asked` are prospects with the version of the list they were checked against; `None` asks for no check. `now`
        is the version in this transaction.
        """
        late = {prospect_id for prospect_id, at in asked if prospect_id and at not in (None, now)}
        if not late:
            return set()
        p = prospects.c
        rows = connection.execute(select(p.id, p.tenant_id, p.person, p.fields).where(p.id.in_(late))).all()
        shown = {row.id: (row.tenant_id, signs_of_row(row)) for row in rows}
        return (late - shown.keys()) | self.surely_among(connection, shown)

    # Changing it.

    def add(
        self,
        connection: Connection,
        tenant_id: str,
        signs: Iterable[Sign],
        *,
        at: str,
        by: str,
        reason: str | None = None,
    ) -> int:
        """Put signs on a tenant's list (`EVERYWHERE`: on everybody's); returns how many were not on it."""
        rows = sorted((tenant_id, sign.kind.value, self.hash_of(sign), at, reason, by) for sign in set(signs))
        added = len(_ENTRIES.run(connection, rows))
        if added:
            raise_version(connection, PEOPLE)
        return added

    def remove(self, connection: Connection, tenant_id: str, signs: Iterable[Sign]) -> int:
        """Take signs off a tenant's list; returns how many were on it."""
        s = suppressions.c
        removed = 0
        for sign in set(signs):
            mine = and_(s.tenant_id == tenant_id, s.kind == sign.kind.value, s.hash == self.hash_of(sign))
            removed += connection.execute(delete(suppressions).where(mine)).rowcount
        if removed:
            raise_version(connection, PEOPLE)
        return removed


def empty(connection: Connection, tenant_id: str) -> int:
    """Take everybody off a tenant's list (`EVERYWHERE`: off everybody's); returns how many entries there were."""
    removed = connection.execute(delete(suppressions).where(suppressions.c.tenant_id == tenant_id)).rowcount
    if removed:
        raise_version(connection, PEOPLE)
    return removed


def opened_list(store: Store, configured_key: str = "") -> Suppressions:
    """Return a store's list, at hand; raises `BadSetting` where it was made with another key."""
    suppressions = Suppressions(key_of(store, configured_key))
    with store.read() as connection:
        suppressions.look(connection)
    return suppressions


def people_version(connection: Connection) -> int:
    """Return how often the list was changed or somebody erased."""
    return version(connection, PEOPLE)


def counts(connection: Connection, tenant_id: str | None = None) -> list[Count]:
    """Count what is on the list, of all or of one tenant, by tenant and kind; who it is cannot be read back."""
    s = suppressions.c
    query = select(s.tenant_id, s.kind, func.count()).group_by(s.tenant_id, s.kind).order_by(s.tenant_id, s.kind)
    if tenant_id is not None:
        query = query.where(s.tenant_id == tenant_id)
    return [Count(*row) for row in connection.execute(query)]


def signs_of_row(row: Any) -> set[Sign]:
    """Return every sign of a prospect's row (`person` and `fields`)."""
    return all_signs(msgspec.json.decode(row.person, type=Person), msgspec.json.decode(row.fields))


def _starts(connection: Connection) -> array[int]:
    return array("Q", sorted(_start(held) for held in connection.execute(select(suppressions.c.hash)).scalars()))


def _start(held: str) -> int:
    return int(held[:16], 16)


def _is_in(starts: array[int], start: int) -> bool:
    place = bisect_left(starts, start)
    return place < len(starts) and starts[place] == start
