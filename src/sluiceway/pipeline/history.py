"""What the ledger already knows about a page of prospects, read in a few queries for all of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from sqlalchemy import Connection, Row, func, select

from sluiceway.outcome import BOUGHT, Status
from sluiceway.prospect import Person, Prospect
from sluiceway.rights.suppression import Suppressions
from sluiceway.sign import all_signs
from sluiceway.sources._contract import Reading, Request
from sluiceway.store.schema import answers, attempts, prospects, runs, source_results


class Bought(msgspec.Struct, frozen=True):
    """A closed source result that was paid for (or proven empty), still fresh."""

    source_result_id: str
    status: str
    subject_key: str
    attempt_id: str | None


class OpenResult(msgspec.Struct, frozen=True):
    """One source's part of an open run; `status` tells whether it is closed already."""

    id: str
    source: str
    status: str


class Standing(msgspec.Struct, frozen=True):
    """A prospect's open run and who holds it."""

    run_id: str
    worker_id: str
    batch_id: str | None
    results: tuple[OpenResult, ...]


class Answered(msgspec.Struct, frozen=True):
    """The answer to a request that is in the ledger already."""

    attempt_id: str
    at: str
    reading: Reading


class History(msgspec.Struct):
    """Everything that decides what is asked about one prospect.

    `bought` is by source, newest first; `answered` by request key; `unknowns` counts, by source, the first request
    whose charge is unknown within the freshness window and every one sent after it. One who is `suppressed` is not
    asked about; `checked` is the version of the list that says so or not. `ended_in_batch` are the sources, each with
    what it was asked, whose results a closed run of this batch has, other than cancelled ones.
    """

    prospect: Prospect
    fields: dict[str, list[Any]]
    statuses: dict[str, Any]
    bought: dict[str, list[Bought]]
    answered: dict[str, Answered]
    unknowns: dict[str, int]
    last_run_id: str | None = None
    standing: Standing | None = None
    closed_in_batch: bool = False
    ended_in_batch: set[tuple[str, str]] = msgspec.field(default_factory=set)
    suppressed: bool = False
    checked: int | None = None

    def answer_to(self, request: Request, provider: str) -> Answered | None:
        """Return the answer to a request that is in the ledger already."""
        return self.answered.get(request.key(provider)) if self.answered else None


def load(
    connection: Connection,
    ids: Sequence[str],
    *,
    since: str,
    batch_id: str | None,
    suppressions: Suppressions | None = None,
) -> list[History]:
    """Read the histories of some prospects, in the order asked; `since` opens the freshness window.

    Those who were erased are left out.
    """
    found = {row.id: _history(row) for row in connection.execute(select(prospects).where(prospects.c.id.in_(ids)))}
    _add_bought(connection, found, since)
    _add_answered(connection, found, since)
    _add_unknowns(connection, found, since)
    _add_standing(connection, found)
    _add_closed(connection, found, batch_id)
    if suppressions is not None:
        _add_suppressed(connection, found, suppressions)
    return [found[key] for key in ids if key in found]


def _history(row: Row[Any]) -> History:
    person = msgspec.json.decode(row.person, type=Person)
    return History(
        Prospect(row.id, row.tenant_id, person),
        msgspec.json.decode(row.fields),
        msgspec.json.decode(row.enrichment_source_status),
        bought={},
        answered={},
        unknowns={},
        last_run_id=row.last_run_id,
    )


def _add_bought(connection: Connection, found: dict[str, History], since: str) -> None:
    r = source_results.c
    query = select(r.prospect_id, r.source, r.id, r.status, r.subject_key, r.attempt_id)
    query = query.where(r.prospect_id.in_(found), r.status.in_(BOUGHT), r.closed_at >= since)
    for prospect_id, source, *bought in connection.execute(query.order_by(r.closed_at.desc())):
        found[prospect_id].bought.setdefault(source, []).append(Bought(*bought))


def _add_answered(connection: Connection, found: dict[str, History], since: str) -> None:
    a = answers.c
    query = select(a.prospect_id, a.request_key, a.attempt_id, a.at, a.reading)
    query = query.where(a.prospect_id.in_(found), a.at >= since).order_by(a.at)
    for prospect_id, request_key, attempt_id, at, reading in connection.execute(query):
        answered = Answered(attempt_id, at, msgspec.json.decode(reading, type=Reading))
        found[prospect_id].answered[request_key] = answered


def _add_unknowns(connection: Connection, found: dict[str, History], since: str) -> None:
    a, r = attempts.c, source_results.c
    query = select(a.prospect_id, a.source, func.min(a.id))
    query = query.where(a.prospect_id.in_(found), a.charge == "unknown", a.begun_at >= since)
    first = {(p, source): at for p, source, at in connection.execute(query.group_by(a.prospect_id, a.source))}
    if not first:
        return
    query = select(r.prospect_id, r.source, a.id).join(attempts, a.source_result_id == r.id)
    query = query.where(r.prospect_id.in_({key[0] for key in first}), func.coalesce(a.charge, "") != "not_sent")
    for prospect_id, source, attempt_id in connection.execute(query):
        if attempt_id >= first.get((prospect_id, source), "~"):
            unknowns = found[prospect_id].unknowns
            unknowns[source] = unknowns.get(source, 0) + 1


def _add_standing(connection: Connection, found: dict[str, History]) -> None:
    query = select(runs).where(runs.c.prospect_id.in_(found), runs.c.closed_at.is_(None))
    open_runs = {row.id: row for row in connection.execute(query)}
    if not open_runs:
        return
    r = source_results.c
    results: dict[str, list[OpenResult]] = {}
    query = select(r.run_id, r.id, r.source, r.status).where(r.run_id.in_(open_runs))
    for run_id, *result in connection.execute(query):
        results.setdefault(run_id, []).append(OpenResult(*result))
    for run_id, row in open_runs.items():
        standing = Standing(run_id, row.worker_id, row.batch_id, tuple(results.get(run_id, ())))
        found[row.prospect_id].standing = standing


def _add_closed(connection: Connection, found: dict[str, History], batch_id: str | None) -> None:
    query = select(runs.c.prospect_id, source_results.c.source, source_results.c.subject_key, source_results.c.status)
    query = query.join(source_results, source_results.c.run_id == runs.c.id)
    query = query.where(runs.c.batch_id == batch_id, runs.c.prospect_id.in_(found), runs.c.closed_at.is_not(None))
    for prospect_id, source, subject_key, status in connection.execute(query):
        found[prospect_id].closed_in_batch = True
        if status != Status.CANCELLED:
            found[prospect_id].ended_in_batch.add((source, subject_key))


def _add_suppressed(connection: Connection, found: dict[str, History], suppressions: Suppressions) -> None:
    version = suppressions.look(connection)
    shown = {}
    for key, history in found.items():
        history.checked = version
        if not suppressions.is_empty:
            shown[key] = (history.prospect.tenant_id, all_signs(history.prospect.person, history.fields))
    for key in suppressions.among(connection, shown):
        found[key].suppressed = True


def fresh_purchase(history: History, source: str, subject_key: str) -> Bought | None:
    """Return the purchase that makes asking this source again pointless, if there is one.

    `complete` holds while the same contact data is wanted; `no_data` only for exactly the same asking.
    """
    wanted = subject_key.partition("|")[0]
    for bought in history.bought.get(source, ()):
        if bought.subject_key == subject_key:
            return bought
        if bought.status == Status.COMPLETE and bought.subject_key.partition("|")[0] == wanted:
            return bought
    return None
