"""Making prospects of people whom a search found: nobody is asked, and nothing is spent."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import StrEnum

import msgspec
from sqlalchemy import Connection, select

from sluiceway.identifier import new_id
from sluiceway.outcome import as_json
from sluiceway.prospect import Person, identity_key
from sluiceway.rights.suppression import Suppressions
from sluiceway.rollups import prospects_added
from sluiceway.sign import signs_of
from sluiceway.store.bulk import Insert
from sluiceway.store.schema import prospects
from sluiceway.tenancy.tenants import know_tenants


class Became(StrEnum):
    """What became of somebody who was to be imported. Whoever is `suppressed` is not stored."""

    IMPORTED = "imported"
    KNOWN = "known"
    SUPPRESSED = "suppressed"


class Imported(msgspec.Struct, frozen=True):
    """What became of one person, and which prospect they are."""

    person: Person
    became: Became
    prospect_id: str | None


_NEW = Insert(
    prospects,
    ("id", "tenant_id", "identity_key", "person", "created_at"),
    key=("tenant_id", "identity_key"),
    returning="identity_key",
)


def import_people(
    connection: Connection, tenant_id: str, people: Sequence[Person], suppressions: Suppressions, now: str
) -> list[Imported]:
    """Make prospects of people, in the open transaction; the same person, however often, is one prospect.

    Raises `BadInput` for somebody who cannot be told from others.
    """
    know_tenants(connection, [tenant_id], now)
    keys = [identity_key(person) for person in people]
    shown = {number: (tenant_id, signs_of(person)) for number, person in enumerate(people)}
    suppressed = suppressions.surely_among(connection, shown)
    first = {keys[number]: people[number] for number in reversed(range(len(people))) if number not in suppressed}
    rows = [(new_id(), tenant_id, key, as_json(person), now) for key, person in sorted(first.items(), key=_by_key)]
    new = {row[0] for row in _NEW.run(connection, rows)}
    prospects_added(connection, [(tenant_id, now)] * len(new))
    ids = _ids(connection, tenant_id, keys)
    done = []
    for number, (person, key) in enumerate(zip(people, keys, strict=True)):
        if number in suppressed:
            done.append(Imported(person, Became.SUPPRESSED, None))
        else:
            done.append(Imported(person, Became.IMPORTED if key in new else Became.KNOWN, ids[key]))
            new.discard(key)
    return done


def _by_key(item: tuple[str, Person]) -> str:
    return item[0]


def _ids(connection: Connection, tenant_id: str, keys: Iterable[str]) -> dict[str, str]:
    p = prospects.c
    query = select(p.identity_key, p.id).where(p.tenant_id == tenant_id, p.identity_key.in_(set(keys)))
    return {row.identity_key: row.id for row in connection.execute(query)}
