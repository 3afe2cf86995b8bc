"""Prospects: who was asked about, what is held about them and from where, and how each source stands."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from fastapi import APIRouter
from sqlalchemy import Connection, select

from sluiceway.activity import Action
from sluiceway.api.answers import Json, answers
from sluiceway.api.caller import Asker, who_may
from sluiceway.errors import NotThere
from sluiceway.outcome import SourceStatus, read_statuses
from sluiceway.prospect import Person, best
from sluiceway.store.schema import prospects
from sluiceway.tenancy.roles import Permission
from sluiceway.tenancy.scope import Scope

router = APIRouter(prefix="/prospects", tags=["prospects"])


class ShownField(msgspec.Struct, frozen=True):
    """A value that is held, with where it comes from; `confidence` is 0 to 100."""

    value: Any
    source: str
    at: str
    attempt_id: str | None
    confidence: int


class ShownProspect(msgspec.Struct, frozen=True):
    """One prospect. `enrichment_source_status` says how each source stands, `enrichment_status` sums it up."""

    id: str
    tenant_id: str
    external_id: str | None
    person: Person
    fields: dict[str, ShownField]
    enrichment_status: str
    enrichment_source_status: dict[str, SourceStatus]
    last_run_id: str | None
    created_at: str


def shown(row: Any) -> ShownProspect:
    """Return a row as it is shown."""
    held = best(msgspec.json.decode(row.fields))
    return ShownProspect(
        id=row.id,
        tenant_id=row.tenant_id,
        external_id=row.external_id,
        person=msgspec.json.decode(row.person, type=Person),
        fields={name: ShownField(v.value, v.source, v.at, v.attempt_id, v.confidence) for name, v in held.items()},
        enrichment_status=row.enrichment_status,
        enrichment_source_status=read_statuses(msgspec.json.decode(row.enrichment_source_status)),
        last_run_id=row.last_run_id,
        created_at=row.created_at,
    )


def one(connection: Connection, prospect_id: str, *, scope: Scope) -> ShownProspect:
    """Return a prospect; raises `NotThere` for one that is nobody's, or another tenant's."""
    p = scope.of(prospects)
    row = connection.execute(select(p).where(p.c.id == prospect_id)).first()
    if row is None:
        raise NotThere(f"there is no prospect {prospect_id!r}")
    return shown(row)


@router.get("/{prospect_id}", **answers(ShownProspect, problems=[404]))
async def read(prospect_id: str, asker: Annotated[Asker, who_may(Permission.READ_PROSPECTS)]) -> Json:
    """Read one prospect: every field with its source, and how each source stands. Recorded as a profile view."""
    found = await asker.world.read(one, prospect_id, scope=asker.scope)
    asker.world.post(asker.did(Action.PROFILE_VIEWED, prospect_id, found.tenant_id))
    return Json(found)
