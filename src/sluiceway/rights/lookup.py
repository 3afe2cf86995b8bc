"""Finding somebody in the store by what they or their letter say: an id, an e-mail, a LinkedIn profile, a name."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
from sqlalchemy import Connection, Row, select

from sluiceway.errors import BadInput
from sluiceway.prospect import Person, same_name
from sluiceway.rights.suppression import signs_of_row
from sluiceway.sign import Kind, Sign, read_sign
from sluiceway.store.schema import prospects

_PAGE = 1000


class Match(msgspec.Struct, frozen=True):
    """A prospect that may be who is looked for, as asked about, and since when it is held."""

    prospect_id: str
    tenant_id: str
    person: Person
    external_id: str | None
    created_at: str


def find(connection: Connection, value: str, tenant_id: str | None = None) -> list[Match]:
    """Find prospects by an id (or its start, or the caller's own), an e-mail, a LinkedIn profile, or a name.

    Looks at what was asked and at what sources found; reads every prospect of the tenant, or of all.
    """
    value = value.strip()
    if not value:
        raise BadInput("nothing to look for; give an id, an e-mail, a LinkedIn profile or a name")
    sign = _sign(value)
    if by_id := [] if sign else _by_id(connection, value, tenant_id):
        return by_id
    return [_match(row) for row in _every_prospect(connection, tenant_id) if _is_meant(row, sign, value)]


def _sign(value: str) -> Sign | None:
    try:
        sign = read_sign(value)
    except BadInput:
        return None
    if sign.kind is Kind.DOMAIN:
        raise BadInput(f"{value!r} is a domain, and nobody in particular; `sluiceway suppress add` takes domains")
    return sign


def _by_id(connection: Connection, value: str, tenant_id: str | None) -> list[Match]:
    p = prospects.c
    meant = (p.external_id == value) | (p.id == value)
    if len(value) >= 8:
        meant |= p.id.startswith(value, autoescape=True)
    return [_match(row) for row in connection.execute(_of(tenant_id).where(meant).order_by(p.id))]


def _is_meant(row: Row[Any], sign: Sign | None, value: str) -> bool:
    if sign is not None:
        return sign in signs_of_row(row)
    return same_name(value, msgspec.json.decode(row.person, type=Person).name)


def _every_prospect(connection: Connection, tenant_id: str | None) -> Iterator[Row[Any]]:
    query, last = _of(tenant_id).order_by(prospects.c.id).limit(_PAGE), ""
    while page := connection.execute(query.where(prospects.c.id > last)).all():
        yield from page
        last = page[-1].id


def _of(tenant_id: str | None) -> Any:
    p = prospects.c
    query = select(p.id, p.tenant_id, p.person, p.fields, p.external_id, p.created_at)
    return query if tenant_id is None else query.where(p.tenant_id == tenant_id)


def _match(row: Row[Any]) -> Match:
    person = msgspec.json.decode(row.person, type=Person)
    return Match(row.id, row.tenant_id, person, row.external_id, row.created_at)
