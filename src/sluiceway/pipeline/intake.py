"""Taking people in one by one, as prospects of a tenant, with the caller's own ids.

The same person is one prospect, as with files (`batch.take_in`); what is known of them is added to and never replaced.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import msgspec
from sqlalchemy import Connection, or_, select

from sluiceway.errors import BadInput, Conflict, TryLater
from sluiceway.identifier import new_id
from sluiceway.outcome import as_json
from sluiceway.prospect import Match, Person, identity_key, match, merged, same_name
from sluiceway.rights.suppression import Suppressions, people_version
from sluiceway.rollups import prospects_added
from sluiceway.sign import signs_of
from sluiceway.store.bulk import Insert, Update
from sluiceway.store.schema import prospects
from sluiceway.tenancy.tenants import know_tenants


class Entry(msgspec.Struct, frozen=True):
    """Somebody to take in, with the caller's own id where there is one."""

    person: Person
    external_id: str = ""


class Entered(msgspec.Struct, frozen=True):
    """The prospect that an entry is about, and whether it was made for it."""

    prospect_id: str
    made: bool


class Withheld(msgspec.Struct, frozen=True):
    """The entries, by their place, that are about people on the suppression list, as of a version of it."""

    places: frozenset[int]
    version: int


def withhold(connection: Connection, tenant_id: str, entries: Sequence[Entry], suppressions: Suppressions) -> Withheld:
    """Find the entries about people who are on a tenant's suppression list, or on everybody's."""
    at = suppressions.look(connection)
    return Withheld(frozenset(suppressions.among(connection, _shown(tenant_id, entries))), at)


def withhold_again(
    connection: Connection, tenant_id: str, entries: Sequence[Entry], before: Withheld, suppressions: Suppressions
) -> Collection[int]:
    """Return what is withheld by now, in the transaction that takes the others in."""
    if people_version(connection) == before.version:
        return before.places
    return suppressions.surely_among(connection, _shown(tenant_id, entries))


def _shown(tenant_id: str, entries: Sequence[Entry]) -> dict[int, tuple[str, Any]]:
    return {place: (tenant_id, signs_of(entry.person)) for place, entry in enumerate(entries)}


class _Known(msgspec.Struct):
    """A prospect as it stands in between."""

    id: str
    key: str
    person: Person
    external_id: str | None
    new: bool = False
    changed: bool = False


_NEW = Insert(
    prospects,
    ("id", "tenant_id", "identity_key", "person", "external_id", "created_at"),
    key=("tenant_id", "identity_key"),
    returning="tenant_id, created_at",
)
_CHANGED = Update(
    prospects,
    ("id", "person", "external_id"),
    change="person = v.person, external_id = v.external_id",
    where="prospects.id = v.id",
)


class Intake:
    """The prospects of a tenant that some entries may be about. `take` each, then `write` them all."""

    def __init__(self, connection: Connection, tenant_id: str, entries: Sequence[Entry]) -> None:
        self._connection = connection
        self._tenant_id = tenant_id
        self._by_key: dict[str, _Known] = {}
        self._by_external_id: dict[str, _Known] = {}
        self._look_up(entries)

    def _look_up(self, entries: Sequence[Entry]) -> None:
        p = prospects.c
        keys = {key for entry in entries if (key := _key(entry.person))}
        external_ids = {entry.external_id for entry in entries if entry.external_id}
        query = select(p.id, p.identity_key, p.person, p.external_id).where(p.tenant_id == self._tenant_id)
        query = query.where(or_(p.identity_key.in_(keys), p.external_id.in_(external_ids)))
        for prospect_id, key, person, external_id in self._connection.execute(query):
            self._keep(_Known(prospect_id, key, msgspec.json.decode(person, type=Person), external_id))

    def _keep(self, known: _Known) -> None:
        self._by_key[known.key] = known
        if known.external_id:
            self._by_external_id[known.external_id] = known

    def take(self, entry: Entry) -> Entered:
        """Take somebody in, and add what is said of them to what is known.

        Raises `BadInput` where that does not tell who it is, and `Conflict` where the caller's id is another person's.
        """
        known = self._by_external_id.get(entry.external_id) or self._by_key.get(_key(entry.person))
        if known is None:
            return self._make(entry)
        self._check(known, entry)
        self._add(known, entry)
        return Entered(known.id, made=False)

    def _make(self, entry: Entry) -> Entered:
        made = _Known(new_id(), identity_key(entry.person), entry.person, entry.external_id or None, new=True)
        self._keep(made)
        return Entered(made.id, made=True)

    def _check(self, known: _Known, entry: Entry) -> None:
        """Raise `Conflict` where somebody comes under an id that is another person's."""
        if entry.external_id != known.external_id:
            return
        other = self._by_key.get(_key(entry.person), known)
        if other is not known:
            raise Conflict(f"this person is prospect {other.id}, and the external_id is another prospect's: {known.id}")
        if not may_be(known.person, entry.person):
            raise Conflict(f"the external_id is another person's, prospect {known.id}; what is known is never replaced")

    def _add(self, known: _Known, entry: Entry) -> None:
        whole = merged([known.person, entry.person])
        external_id = known.external_id or entry.external_id or None
        if (whole, external_id) != (known.person, known.external_id):
            known.person, known.external_id, known.changed = whole, external_id, True
            self._keep(known)

    def write(self, now: str) -> None:
        """Bring what was taken in into the store."""
        known = sorted(self._by_key.values(), key=lambda each: each.id)
        new = [
            (each.id, self._tenant_id, each.key, as_json(each.person), each.external_id, now)
            for each in known
            if each.new
        ]
        know_tenants(self._connection, [self._tenant_id], now)
        made = [(str(tenant_id), str(at)) for tenant_id, at in _NEW.run(self._connection, new)]
        if len(made) < len(new):
            raise TryLater("somebody else is taking the same person in at this moment; ask again")
        prospects_added(self._connection, made)
        changed = [(each.id, as_json(each.person), each.external_id) for each in known if each.changed and not each.new]
        _CHANGED.run(self._connection, changed)


def may_be(known: Person, said: Person) -> bool:
    """Tell whether a known person may be who is spoken of: nothing that tells people apart speaks against it."""
    if _key(merged([known, said])) != _key(merged([said, known])):
        return False
    names_differ = bool(known.name and said.name) and not same_name(known.name, said.name)
    return not names_differ or match(known, said) is Match.EXACT


def _key(person: Person) -> str:
    """Return a person's identity key; empty where it cannot be told who that is."""
    try:
        return identity_key(person)
    except BadInput:
        return ""
