"""The answers for whoever operates Sluiceway, below `/api/admin`: each says its days, as of when it is, and its tables.

`?tenant=` narrows any of them to one tenant. `docs/figures.md` says how every figure is computed.
"""

from __future__ import annotations

import csv
import io
from collections.abc import AsyncIterator
from typing import Annotated, Any, Final

import msgspec
from fastapi import APIRouter, Depends, Header, Query
from sqlalchemy import Connection
from starlette.responses import Response, StreamingResponse

from sluiceway.admin.answer import About, Window, days_between
from sluiceway.admin.dashboard import Dashboard, dashboard
from sluiceway.admin.errors import (
    ErrorGroups,
    ErrorRow,
    Errors,
    OldStatus,
    OneError,
    Wanted,
    error_feed,
    errors,
    one_error,
)
from sluiceway.admin.funnel import Funnel, funnel
from sluiceway.admin.health import Health, health
from sluiceway.admin.quota import Quotas, quotas
from sluiceway.admin.tenants import TenantsActivity, only, tenants_activity, with_users
from sluiceway.admin.usage import AttemptRow, Attempts, By, Counted, UsageRow, Which, attempts_behind, usage
from sluiceway.api import operate
from sluiceway.api.answers import Json, answers, in_text
from sluiceway.api.caller import Asker, who_may
from sluiceway.api.paging import CursorText, Limit, after, cursor
from sluiceway.api.windows import Days, Since, Until
from sluiceway.enriched_file import safe
from sluiceway.errors import BadInput
from sluiceway.outcome import FAILURES
from sluiceway.tenancy.roles import Permission
from sluiceway.tenancy.scope import Scope
from sluiceway.tenancy.tenants import all_tenants

router = APIRouter(prefix="/api/admin", tags=["admin"])
router.include_router(operate.router)

Operator = Annotated[Asker, who_may(Permission.OPERATE)]


@router.get("/dashboard", **answers(Dashboard))
async def read_dashboard(asker: Operator, days: Days = 14) -> Json:
    """Say how everything stands: prospects and coverage, how source results end, what is used, who is active."""
    return Json(await asker.world.read(dashboard, asker.scope, asker.world.now, days))


@router.get("/tenants/activity", name="read_tenants_activity", **answers(TenantsActivity))
async def read_tenants(
    asker: Operator,
    days: Days = 7,
    users: Annotated[bool, Query(description="Also say what each user did (`by_user`).")] = False,
) -> Json:
    """Say what every tenant did, and how it stands beside its peers; one that is named stands beside all of them."""
    known = [tenant.id for tenant in await asker.service.main.read(all_tenants)]
    return Json(await asker.world.read(_tenants, asker, days, known, users))


def _tenants(connection: Connection, asker: Asker, days: int, known: list[str], users: bool) -> TenantsActivity:
    everybody = Scope(None)
    found = tenants_activity(connection, everybody, asker.world.now, days, known)
    if asker.scope.tenant_id is not None:
        found = only(found, asker.scope.tenant_id)
    return with_users(connection, everybody, found) if users else found


@router.get("/enrichment/health", name="read_enrichment_health", **answers(Health))
async def read_health(asker: Operator, days: Days = 14) -> Json:
    """Say how each source is doing, by UTC day and over all: every outcome, p50 and p95, and its breaker."""
    providers = {name: source.provider for name, source in asker.world.sources.items()}
    return Json(await asker.world.read(health, asker.scope, asker.world.now, days, providers))


@router.get("/quota", **answers(Quotas))
async def read_quota(asker: Operator, days: Days = 14) -> Json:
    """Say what is used and left of every limit, ours and theirs, when it runs out, and what was used day by day."""
    return Json(await asker.world.read(quotas, asker.scope, asker.world.now, days))


@router.get("/funnel", **answers(Funnel))
async def read_funnel(asker: Operator, days: Days = 30) -> Json:
    """Say how far it goes from searches to exports, and what was spent on the way."""
    return Json(await asker.world.read(funnel, asker.scope, asker.world.now, days))


# What failed.


class FailedPage(msgspec.Struct, frozen=True):
    """Failed source results, newest first; `next_cursor` is `null` on the last page.

    `old` are failures an earlier system wrote down: when they were is not known, so they come on the last page.
    """

    about: About
    items: list[ErrorRow]
    next_cursor: str | None
    old: list[OldStatus]


def wanted(
    source: Annotated[str | None, Query(max_length=100, description="Only this source's.")] = None,
    status: Annotated[
        str | None,
        Query(alias="class", max_length=40, description=f"Only this class: {', '.join(sorted(FAILURES))}."),
    ] = None,
    text: Annotated[str | None, Query(max_length=200, description="Only with this in the group's message.")] = None,
) -> Wanted:
    """Return which failures are asked for."""
    return Wanted(None, source, status, text)


Failures = Annotated[Wanted, Depends(wanted)]


@router.get("/errors", **answers(FailedPage))
async def read_errors(
    asker: Operator,
    which: Failures,
    since: Since = None,
    until: Until = None,
    group: Annotated[str | None, Query(max_length=64, description="Only of this group (a fingerprint).")] = None,
    limit: Limit = 50,
    cursor_text: CursorText = None,
) -> Json:
    """List failed source results, newest first: of the last 14 UTC days, or from one day to another."""
    window = days_between(asker.world.now, since, until, 14)
    before = after(cursor_text, tuple[str, str])

    def page(connection: Connection) -> Errors:
        return errors(
            connection, asker.scope, asker.world.now, window, which, fingerprint=group, before=before, limit=limit
        )

    found = await asker.world.read(page)
    return Json(FailedPage(found.about, found.errors, cursor(*found.next) if found.next else None, found.old))


@router.get("/errors/groups", **answers(ErrorGroups))
async def read_error_groups(
    asker: Operator, which: Failures, since: Since = None, until: Until = None, limit: Limit = 200
) -> Json:
    """List what failed in groups of what failed alike, the one seen last first; `results` counts all groups."""
    window = days_between(asker.world.now, since, until, 14)

    def groups(connection: Connection) -> ErrorGroups:
        return error_feed(connection, asker.scope, asker.world.now, window, which, limit=limit)

    return Json(await asker.world.read(groups))


@router.get("/errors/{result_id}", **answers(OneError, problems=[404]))
async def read_error(result_id: str, asker: Operator) -> Json:
    """Open one failed source result to the attempts it led to, oldest first."""
    return Json(await asker.world.read(one_error, asker.scope, result_id))


# What was used.


class UsagePage(msgspec.Struct, frozen=True):
    """Rows by what was asked for, in the order of their keys. `total` is of all rows, on whatever page.

    `from_outside` are calls tracked or imported, of which only provider and day are known; they are in no row, and with
    a tenant they are not told (`null`).
    """

    about: About
    group_by: tuple[By, ...]
    items: list[UsageRow]
    total: Counted
    from_outside: int | None
    next_cursor: str | None
    how: str


def which_attempts(
    provider: Annotated[str | None, Query(max_length=100, description="Only calls to this provider.")] = None,
    user: Annotated[str | None, Query(max_length=200, description="A user's id; empty is nobody's.")] = None,
    key: Annotated[str | None, Query(max_length=200, description="An API key's id; empty is without one.")] = None,
    batch: Annotated[str | None, Query(max_length=200, description="A batch's id; empty is without one.")] = None,
    trigger: Annotated[str | None, Query(max_length=40, description="file, api, console, …")] = None,
    charge: Annotated[str | None, Query(max_length=40, description="billed, free, unknown, not_sent or open.")] = None,
    no_tenant: Annotated[bool, Query(description="Only what is done for no tenant in particular.")] = False,
) -> Which:
    """Return which attempts are asked for."""
    return Which(provider, "" if no_tenant else None, user, key, batch, trigger, charge)


These = Annotated[Which, Depends(which_attempts)]
GroupBy = Annotated[
    str,
    Query(
        max_length=40, description=f"One or two of {', '.join(By)}, separated by a comma.", examples=["provider,day"]
    ),
]
_MOST_ROWS: Final = 1000


@router.get("/usage", name="read_all_usage", **answers(UsagePage))
async def read_usage(
    asker: Operator,
    which: These,
    group_by: GroupBy = "provider",
    since: Since = None,
    until: Until = None,
    limit: Annotated[int, Query(ge=1, le=_MOST_ROWS, description="Rows in a page.")] = _MOST_ROWS,
    cursor_text: CursorText = None,
) -> Json:
    """Say what was called and what it cost, by one or two things; every call is in exactly one row."""
    names = _names(group_by)
    window, now = days_between(asker.world.now, since, until, 14), asker.world.now
    start = after(cursor_text, tuple[str, ...])

    def page(connection: Connection) -> UsagePage:
        found = usage(connection, asker.scope, now, window, names, which, after=start, limit=limit)
        outside = found.from_outside if asker.scope.tenant_id is None else None
        more = cursor(*found.next) if found.next else None
        return UsagePage(found.about, found.group_by, found.rows, found.total, outside, more, found.how)

    return Json(await asker.world.read(page))


def _names(listed: str) -> list[By]:
    names = [name.strip() for name in listed.split(",")]
    if unknown := [name for name in names if name not in set(By)]:
        raise BadInput(f"group_by: {unknown[0]!r} is not one of {', '.join(By)}")
    return [By(name) for name in names]


class AttemptsPage(msgspec.Struct, frozen=True):
    """Attempts, newest first. A page may hold fewer than were asked for, or none, and still have a next one.

    Single calls up to the UTC day `dropped_until` were dropped by age: of those, only sums are known.
    """

    about: About
    items: list[AttemptRow]
    next_cursor: str | None
    dropped_until: str | None


class Behind(msgspec.Struct, frozen=True):
    """Which attempts are behind a figure."""

    window: Window
    which: Which
    hour: int | None
    source: str | None

    def page(self, connection: Connection, asker: Asker, before: tuple[str, str] | None, limit: int) -> Attempts:
        """Return some of them."""
        return attempts_behind(
            connection, asker.scope, asker.world.now, self.window, self.which, hour=self.hour, source=self.source,
            before=before, limit=limit,
        )  # fmt: skip


@router.get(
    "/attempts",
    response_class=Response,
    responses={
        **answers(AttemptsPage)["responses"],
        200: {
            "description": "A page; or, for `Accept: text/csv` or `format=csv`, all of them as one stream.",
            "content": {
                **answers(AttemptsPage)["responses"][200]["content"],
                **in_text("text/csv", "All of them.")["content"],
            },
        },
    },
)
async def read_attempts(
    asker: Operator,
    which: These,
    since: Since = None,
    until: Until = None,
    hour: Annotated[int | None, Query(ge=0, le=23, description="Only of this UTC hour of the day.")] = None,
    source: Annotated[str | None, Query(max_length=100, description="Only this source's.")] = None,
    limit: Limit = 100,
    cursor_text: CursorText = None,
    form: Annotated[
        str | None, Query(alias="format", pattern="^(json|csv)$", description="Goes before what `Accept` says.")
    ] = None,
    accept: Annotated[str | None, Header(include_in_schema=False)] = None,
) -> Response:
    """List the attempts behind any figure, newest first, as pages or as CSV: of 14 UTC days, or from one to another."""
    behind = Behind(days_between(asker.world.now, since, until, 14), which, hour, source)
    start = after(cursor_text, tuple[str, str])
    if form == "csv" or (form is None and "text/csv" in (accept or "")):
        return StreamingResponse(_as_csv(asker, behind, start), media_type="text/csv", headers=_AS_FILE)
    found = await asker.world.read(behind.page, asker, start, limit)
    more = cursor(*found.next) if found.next else None
    return Json(AttemptsPage(found.about, found.attempts, more, found.dropped_until))


_AS_FILE: Final = {"Content-Disposition": 'attachment; filename="attempts.csv"'}
_ROWS_AT_ONCE: Final = 1000


async def _as_csv(asker: Asker, behind: Behind, start: tuple[str, str] | None) -> AsyncIterator[str]:
    """Write all attempts behind a figure, page by page, so that memory stays flat; what is not known is empty."""
    yield _csv_lines([AttemptRow.__struct_fields__])
    while True:
        found = await asker.world.read(behind.page, asker, start, _ROWS_AT_ONCE)
        yield _csv_lines([msgspec.structs.astuple(row) for row in found.attempts])
        start = found.next
        if start is None or asker.world.gate.draining.is_set():
            return


def _csv_lines(rows: list[tuple[Any, ...]]) -> str:
    text = io.StringIO()
    csv.writer(text).writerows([safe(cell) if isinstance(cell, str) else cell for cell in row] for row in rows)
    return text.getvalue()
