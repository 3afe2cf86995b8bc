"""Erasing people: what identifies them goes, and what was spent on them stays, with no way back.

The prospect, what sources answered, its places in batches and its ids go. Its runs, source results and attempts stay,
because every sum is folded from them; they get new ids, and a pseudonym in place of the prospect that is written
nowhere else. What could be found again by guessing (digests of requests) or by asking the provider (its request ids)
goes as well, and so do words about how a call went.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final
from uuid import uuid4

import msgspec
from sqlalchemy import Connection, Row, delete, insert, select, update

from sluiceway.activity import stand_in
from sluiceway.identifier import new_id, reissued
from sluiceway.outcome import ERASED, OPEN, Status, enrichment_status
from sluiceway.prospect import Person, fold
from sluiceway.rights.suppression import PEOPLE, Suppressions
from sluiceway.rollups import Ended, fold_ended, forget_messages, prospects_removed
from sluiceway.sign import own_signs_of, people_in
from sluiceway.store.bulk import Update
from sluiceway.store.engine import Store, leave_no_trace
from sluiceway.store.facts import fact, raise_version, set_fact
from sluiceway.store.schema import (
    answers,
    attempts,
    batch_rows,
    corrections,
    documents,
    erasures,
    idempotency_keys,
    prospects,
    runs,
    source_results,
)

BY_REQUEST, BY_RETENTION = "request", "retention"

_TRACES: Final = "traces_left_since"
_HTTP_STATUS: Final = re.compile(r"HTTP \d{3}\b")


class Why(msgspec.Struct, frozen=True):
    """Why people are erased, by whom and when; `suppress` puts them on their tenant's list in the same transaction."""

    cause: str
    by: str
    at: str
    suppress: bool


class Erased(msgspec.Struct, frozen=True):
    """What an erasure came to: people, the calls that stay as money, and how many signs are on the list since."""

    prospects: int = 0
    attempts: int = 0
    signs: int = 0


_RUN = Update(
    runs,
    ("id", "new_id", "prospect_id", "closed_at", "status"),
    change="id = v.new_id, prospect_id = v.prospect_id, closed_at = coalesce(runs.closed_at, v.closed_at), "
    "status = v.status",
    where="runs.id = v.id",
)
_RESULT = Update(
    source_results,
    ("id", "new_id", "run_id", "prospect_id", "status", "error", "cached_from", "closed_at"),
    change="id = v.new_id, run_id = v.run_id, prospect_id = v.prospect_id, status = v.status, error = v.error, "
    "cached_from = v.cached_from, closed_at = v.closed_at, wake_at = NULL, "
    f"subject_key = '{ERASED}'",
    where="source_results.id = v.id",
)
_ATTEMPT = Update(
    attempts,
    ("day", "id", "prospect_id", "source_result_id", "error"),
    change="prospect_id = v.prospect_id, source_result_id = v.source_result_id, error = v.error, note = NULL, "
    f"provider_request_id = NULL, request_key = '{ERASED}'",
    where="attempts.day = v.day AND attempts.id = v.id",
)


def erase(connection: Connection, ids: Sequence[str], why: Why, suppressions: Suppressions) -> Erased:
    """Erase some prospects in the open transaction; those that are gone already are left out.

    A run that is open is closed as `cancelled`. A call that is in flight goes on and is charged when it ends; what it
    answers is not kept.
    """
    p = prospects.c
    query = select(p.id, p.tenant_id, p.person, p.fields, p.last_run_id).where(p.id.in_(ids)).order_by(p.id)
    people: list[Row[Any]] = list(connection.execute(query))
    if not people:
        return Erased()
    signs = sum([_suppress(connection, row, why, suppressions) for row in people]) if why.suppress else 0
    kept = _Money(connection, people, why.at)
    kept.pseudonymise()
    _forget(connection, [row.id for row in people])
    _forget_answered(connection, {row.tenant_id for row in people})
    _note(connection, people, kept.attempts_of, why)
    raise_version(connection, PEOPLE)
    if fact(connection, _TRACES) is None:
        set_fact(connection, _TRACES, why.at)
    return Erased(len(people), sum(kept.attempts_of.values()), signs)


def _suppress(connection: Connection, row: Row[Any], why: Why, suppressions: Suppressions) -> int:
    said = [msgspec.json.decode(row.person, type=Person), *people_in(msgspec.json.decode(row.fields))]
    signs = {sign for person in said for sign in own_signs_of(person)}
    return suppressions.add(connection, row.tenant_id, signs, at=why.at, by=why.by, reason=ERASED)


class _Money:
    """The runs, source results and attempts of some prospects, which stay."""

    def __init__(self, connection: Connection, people: Sequence[Row[Any]], at: str) -> None:
        self._connection = connection
        self._at = at
        self._pseudonyms = {row.id: f"{ERASED}-{uuid4().hex}" for row in people}
        self._tenants = {row.id: row.tenant_id for row in people}
        r = source_results.c
        query = select(r.id, r.run_id, r.prospect_id, r.status, r.error, r.cached_from, r.closed_at)
        query = query.add_columns(r.tenant_id, r.source, r.fingerprint)
        mine = r.prospect_id.in_(self._pseudonyms)
        self._results: list[Row[Any]] = list(connection.execute(query.where(mine).order_by(r.id)))
        self._runs = self._runs_of(people)
        self._run_ids = {run.id: reissued(run.id) for run in self._runs}
        self._result_ids = {result.id: reissued(result.id) for result in self._results}
        self.attempts_of: dict[str, int] = dict.fromkeys(self._pseudonyms, 0)

    def _runs_of(self, people: Sequence[Row[Any]]) -> list[Row[Any]]:
        known = {result.run_id for result in self._results} | {row.last_run_id for row in people if row.last_run_id}
        query = select(runs.c.id, runs.c.prospect_id, runs.c.status, runs.c.closed_at).where(runs.c.id.in_(known))
        return list(self._connection.execute(query))

    def pseudonymise(self) -> None:
        """Cut every way back; what is open is closed."""
        _ATTEMPT.run(self._connection, list(self._attempt_rows()))
        _RESULT.run(self._connection, [self._result_row(result) for result in self._results])
        _RUN.run(self._connection, [self._run_row(run) for run in self._runs])
        self._count_what_is_closed()
        for prospect_id, pseudonym in self._pseudonyms.items():
            run_ids = {run.id: self._run_ids[run.id] for run in self._runs if run.prospect_id == prospect_id}
            stand_in(self._connection, self._tenants[prospect_id], prospect_id, pseudonym, run_ids)

    def _count_what_is_closed(self) -> None:
        cancelled = [
            Ended(result.id, result.tenant_id, result.source, Status.CANCELLED.value, self._at, ERASED, None)
            for result in self._results
            if result.status in OPEN
        ]
        fold_ended(self._connection, cancelled)
        forget_messages(self._connection, {result.fingerprint for result in self._results if result.fingerprint})

    def _attempt_rows(self) -> Iterator[tuple[Any, ...]]:
        a = attempts.c
        query = select(a.day, a.id, a.prospect_id, a.source_result_id, a.error)
        found = self._connection.execute(query.where(a.source_result_id.in_(self._result_ids))).all()
        for attempt in found:
            self.attempts_of[attempt.prospect_id] += 1
            pseudonym = self._pseudonyms[attempt.prospect_id]
            yield attempt.day, attempt.id, pseudonym, self._result_ids[attempt.source_result_id], _said(attempt.error)
        noted = update(corrections).where(corrections.c.attempt_id.in_([attempt.id for attempt in found]))
        self._connection.execute(noted.values(note=ERASED))

    def _result_row(self, result: Row[Any]) -> tuple[Any, ...]:
        return (
            result.id,
            self._result_ids[result.id],
            self._run_ids[result.run_id],
            self._pseudonyms[result.prospect_id],
            Status.CANCELLED.value if result.status in OPEN else result.status,
            ERASED if result.status in OPEN else _said(result.error),
            self._result_ids.get(result.cached_from),
            result.closed_at or self._at,
        )

    def _run_row(self, run: Row[Any]) -> tuple[Any, ...]:
        ended = run.status if run.closed_at else self._standing(run.id)
        return run.id, self._run_ids[run.id], self._pseudonyms[run.prospect_id], self._at, ended

    def _standing(self, run_id: str) -> str:
        return enrichment_status(
            result.status for result in self._results if result.run_id == run_id and result.status not in OPEN
        )


def _said(error: str | None) -> str | None:
    """Return what may stay of an error: the HTTP status. Its words may name somebody in a way that nobody foresaw."""
    if error is None:
        return None
    status = _HTTP_STATUS.match(error)
    return f"{status[0]}: {ERASED}" if status else ERASED


def _forget(connection: Connection, ids: Sequence[str]) -> None:
    for table in (answers, batch_rows):
        connection.execute(delete(table).where(table.c.prospect_id.in_(ids)))
    p = prospects.c
    gone = delete(prospects).where(p.id.in_(ids)).returning(p.tenant_id, p.created_at, p.covered_at)
    prospects_removed(connection, [(tenant, added, covered) for tenant, added, covered in connection.execute(gone)])


def _forget_answered(connection: Connection, tenants: set[str]) -> None:
    """Drop what requests with a key were answered, of which nobody can tell whom it names; the keys stay used."""
    k = idempotency_keys.c
    of_people = (k.tenant_id.in_({*tenants, ""}), k.status.is_not(None), k.batch_id.is_(None))
    connection.execute(update(idempotency_keys).where(*of_people).values(answer=None))


def _note(connection: Connection, people: Sequence[Row[Any]], calls: Mapping[str, int], why: Why) -> None:
    by_tenant: dict[str, list[str]] = {}
    for row in people:
        by_tenant.setdefault(row.tenant_id, []).append(row.id)
    for tenant_id, ids in by_tenant.items():
        values = {
            "id": new_id(),
            "tenant_id": tenant_id,
            "cause": why.cause,
            "erased_by": why.by,
            "erased_at": why.at,
            "prospects": len(ids),
            "attempts": sum(calls[key] for key in ids),
            "suppressed": why.suppress,
        }
        connection.execute(insert(erasures).values(values))


# What is shared by all tenants, and what deleting leaves behind.


def documents_naming(connection: Connection, people: Sequence[Person]) -> list[str]:
    """Return the keys of shared documents, such as public filings, that name one of these people.

    They cost nothing, and are fetched again when somebody else needs them.
    """
    found: set[str] = set()
    d = documents.c
    for words in (fold(person.name).split() for person in people):
        if len(words) > 1:
            query = select(d.request_key, d.reading).where(d.reading.icontains(words[-1], autoescape=True))
            both = {words[0], words[-1]}
            found |= {key for key, reading in connection.execute(query) if both <= set(fold(reading).split())}
    return sorted(found)


def drop_documents(connection: Connection, keys: Sequence[str]) -> int:
    """Drop shared documents; returns how many there were."""
    return connection.execute(delete(documents).where(documents.c.request_key.in_(keys))).rowcount if keys else 0


def traces_since(connection: Connection) -> str | None:
    """Return since when pieces of what was erased may be left in unused parts of the store's file, if they may."""
    return fact(connection, _TRACES)


def remove_traces(store: Store) -> bool:
    """Rewrite the store so that nothing is left in it of what was erased; returns whether that is done.

    Takes about 10 s per GB, in which nobody else can write. Raises `StoreUnavailable` where it cannot be done now.
    """
    done = leave_no_trace(store)
    if done:
        with store.change() as connection:
            note_no_traces(connection)
    return done


def note_no_traces(connection: Connection) -> None:
    """Note that nothing is left in the store's file of what was erased."""
    set_fact(connection, _TRACES, None)
