"""What someone asked for at once: its identity, its rows, and the prospects behind them.

A file's batch is known by the file's digest and the options, so the same command again continues it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec
from sqlalchemy import Connection, and_, delete, exists, func, insert, select, update

from sluiceway.errors import BadInput
from sluiceway.hooks.deliveries import batch_ended
from sluiceway.identifier import new_id
from sluiceway.outcome import as_json
from sluiceway.prospect import Person, identity_key, merged
from sluiceway.rollups import prospects_added, prospects_removed
from sluiceway.store.bulk import Insert, Lookup, Update
from sluiceway.store.schema import batch_rejects, batch_rows, batches, prospects
from sluiceway.tenancy.tenants import know_tenants

PAGE = 200
CHUNK = 250
"""Input rows per transaction when a file is taken in: a few milliseconds each."""


class Asked(msgspec.Struct, frozen=True):
    """What identifies a batch, and how it is shown."""

    tenant_id: str
    name: str
    digest: str
    options: dict[str, Any]
    trigger: str
    refresh: bool


class Batch(msgspec.Struct, frozen=True):
    """A batch in the store. `rows` is `None` until all its rows were taken in."""

    id: str
    began_at: str
    refresh: bool
    continued: bool
    rows: int | None


class InputRow(msgspec.Struct, frozen=True):
    """One row of a batch: its place, and the person in it."""

    number: int
    tenant_id: str
    person: Person
    external_id: str = ""


def open_batch(connection: Connection, asked: Asked, now: str) -> Batch:
    """Find the batch this asking continues, or make it.

    A finished refresh is over: asking for it again is asking for a new one.
    """
    options = as_json(dict(sorted(asked.options.items())))
    b = batches.c
    same = and_(b.tenant_id == asked.tenant_id, b.digest == asked.digest, b.options == options)
    last = connection.execute(select(batches).where(same).order_by(b.generation.desc()).limit(1)).first()
    if last is not None and not (last.refresh and last.finished_at):
        given_up_before = {"requested_at": None, "cancelled_at": None} if last.finished_at else {}
        connection.execute(update(batches).where(b.id == last.id).values(finished_at=None, **given_up_before))
        return Batch(last.id, last.began_at or now, last.refresh, last.began_at is not None, last.rows)
    know_tenants(connection, [asked.tenant_id], now)
    batch_id = new_id()
    values = {
        "id": batch_id,
        "tenant_id": asked.tenant_id,
        "name": asked.name,
        "digest": asked.digest,
        "options": options,
        "trigger": asked.trigger,
        "refresh": asked.refresh,
        "generation": last.generation + 1 if last is not None else 1,
        "created_at": now,
    }
    connection.execute(insert(batches).values(values))
    return Batch(batch_id, now, asked.refresh, False, None)


def batch_id_of(connection: Connection, start_of_id: str) -> str:
    """Return the id of the one batch whose id begins so. Raises `BadInput` when there is none, or more than one."""
    b = batches.c
    query = select(b.id).where(b.id.startswith(start_of_id, autoescape=True)).limit(2)
    found = connection.execute(query).scalars().all() if start_of_id else []
    if len(found) != 1:
        trouble = (
            f"{start_of_id!r} begins the ids of several batches" if found else f"there is no batch {start_of_id!r}"
        )
        raise BadInput(f"{trouble}; `sluiceway usage --by batch` shows them with their ids")
    return str(found[0])


_NEW_PROSPECTS = Insert(
    prospects,
    ("id", "tenant_id", "identity_key", "person", "created_at"),
    key=("tenant_id", "identity_key"),
    returning="tenant_id, created_at",
)
_NEW_ROWS = Insert(batch_rows, ("batch_id", "number", "prospect_id"))


def take_in(connection: Connection, batch_id: str, rows: Sequence[InputRow], now: str) -> None:
    """Turn a chunk of rows into prospects; the same person, in whatever row or file, is one prospect.

    A row may add facts about a prospect that is known already; it never replaces one. Tenants that rows name are known
    from then on.
    """
    keyed = [(row, (row.tenant_id, identity_key(row.person))) for row in rows]
    first = {key: row for row, key in reversed(keyed)}
    know_tenants(connection, (tenant_id for tenant_id, _ in first), now)
    new = [(new_id(), *key, as_json(row.person), now) for key, row in sorted(first.items())]
    prospects_added(connection, (tuple(row) for row in _NEW_PROSPECTS.run(connection, new)))
    known = _known(connection, first)
    _add_facts(connection, keyed, known)
    _add_external_ids(connection, keyed, known)
    _NEW_ROWS.run(connection, [(batch_id, row.number, known[key][0]) for row, key in keyed])


def _known(connection: Connection, keys: Mapping[tuple[str, str], Any]) -> dict[tuple[str, str], Any]:
    """Return prospects by tenant and identity key: id, person, and the caller's own id."""
    p = prospects.c
    query = select(p.tenant_id, p.identity_key, p.id, p.person, p.external_id)
    query = query.where(p.tenant_id.in_({key[0] for key in keys}), p.identity_key.in_({key[1] for key in keys}))
    return {
        (row.tenant_id, row.identity_key): (row.id, row.person, row.external_id) for row in connection.execute(query)
    }


def _add_facts(connection: Connection, keyed: Sequence[tuple[InputRow, Any]], known: Mapping[Any, Any]) -> None:
    people: dict[Any, list[Person]] = {}
    for row, key in keyed:
        if as_json(row.person) != known[key][1]:  # of a new prospect nothing else was ever said
            people.setdefault(key, [msgspec.json.decode(known[key][1], type=Person)]).append(row.person)
    for key, said in people.items():
        whole = as_json(merged(said))
        if whole != known[key][1]:
            connection.execute(update(prospects).where(prospects.c.id == known[key][0]).values(person=whole))


_GIVEN_IDS = Lookup(
    prospects,
    ("tenant_id", "external_id"),
    select="w.tenant_id, w.external_id",
    where="w.tenant_id = v.tenant_id AND w.external_id = v.external_id",
)
_GIVE_ID = Update(prospects, ("id", "external_id"), change="external_id = v.external_id", where="prospects.id = v.id")


def _add_external_ids(connection: Connection, keyed: Sequence[tuple[InputRow, Any]], known: Mapping[Any, Any]) -> None:
    """Note the caller's own ids; one that another prospect of the tenant has already stays there."""
    named = [(row, known[key]) for row, key in keyed if row.external_id]
    given = {tuple(found) for found in _GIVEN_IDS.run(connection, sorted({_its_id(row) for row, _ in named}))}
    new: dict[str, str] = {}
    for row, (prospect_id, _, has) in named:
        if has is None and prospect_id not in new and _its_id(row) not in given:
            new[prospect_id] = row.external_id
            given.add(_its_id(row))
    _GIVE_ID.run(connection, sorted(new.items()))


def _its_id(row: InputRow) -> tuple[str, str]:
    return row.tenant_id, row.external_id


def rows_taken_in(connection: Connection, batch_id: str, numbers: Sequence[int]) -> set[int]:
    """Return which of some rows are in the store already."""
    r = batch_rows.c
    return set(connection.execute(select(r.number).where(r.batch_id == batch_id, r.number.in_(numbers))).scalars())


def all_taken_in(connection: Connection, batch_id: str, *, rows: int, rejected: int) -> None:
    """Note that every row of the batch is in the store."""
    connection.execute(update(batches).where(batches.c.id == batch_id).values(rows=rows, rejected=rejected))


def begin_batch(connection: Connection, batch_id: str, now: str) -> None:
    """Note when the batch first began to ask; a refresh buys again only what is older than this."""
    unbegun = and_(batches.c.id == batch_id, batches.c.began_at.is_(None))
    connection.execute(update(batches).where(unbegun).values(began_at=now))


def finish_batch(connection: Connection, batch_id: str, now: str) -> None:
    """Note that nothing of the batch is left to ask, and have its tenant told."""
    unended = and_(batches.c.id == batch_id, batches.c.finished_at.is_(None))
    if connection.execute(update(batches).where(unended).values(finished_at=now)).rowcount:
        batch_ended(connection, batch_id, now)


def withdraw(connection: Connection, batch_id: str) -> None:
    """Take back a batch that never began, with the prospects that it brought and only it knows."""
    began = connection.execute(select(batches.c.began_at).where(batches.c.id == batch_id)).scalar()
    if began is not None:
        return
    # Ids sort by time: who has an earlier one than the batch was there before it, however they came.
    r = batch_rows.c
    mine = select(r.prospect_id).where(r.batch_id == batch_id, r.prospect_id > batch_id)
    others = exists().where(r.prospect_id == prospects.c.id, r.batch_id != batch_id)
    untouched = and_(prospects.c.id.in_(mine), ~others, prospects.c.last_run_id.is_(None))
    p = prospects.c
    gone = delete(prospects).where(untouched).returning(p.tenant_id, p.created_at, p.covered_at)
    prospects_removed(connection, [tuple(row) for row in connection.execute(gone)])
    for table in (batch_rows, batch_rejects):
        connection.execute(delete(table).where(table.c.batch_id == batch_id))
    connection.execute(delete(batches).where(batches.c.id == batch_id))


def prospect_pages(connect: Any, batch_id: str, size: int = PAGE) -> Iterator[list[str]]:
    """Yield the batch's distinct prospects in the order of their first rows, a page at a time."""
    after = -1
    r, earlier = batch_rows.c, batch_rows.alias()
    seen = exists().where(
        earlier.c.batch_id == batch_id, earlier.c.prospect_id == r.prospect_id, earlier.c.number < r.number
    )
    while True:
        query = select(r.number, r.prospect_id).where(r.batch_id == batch_id, r.number > after, ~seen)
        with connect() as connection:
            page = connection.execute(query.order_by(r.number).limit(size)).all()
        if not page:
            return
        after = page[-1].number
        yield [row.prospect_id for row in page]


def tenants_of(connection: Connection, ids: Sequence[str]) -> dict[str, str]:
    """Return whose some prospects are, by prospect."""
    query = select(prospects.c.id, prospects.c.tenant_id).where(prospects.c.id.in_(ids))
    return {row.id: row.tenant_id for row in connection.execute(query)}


def tenants_in(connection: Connection, batch_id: str) -> list[str]:
    """Return whose prospects a batch has."""
    query = select(prospects.c.tenant_id).distinct().join(batch_rows, batch_rows.c.prospect_id == prospects.c.id)
    query = query.where(batch_rows.c.batch_id == batch_id).order_by(prospects.c.tenant_id)
    return list(connection.execute(query).scalars())


def count_prospects(connection: Connection, batch_id: str) -> int:
    """Return how many distinct prospects the batch has."""
    distinct = func.count(batch_rows.c.prospect_id.distinct())
    count: int = connection.execute(select(distinct).where(batch_rows.c.batch_id == batch_id)).scalar_one()
    return count
