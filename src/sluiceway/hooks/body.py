"""What a delivery says, read from the store when it is sent: nothing about who is erased or suppressed by then."""

from __future__ import annotations

from typing import Any, Final

import msgspec
from sqlalchemy import Connection, Row, func, select

from sluiceway.hooks.deliveries import Delivery, Notice
from sluiceway.outcome import ERASED, SUPPRESSED, SourceStatus, read_statuses
from sluiceway.prospect import best
from sluiceway.rights.suppression import Suppressions, signs_of_row
from sluiceway.store.schema import batches, prospects, runs, source_results, usage_days


class Dropped(msgspec.Struct, frozen=True):
    """Why a delivery is not sent after all."""

    reason: str


class Said(msgspec.Struct, frozen=True):
    """The body of every delivery: `id` is the same on every try, `data` is what the event is about."""

    id: str
    event: str
    created_at: str
    tenant_id: str | None
    data: Any


class ToldRun(msgspec.Struct, frozen=True):
    """A run that ended."""

    id: str
    batch_id: str | None
    trigger: str
    status: str
    opened_at: str
    closed_at: str | None


class ToldResult(msgspec.Struct, frozen=True):
    """How one source's part of the run ended."""

    source: str
    status: str
    error: str | None
    closed_at: str | None


class ToldField(msgspec.Struct, frozen=True):
    """A value that is held, from which source and since when."""

    value: Any
    source: str
    at: str


class ToldProspect(msgspec.Struct, frozen=True):
    """The prospect as it is when the delivery is sent."""

    id: str
    external_id: str | None
    enrichment_status: str
    enrichment_source_status: dict[str, SourceStatus]
    fields: dict[str, ToldField]


class RunFinished(msgspec.Struct, frozen=True):
    """The data of `run.finished`."""

    run: ToldRun
    source_results: list[ToldResult]
    prospect: ToldProspect


class ToldSpend(msgspec.Struct, frozen=True):
    """What a provider was asked for a batch and what that cost; of `unpriced` calls the dollars are unknown."""

    attempts: int
    billed: int
    unknown: int
    milli_credits: int
    usd_micros: int
    unpriced: int


class BatchFinished(msgspec.Struct, frozen=True):
    """The data of `batch.finished`: how its results ended by source and status, and what was spent by provider."""

    id: str
    name: str
    state: str
    rows: int | None
    outcomes: dict[str, dict[str, int]]
    spent: dict[str, ToldSpend]
    finished_at: str | None


def body_of(connection: Connection, delivery: Delivery, suppressions: Suppressions) -> bytes | Dropped:
    """Return what a webhook is sent, or why it is sent nothing."""
    data = _data(connection, delivery, suppressions)
    return data if isinstance(data, Dropped) else in_envelope(delivery, data)


def _data(connection: Connection, delivery: Delivery, suppressions: Suppressions) -> Any:
    match delivery.event:
        case Notice.RUN_FINISHED:
            return _run(connection, delivery.target, suppressions)
        case Notice.BATCH_FINISHED:
            return _batch(connection, delivery.target)
        case _:
            return {}


def in_envelope(delivery: Delivery, data: Any) -> bytes:
    """Return a body with what every body has."""
    said = Said(delivery.id, delivery.event, delivery.created_at, delivery.tenant_id, data)
    return msgspec.json.encode(said)


def _run(connection: Connection, run_id: str, suppressions: Suppressions) -> RunFinished | Dropped:
    run = connection.execute(select(runs).where(runs.c.id == run_id)).first()
    if run is None:  # erasing a person gives the runs other ids
        return Dropped(ERASED)
    prospect = connection.execute(select(prospects).where(prospects.c.id == run.prospect_id)).first()
    if prospect is None:
        return Dropped(ERASED)
    if suppressions.surely_among(connection, {prospect.id: (prospect.tenant_id, signs_of_row(prospect))}):
        return Dropped(SUPPRESSED)
    s = source_results.c
    results = connection.execute(
        select(s.source, s.status, s.error, s.closed_at).where(s.run_id == run_id).order_by(s.source)
    )
    told = ToldRun(run.id, run.batch_id, run.trigger, run.status, run.opened_at, run.closed_at)
    return RunFinished(told, [ToldResult(*row) for row in results], _prospect(prospect))


def _prospect(row: Row[Any]) -> ToldProspect:
    held = best(msgspec.json.decode(row.fields))
    return ToldProspect(
        row.id,
        row.external_id,
        row.enrichment_status,
        read_statuses(msgspec.json.decode(row.enrichment_source_status)),
        {name: ToldField(value.value, value.source, value.at) for name, value in held.items()},
    )


def _batch(connection: Connection, batch_id: str) -> BatchFinished | Dropped:
    row = connection.execute(select(batches).where(batches.c.id == batch_id)).first()
    if row is None:
        return Dropped("there is no such batch any more")
    whose = (batch_id, row.tenant_id)  # a file may hold rows of other tenants
    outcomes, spent = _outcomes(connection, *whose), _spent(connection, *whose)
    return BatchFinished(row.id, row.name, _state(row), row.rows, outcomes, spent, row.finished_at)


def _state(row: Row[Any]) -> str:
    """Say where a batch stands; one that was asked for again since it ended is running."""
    if row.cancelled_at:
        return "cancelled"
    return "finished" if row.finished_at else "running"


def _outcomes(connection: Connection, batch_id: str, tenant_id: str) -> dict[str, dict[str, int]]:
    s, r = source_results.c, runs.c
    query = select(s.source, s.status, func.count()).join(runs, r.id == s.run_id)
    query = query.where(r.batch_id == batch_id, r.tenant_id == tenant_id)
    counted: dict[str, dict[str, int]] = {}
    for source, status, count in connection.execute(query.group_by(s.source, s.status).order_by(s.source, s.status)):
        counted.setdefault(source, {})[status] = count
    return counted


_SUMS: Final = ToldSpend.__struct_fields__


def _spent(connection: Connection, batch_id: str, tenant_id: str) -> dict[str, ToldSpend]:
    u = usage_days.c
    query = select(u.provider, *(func.sum(u[name]) for name in _SUMS))
    query = query.where(u.batch_id == batch_id, u.tenant_id == tenant_id)
    rows = connection.execute(query.group_by(u.provider).order_by(u.provider))
    return {provider: ToldSpend(*map(int, sums)) for provider, *sums in rows}
