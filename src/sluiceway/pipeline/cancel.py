"""Ending what is open of a batch that was given up, without asking anybody: each open source result is `cancelled`."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

import msgspec
from sqlalchemy import Connection, select

from sluiceway.outcome import OPEN, Status, enrichment_status, read_statuses
from sluiceway.store.schema import prospects, runs, source_results
from sluiceway.usage.ledger import Close, CloseResult, CloseRun, Op

_WHY: Final = "the batch was cancelled"
_AT_ONCE: Final = 200


def who_has_open(connection: Connection, batch_id: str) -> set[str]:
    """Return the workers that have an open run of a batch."""
    r = runs.c
    query = select(r.worker_id).distinct().where(r.batch_id == batch_id, r.closed_at.is_(None))
    return set(connection.execute(query).scalars())


def endings(
    connection: Connection, batch_id: str, now: str, busy: Collection[str], others: Collection[str]
) -> list[Op]:
    """Return what ends some of a batch's open runs; none where none is open.

    `busy` prospects are somebody else's, and the runs of `others`, who are alive, are theirs to end.
    """
    r, p = runs.c, prospects.c
    query = select(r.id, r.prospect_id, p.enrichment_source_status).join(prospects, p.id == r.prospect_id)
    query = query.where(r.batch_id == batch_id, r.closed_at.is_(None))
    query = query.where(r.prospect_id.not_in(busy), r.worker_id.not_in(others))
    ops: list[Op] = []
    for run_id, prospect_id, stored in connection.execute(query.order_by(r.id).limit(_AT_ONCE)):
        s = source_results.c
        opened = select(s.id, s.source).where(s.run_id == run_id, s.status.in_([status.value for status in OPEN]))
        statuses = {name: said.status for name, said in read_statuses(msgspec.json.decode(stored)).items()}
        for result_id, source in connection.execute(opened):
            ops.append(CloseResult(Close(result_id, prospect_id, source, Status.CANCELLED.value, now, error=_WHY)))
            statuses[source] = Status.CANCELLED
        ops.append(CloseRun(run_id, prospect_id, now, enrichment_status(statuses.values())))
    return ops
