"""One run as it happened, for a person to read."""

from __future__ import annotations

from typing import Any

import msgspec
from sqlalchemy import Connection, Row, select

from sluiceway.prospect import Person
from sluiceway.store.schema import attempts, prospects, runs, source_results


class ShownResult(msgspec.Struct, frozen=True):
    """One source's part of the run."""

    source: str
    status: str
    error: str | None
    cached_from: str | None
    opened_at: str
    closed_at: str | None


class ShownCall(msgspec.Struct, frozen=True):
    """One request of the run. Amounts are milli-credits, micro-dollars and microseconds; `null` is unknown."""

    id: str
    begun_at: str
    finished_at: str | None
    source: str
    endpoint: str
    result: str | None
    http_status: int | None
    charge: str | None
    milli_credits: int | None
    usd_micros: int | None
    latency_us: int | None
    error: str | None


class ShownRun(msgspec.Struct, frozen=True):
    """One run in a list."""

    run_id: str
    tenant_id: str
    name: str
    status: str
    opened_at: str
    closed_at: str | None


class Timeline(msgspec.Struct, frozen=True):
    """A run with its source results and its requests, both in time order."""

    run_id: str
    tenant_id: str
    prospect_id: str
    name: str
    status: str
    opened_at: str
    closed_at: str | None
    results: list[ShownResult]
    calls: list[ShownCall]


def timeline(connection: Connection, start_of_id: str) -> Timeline | None:
    """Return the newest run whose id, or whose prospect's id, begins so; `None` if there is none."""
    query = _runs().where(runs.c.id.startswith(start_of_id, autoescape=True)).limit(1)
    run = connection.execute(query).first()
    if run is None:
        query = _runs().where(runs.c.prospect_id.startswith(start_of_id, autoescape=True)).limit(1)
        run = connection.execute(query).first()
    return _timeline(connection, run) if run is not None else None


def latest_runs(connection: Connection, limit: int) -> list[ShownRun]:
    """Return the newest runs, newest first."""
    return [
        ShownRun(run.id, run.tenant_id, _name(run), run.status, run.opened_at, run.closed_at)
        for run in connection.execute(_runs().limit(limit))
    ]


def _runs() -> Any:
    query = select(runs, prospects.c.person).join(prospects, prospects.c.id == runs.c.prospect_id)
    return query.order_by(runs.c.id.desc())


def _timeline(connection: Connection, run: Row[Any]) -> Timeline:
    r, a = source_results.c, attempts.c
    columns = [r[name] for name in ShownResult.__struct_fields__]
    results = connection.execute(select(*columns).where(r.run_id == run.id).order_by(r.closed_at, r.source))
    columns = [a[name] for name in ShownCall.__struct_fields__]
    mine = a.source_result_id.in_(select(r.id).where(r.run_id == run.id))
    calls = connection.execute(select(*columns).where(mine).order_by(a.id))
    return Timeline(
        run_id=run.id,
        tenant_id=run.tenant_id,
        prospect_id=run.prospect_id,
        name=_name(run),
        status=run.status,
        opened_at=run.opened_at,
        closed_at=run.closed_at,
        results=[ShownResult(*row) for row in results],
        calls=[ShownCall(*row) for row in calls],
    )


def _name(run: Row[Any]) -> str:
    person = msgspec.json.decode(run.person, type=Person)
    return person.name or person.email or person.linkedin_url
