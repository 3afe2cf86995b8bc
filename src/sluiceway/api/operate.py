"""What operators change: limits, pauses, and what is known of a lost call; and the record of who changed what."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any, Literal

import msgspec
from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import Connection, literal_column, select
from starlette.responses import Response

from sluiceway.api.answers import Json, answers
from sluiceway.api.caller import Asker, who_may
from sluiceway.api.paging import CursorText, Limit, Page, after, cursor
from sluiceway.errors import BadInput, Conflict, NotThere
from sluiceway.outcome import ChargeKind
from sluiceway.pipeline.controls import all_pauses
from sluiceway.pipeline.gate import Pause
from sluiceway.pipeline.operate import change_quota, drop_quota, go_on, resolve_attempt, stop
from sluiceway.store.schema import attempts, corrections
from sluiceway.tenancy.audit import Entry, entries
from sluiceway.tenancy.roles import Permission
from sluiceway.tenancy.scope import Scope
from sluiceway.tenancy.tenants import is_there, know_tenants
from sluiceway.usage.quota import Opens, Quota, QuotaClock, Unit, amount_of
from sluiceway.usage.resolve import Resolution, Resolved

router = APIRouter(tags=["operating"])

Operator = Annotated[Asker, who_may(Permission.OPERATE)]


# Limits.


class QuotaAsked(BaseModel):
    """A limit on what may be spent of a provider, by everybody or for one tenant."""

    provider: str = Field(max_length=100)
    limit: float = Field(ge=0, le=10**15, description="How much: requests, credits or dollars.")
    unit: Literal["requests", "credits", "usd"] = "requests"
    per: Literal["second", "minute", "hour", "day", "cycle", "in_flight"] = "day"
    tenant: str | None = Field(None, max_length=200, description="Only what is spent for this tenant.")
    cycle_day: int | None = Field(None, ge=1, le=31, description="Day of the month on which a billing cycle starts.")
    first_request: bool = Field(False, description="Windows open at their first request.")
    warn_at: int = Field(80, ge=0, le=100, description="Say so at this percentage; 0 is never.")
    soft: bool = Field(False, description="Only warn; refuse nothing.")

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"provider": "apollo", "limit": 600, "per": "day"}]},
    )

    def quota(self, tenant_id: str | None) -> Quota:
        """Return the limit; raises `BadInput` for an amount that cannot be counted."""
        unit = Unit(self.unit)
        return Quota(
            provider=self.provider,
            unit=unit,
            clock=QuotaClock(self.per),
            amount=amount_of(unit, f"{self.limit:.6f}"),
            tenant_id=tenant_id,
            cycle_day=self.cycle_day,
            opens=Opens.FIRST_REQUEST if self.first_request else Opens.CALENDAR,
            warn_at_percent=self.warn_at or None,
            hard=not self.soft,
        )


class ShownQuota(msgspec.Struct, frozen=True):
    """A limit; `amount` is in requests, milli-credits or micro-dollars."""

    id: str
    provider: str
    tenant_id: str | None
    unit: Unit
    clock: QuotaClock
    amount: int
    shown: str
    hard: bool


@router.put("/quotas", **answers(ShownQuota, problems=[404]))
async def set_quota(asked: QuotaAsked, asker: Operator) -> Json:
    """Set a limit; it holds from the next call on, in every process, and replaces one of the same id."""
    _known_provider(asker, asked.provider)
    quota = asked.quota(asked.tenant or asker.scope.tenant_id)
    await _known_tenant(asker, quota.tenant_id)
    change = partial(change_quota, by=asker.principal.actor, user=asker.principal.user_id, now=asker.world.now)
    await asker.world.write(_with_tenant, quota.tenant_id, asker.world.stamp, partial(change, quota=quota))
    shown = ShownQuota(
        quota.id, quota.provider, quota.tenant_id, quota.unit, quota.clock, quota.amount, quota.shown(), quota.hard
    )
    return Json(shown)


@router.delete("/quotas/{quota_id:path}", **answers(None, 204, problems=[404]))
async def unset_quota(quota_id: str, asker: Operator) -> Response:
    """Take a limit away, from the next call on. Its id is in `GET /api/admin/quota`, such as `apollo/requests/day`."""
    who = {"by": asker.principal.actor, "user": asker.principal.user_id}
    if not await asker.world.write(drop_quota, quota_id, now=asker.world.now, **who):
        raise NotThere(f"there is no limit {quota_id!r}")
    return Response(status_code=204)


def _known_provider(asker: Asker, name: str) -> None:
    providers = _providers(asker)
    if name not in providers:
        raise BadInput(f"provider: {name!r} is no provider; there are {', '.join(providers)}")


def _providers(asker: Asker) -> list[str]:
    return sorted({source.provider for source in asker.world.sources.values()})


async def _known_tenant(asker: Asker, tenant_id: str | None) -> None:
    """Raise `NotThere` for a tenant there is none of: tenants are the main world's, whoever's world this is."""
    if tenant_id is not None and not await asker.service.main.read(is_there, tenant_id):
        raise NotThere(f"there is no tenant {tenant_id!r}")


def _with_tenant(connection: Connection, tenant_id: str | None, now: str, change: Any) -> Any:
    """Change something of a tenant that a sandbox's store may not know yet."""
    if tenant_id is not None:
        know_tenants(connection, [tenant_id], now)
    return change(connection)


# Pauses.

What = Literal["all", "provider", "tenant", "batch"]


class PauseAsked(BaseModel):
    """What to stop: everything, or one provider, tenant or batch."""

    what: What
    name: str = Field("", max_length=200, description="Which provider, tenant or batch; empty for everything.")
    reason: str | None = Field(
        None, max_length=500, description="Why; shown to operators, and of a tenant in its audit."
    )

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"what": "provider", "name": "apollo", "reason": "invoice in question"}]},
    )


class Pauses(msgspec.Struct, frozen=True):
    """Everything that persons have stopped."""

    items: list[Pause]


@router.get("/pauses", **answers(Pauses))
async def list_pauses(asker: Operator) -> Json:
    """List what persons have stopped. Breakers are in `GET /api/admin/enrichment/health`."""
    return Json(Pauses(await asker.world.read(all_pauses)))


@router.post("/pauses", name="pause_work", **answers(Pause, 201, problems=[404]))
async def pause(asked: PauseAsked, asker: Operator) -> Json:
    """Begin no new call for it within a second, in any process, until it is resumed; calls in flight are booked."""
    tenant_id = asked.name if asked.what == "tenant" else None
    await _known_tenant(asker, tenant_id)
    stopped = Pause(asked.what, asked.name, asker.principal.actor, asked.reason)
    stopping = partial(stop, pause=stopped, providers=_providers(asker), by=asker.principal.actor, now=asker.world.now)
    await asker.world.write(_with_tenant, tenant_id, asker.world.stamp, stopping)
    return Json(stopped, 201)


@router.delete("/pauses", name="resume_work", **answers(None, 204, problems=[404]))
async def resume(
    asker: Operator,
    what: Annotated[What, Query(description="What goes on.")],
    name: Annotated[str, Query(max_length=200, description="Which provider, tenant or batch.")] = "",
) -> Response:
    """Let go on what was paused; for a provider, also close its breakers, so that it is asked again at once."""
    lifted, closed = await asker.world.write(go_on, what, name, by=asker.principal.actor, now=asker.world.now)
    if not lifted and not closed:
        raise NotThere(f"{what} {name}".strip() + " is not paused")
    return Response(status_code=204)


# Calls of unknown charge.


class ResolutionAsked(BaseModel):
    """What somebody found out about a call whose answer was lost."""

    became: Literal["billed", "free"]
    note: str = Field(min_length=1, max_length=500, pattern=r"\S", description="How you know. Name no person here.")
    credit_count: float | None = Field(
        None, alias="credits", ge=0, lt=1e9, description="Credits it cost; by default the most it could, where known."
    )
    usd: float | None = Field(None, ge=0, lt=1e9, description="Dollars it cost; likewise.")

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"became": "billed", "note": "on the invoice of November"}]}
    )

    def resolution(self, by: str) -> Resolution:
        """Return what was found; raises `BadInput` for a free call that cost something."""
        if self.became == "free" and (self.credit_count is not None or self.usd is not None):
            raise BadInput("a free call costs nothing; leave credits and usd out")
        credits_, usd = self.credit_count, self.usd
        return Resolution(
            ChargeKind(self.became),
            self.note.strip(),
            by,
            milli_credits=None if credits_ is None else round(credits_ * 1000),
            usd_micros=None if usd is None else round(usd * 1_000_000),
        )


@router.post("/attempts/{attempt_id}/resolve", name="resolve_attempt", **answers(Resolved, problems=[404, 409]))
async def resolve(attempt_id: str, asked: ResolutionAsked, asker: Operator) -> Json:
    """Write down what became of a call of unknown charge: sums, counters and limits follow. It cannot be taken back."""
    found, by, now = asked.resolution(asker.principal.actor), asker.principal.actor, asker.world.now

    def write_down(connection: Connection) -> Resolved:
        _unknown(connection, attempt_id, asker.scope)
        return resolve_attempt(connection, attempt_id, found, by=by, now=now)

    return Json(await asker.world.write(write_down))


def _unknown(connection: Connection, attempt_id: str, scope: Scope) -> None:
    """Raise `NotThere` where no call of this id has an unknown charge, and `Conflict` where somebody found it out."""
    a, c = scope.of(attempts).c, corrections.c
    # written out, so that the index of these is used
    lost = a.charge == literal_column(f"'{ChargeKind.UNKNOWN}'")
    if connection.execute(select(a.id).where(lost, a.id == attempt_id)).first() is not None:
        return
    before = connection.execute(select(c.became, c.corrected_by).where(c.attempt_id == attempt_id)).first()
    if before is not None:
        raise Conflict(f"attempt {attempt_id} was found {before.became} already, by {before.corrected_by}")
    raise NotThere(f"there is no attempt {attempt_id!r} of unknown charge")


# Who changed what.


@router.get("/audit", **answers(Page[Entry]))
async def read_audit(asker: Operator, limit: Limit = 50, cursor_text: CursorText = None) -> Json:
    """List who changed what and who signed in, newest first. Entries are never changed."""
    start = after(cursor_text, tuple[str])
    page = partial(entries, tenant_id=asker.scope.tenant_id, before=start[0] if start else None, limit=limit + 1)
    found = await asker.world.read(page)
    return Json(Page(found[:limit], cursor(found[limit - 1].id) if len(found) > limit else None))
