"""What is held about a person, for that person: values and where they came from, since when, what for, who asked."""

from __future__ import annotations

from typing import Any

import msgspec
from sqlalchemy import Connection, Row, select

from sluiceway.activity import Done, done_to
from sluiceway.outcome import SourceStatus, read_statuses
from sluiceway.prospect import Person
from sluiceway.rights.suppression import Suppressions, signs_of_row
from sluiceway.store.facts import ledger_horizon
from sluiceway.store.schema import answers, attempts, batch_rows, batches, prospects, source_results


class HeldValue(msgspec.Struct, frozen=True):
    """One value, which source said so, when, and how sure that is (0 to 100)."""

    field: str
    value: Any
    source: str
    since: str
    confidence: int


class KeptAnswer(msgspec.Struct, frozen=True):
    """What a provider answered, as it is kept so that it need not be asked again; `about_them` tells a sure match."""

    source: str
    at: str
    about_them: bool
    found: list[Any]
    data: Any


class Call(msgspec.Struct, frozen=True):
    """One request to a provider about the person; what was sent is not kept, only that it was."""

    at: str
    provider: str
    source: str
    endpoint: str
    trigger: str
    asked_by: str | None
    charge: str | None


class Batch(msgspec.Struct, frozen=True):
    """A file or request that the person was in. Whoever gave it got the enriched file, last at `finished_at`."""

    batch_id: str
    name: str
    trigger: str
    asked_by: str | None
    rows: list[int]
    since: str
    finished_at: str | None


class Report(msgspec.Struct, frozen=True):
    """All that is held about one prospect. `purpose` is what the operator says it is for; `None` if they do not say.

    `done` is which users viewed, enriched or exported it. Calls up to `calls_kept_after` (a UTC day) were dropped by
    age.
    """

    prospect_id: str
    tenant_id: str
    as_asked: Person
    external_id: str | None
    since: str
    purpose: str | None
    suppressed: bool
    values: list[HeldValue]
    sources: dict[str, SourceStatus]
    answers: list[KeptAnswer]
    calls: list[Call]
    calls_kept_after: str | None
    batches: list[Batch]
    done: list[Done]


def report(connection: Connection, prospect_id: str, purpose: str, suppressions: Suppressions) -> Report | None:
    """Say everything that is held about one prospect; `None` if there is no such prospect."""
    row = connection.execute(select(prospects).where(prospects.c.id == prospect_id)).first()
    if row is None:
        return None
    on_list = suppressions.surely_among(connection, {row.id: (row.tenant_id, signs_of_row(row))})
    return Report(
        prospect_id=row.id,
        tenant_id=row.tenant_id,
        as_asked=msgspec.json.decode(row.person, type=Person),
        external_id=row.external_id,
        since=row.created_at,
        purpose=purpose or None,
        suppressed=bool(on_list),
        values=_values(row),
        sources=read_statuses(msgspec.json.decode(row.enrichment_source_status)),
        answers=_answers(connection, prospect_id),
        calls=_calls(connection, prospect_id),
        calls_kept_after=ledger_horizon(connection),
        batches=_batches(connection, prospect_id),
        done=done_to(connection, row.tenant_id, prospect_id),
    )


def _values(row: Row[Any]) -> list[HeldValue]:
    held = []
    for key, (value, at, _, confidence) in sorted(msgspec.json.decode(row.fields).items()):
        field, _, source = key.partition(":")
        held.append(HeldValue(field, value, source, at, confidence))
    return held


def _answers(connection: Connection, prospect_id: str) -> list[KeptAnswer]:
    a = answers.c
    query = select(a.source, a.at, a.reading).where(a.prospect_id == prospect_id).order_by(a.at)
    kept = []
    for source, at, text in connection.execute(query):
        reading = msgspec.json.decode(text)
        found = [[item["field"], item["value"]] for item in reading.get("found", ())]
        kept.append(KeptAnswer(source, at, reading.get("match") != "weak", found, reading.get("data")))
    return kept


def _calls(connection: Connection, prospect_id: str) -> list[Call]:
    a, mine = attempts.c, select(source_results.c.id).where(source_results.c.prospect_id == prospect_id)
    columns = (a.begun_at, a.provider, a.source, a.endpoint, a.trigger, a.user_id, a.charge)
    query = select(*columns).where(a.source_result_id.in_(mine)).order_by(a.id)
    return [Call(*row) for row in connection.execute(query)]


def _batches(connection: Connection, prospect_id: str) -> list[Batch]:
    b, r = batches.c, batch_rows.c
    columns = (b.id, b.name, b.trigger, b.asked_by, b.created_at, b.finished_at, r.number)
    query = select(*columns).join(batches, b.id == r.batch_id).where(r.prospect_id == prospect_id)
    found: dict[str, Batch] = {}
    for row in connection.execute(query.order_by(b.created_at, b.id, r.number)):
        batch = Batch(row.id, row.name, row.trigger, row.asked_by, [], row.created_at, row.finished_at)
        found.setdefault(row.id, batch).rows.append(row.number + 1)
    return list(found.values())
