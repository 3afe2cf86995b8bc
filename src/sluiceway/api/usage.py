"""Usage: what the caller's tenant used, what limits hold for it, and calls that other code reports."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Any, Final

import msgspec
from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import Connection, select

from sluiceway.admin.tenant_usage import LimitsThatHold, TenantUsage, limits_that_hold, tenant_usage
from sluiceway.api.answers import Json, answers
from sluiceway.api.caller import Asker, who_may
from sluiceway.api.windows import Days
from sluiceway.errors import BadInput
from sluiceway.store.schema import external_usage
from sluiceway.tenancy.roles import Permission
from sluiceway.tenancy.scope import Scope
from sluiceway.usage.ledger import External, apply

router = APIRouter(prefix="/usage", tags=["usage"])

Reader = Annotated[Asker, who_may(Permission.READ_USAGE)]

_OLDEST_DAYS: Final = 90
_MOST_CALLS: Final = 10**9


@router.get("", name="read_usage", **answers(TenantUsage))
async def read(asker: Reader, days: Days = 30) -> Json:
    """Say what one's own tenant used, by provider and UTC day; what its own credentials paid for is told apart."""
    scope = Scope(asker.tenant_id)
    return Json(await asker.world.read(tenant_usage, scope, asker.world.now, days))


@router.get("/limits", name="read_limits", **answers(LimitsThatHold))
async def limits(asker: Reader) -> Json:
    """Say which limits hold for one's own tenant, and what is left of those that are its own."""
    scope = Scope(asker.tenant_id)
    return Json(await asker.world.read(limits_that_hold, scope, asker.tenant_id, asker.world.now))


class CallsAsked(BaseModel):
    """Calls to a provider that were made by code which is not Sluiceway's."""

    provider: str = Field(max_length=100, description="Whose calls: apollo, exa, …")
    calls: int = Field(ge=1, le=_MOST_CALLS, description="How many.")
    id: str = Field(min_length=1, max_length=200, description="A name of yours for this report; it counts once, ever.")
    day: date | None = Field(None, description="The UTC day they were made on, at most 90 days ago; today by default.")
    note: str | None = Field(None, max_length=500, description="Where they come from. Name no person here.")

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"provider": "apollo", "calls": 25, "id": "nightly-2026-11-24"}]},
    )


class Booked(msgspec.Struct, frozen=True):
    """Calls as they are in the books: for an id that was there, as it was first reported."""

    id: str
    provider: str
    day: str
    calls: int
    note: str | None
    booked_at: str


@router.post(
    "",
    name="report_usage",
    **answers(Booked, 201, also={200: Booked}, description="Booked (201); or it was already, and counts once (200)."),
)
async def report(asked: CallsAsked, asker: Annotated[Asker, who_may(Permission.BOOK_USAGE)]) -> Json:
    """Report calls to a provider made elsewhere, so that its daily counter is whole. The same id counts once.

    They are added to the counter of the provider and day, and are in no limit and no sum of money.
    """
    world = asker.world
    providers = sorted({source.provider for source in world.sources.values()})
    if asked.provider not in providers:
        raise BadInput(f"provider: {asked.provider!r} is no provider; there are {', '.join(providers)}")
    scope = Scope(asker.tenant_id)
    booking = External(
        booking_id(asker.tenant_id, asked.id), asked.provider, _day(asked.day, world.now), "tracked", asked.calls,
        world.stamp, asker.tenant_id, asked.note,
    )  # fmt: skip
    new, booked = await world.write(_book, booking, asked.id, scope)
    return Json(booked, 201 if new else 200)


def booking_id(tenant_id: str, given: str) -> str:
    """Return the id that a tenant's report is booked under: no other tenant's, whatever either is called."""
    return f"reported:{len(tenant_id)}:{tenant_id}:{given}"


def _day(given: date | None, now: datetime) -> str:
    today = now.astimezone(UTC).date()
    day = given or today
    if not today - timedelta(days=_OLDEST_DAYS) <= day <= today:
        raise BadInput(f"day: {day} is not one of the last {_OLDEST_DAYS} UTC days; today is {today}")
    return day.isoformat()


def _book(connection: Connection, booking: External, given: str, scope: Scope) -> tuple[bool, Booked]:
    (new,) = apply(connection, [booking])
    e = scope.of(external_usage).c
    columns: list[Any] = [e[name] for name in Booked.__struct_fields__[1:]]
    row = connection.execute(select(*columns).where(e.id == booking.id)).one()
    return new, Booked(given, *row)
