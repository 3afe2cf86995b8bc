"""Enriching: asking for many prospects at once, or for one and waiting for it; at a known price, and with a cap."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Annotated, Any, Final, Literal

import msgspec
from fastapi import APIRouter, Header, Request, Response
from pydantic import BaseModel, ConfigDict, Field, model_validator
from sqlalchemy import Connection, select

from sluiceway.api import prospects as of_prospects
from sluiceway.api.answers import Json, answers
from sluiceway.api.batches import ENDED, ShownBatch, Spender, found, show
from sluiceway.api.caller import Asker
from sluiceway.api.idempotency import IdempotencyKey, key_of
from sluiceway.api.prospects import ShownProspect, stamp_of
from sluiceway.errors import BadInput, Conflict, NotThere
from sluiceway.pipeline.batch import PAGE
from sluiceway.pipeline.estimate import SourceEstimate, estimate
from sluiceway.pipeline.once import Kept, Key, check_unfinished, claim, settle
from sluiceway.pipeline.requested import (
    MOST_NAMED,
    Cap,
    Terms,
    Wish,
    request_batch,
    request_upload,
)
from sluiceway.pipeline.selection import Selection
from sluiceway.prospect import Want
from sluiceway.store.schema import prospects as prospects_table
from sluiceway.tenancy.scope import Scope
from sluiceway.usage.quota import ANY_PROVIDER, Unit, amount_of

router = APIRouter(tags=["enriching"])

_LONGEST_WAIT_S: Final = 60.0


# What is asked for.


class CapAsked(BaseModel):
    """The most a batch may spend: dollars over all providers, and credits or requests of single ones."""

    model_config = ConfigDict(extra="forbid")

    usd: float | None = Field(None, ge=0, le=10**9, description="Dollars, over all providers together.")
    credits: dict[str, Annotated[float, Field(ge=0, le=10**12)]] = Field({}, description="Credits, by provider.")
    requests: dict[str, Annotated[int, Field(ge=0, le=10**12)]] = Field({}, description="Requests, by provider.")

    def caps(self, providers: set[str]) -> tuple[Cap, ...]:
        """Return the caps; raises `BadInput` for a provider there is none of."""
        if unknown := sorted({*self.credits, *self.requests} - providers):
            raise BadInput(f"cap: {unknown[0]!r} is no provider; there are {', '.join(sorted(providers))}")
        found = [Cap(p, Unit.CREDITS, amount_of(Unit.CREDITS, str(n))) for p, n in self.credits.items()]
        found += [Cap(p, Unit.REQUESTS, n) for p, n in self.requests.items()]
        if self.usd is not None:
            found.append(Cap(ANY_PROVIDER, Unit.USD, amount_of(Unit.USD, f"{self.usd:.6f}")))
        return tuple(found)


class HowAsked(BaseModel):
    """How prospects are enriched."""

    model_config = ConfigDict(extra="forbid")

    sources: list[str] = Field([], max_length=50, description="Which sources to ask; all there are by default.")
    want: list[Want] = Field([Want.WORK_EMAIL], max_length=3, description="Contact data to buy.")
    refresh: bool = Field(False, description="Buy again whatever was bought before now.")
    cap: CapAsked | None = Field(None, description="What this may spend at most.")

    def terms(self, asker: Asker, **more: Any) -> Terms:
        """Return how a batch is run; raises `BadInput` for a source there is none of."""
        known = asker.world.sources
        if unknown := sorted(set(self.sources) - known.keys()):
            raise BadInput(f"sources: {unknown[0]!r} is no source; there are {', '.join(sorted(known))}")
        return Terms(tuple(sorted(set(self.sources))), tuple(sorted(set(self.want))), **more)

    def wish(self, asker: Asker, name: str, **more: Any) -> Wish:
        """Return what is asked for, by whom and through what."""
        providers = {source.provider for source in asker.world.sources.values()}
        return Wish(
            tenant_id=asker.tenant_id,
            name=name,
            trigger=asker.trigger,
            terms=self.terms(asker, **more),
            refresh=self.refresh,
            caps=self.cap.caps(providers) if self.cap else (),
            user_id=asker.principal.user_id,
            api_key_id=asker.principal.key_id,
        )


SourceName = Annotated[str, Field(pattern=r"^[a-z0-9_-]{1,50}$")]


class SelectionAsked(BaseModel):
    """Prospects that are everything asked for here; an empty filter is all of them."""

    model_config = ConfigDict(extra="forbid")

    enrichment_status: list[Literal["none", "running", "complete", "no_data", "partial", "failed"]] = Field([])
    source_status: dict[SourceName, str] = Field({}, max_length=50, description='How sources stand: {"exa": "failed"}.')
    batch_id: str = Field("", max_length=100)
    text: str = Field("", max_length=200, description="Part of a name, company or address, in any case.")
    created_from: str = Field("", max_length=40, description="ISO 8601, UTC where it names no zone; included.")
    created_to: str = Field("", max_length=40, description="ISO 8601, UTC where it names no zone; not included.")

    def selection(self) -> Selection:
        """Return who is meant; raises `BadInput` for a moment that is none."""
        moments = {name: stamp_of(f"filter.{name}", getattr(self, name)) for name in ("created_from", "created_to")}
        return msgspec.convert({**self.model_dump(), **moments}, Selection)


class BatchAsked(HowAsked):
    """A request to enrich many prospects, who are named in exactly one of three ways."""

    name: str = Field("", max_length=200, description="What to call it.")
    prospects: list[str] | None = Field(None, max_length=MOST_NAMED, description="Their ids.")
    filter: SelectionAsked | None = Field(None, description="Who is meant, among all prospects there are by now.")
    upload: str | None = Field(None, max_length=100, description="The batch that an upload made.")
    dry_run: bool = Field(False, description="Only say what it would do and cost at most.")

    @model_validator(mode="after")
    def _one_way(self) -> BatchAsked:
        if sum(way is not None for way in (self.prospects, self.filter, self.upload)) != 1:
            raise ValueError("name the prospects by exactly one of `prospects`, `filter` and `upload`")
        return self

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {
                    "name": "failed at Exa this week",
                    "filter": {"source_status": {"exa": "failed"}},
                    "sources": ["exa", "claude"],
                    "cap": {"usd": 5.0, "credits": {"apollo": 131}},
                }
            ]
        },
    )


# What is answered.


class PriceOfSource(msgspec.Struct, frozen=True):
    """What one source would be asked: for how many, at most at what price, and why not for the others."""

    provider: str
    ask: int
    held: int
    skipped: dict[str, int]
    milli_credits: dict[str, int]
    usd_micros: int | None


class Price(msgspec.Struct, frozen=True):
    """What a batch would do and cost at most, `usd_micros` being `null` where a price is unknown."""

    prospects: int
    sources: dict[str, PriceOfSource]
    usd_micros: int | None


# Asking.


@router.post(
    "/batches",
    name="create_batch",
    **answers(
        ShownBatch, 202, problems=[404, 409], also={200: Price}, description="Accepted; `dry_run` answers 200 instead."
    ),
)
async def ask(asked: BatchAsked, request: Request, asker: Spender, key: IdempotencyKey = None) -> Response:
    """Enrich many prospects: named one by one, by a filter, or by an upload.

    Answers at once with one batch, which is worked on from then on, whatever happens to this process. With `dry_run`
    nothing is asked; it says what would be, and what that costs at most.
    """
    if asked.upload is not None:
        await asker.world.read(_check_upload, asked.upload, asker.scope)
    if asked.dry_run:
        return Json(await _price(asked, asker))
    selection = asked.filter.selection() if asked.filter is not None else None
    wish = asked.wish(asker, asked.name or "over the API", selection=selection)
    keyed = await key_of(request, asker, key)
    make = partial(_make, wish=wish, named=asked.prospects or [], upload=asked.upload, keyed=keyed, asker=asker)
    made = await asker.world.write(make)
    if isinstance(made, Kept):
        return _as_kept(asker, made)
    asker.world.runner.wake(made.id)
    return Json(made, 202, {"Location": f"/api/v1/batches/{made.id}"})


def _check_upload(connection: Connection, batch_id: str, scope: Scope) -> None:
    """Raise `NotThere` for a batch that is not theirs, and `Conflict` for one of a file given on the command line.

    Such a file may name other tenants, who are in its batch as well; it is known by its digest, an upload by its id.
    """
    row = found(connection, batch_id, scope)
    if row.digest != row.id:
        raise Conflict("this batch is a file that was given on the command line, and goes on only there")


def _make(
    connection: Connection, *, wish: Wish, named: list[str], upload: str | None, keyed: Key | None, asker: Asker
) -> ShownBatch | Kept:
    """Make a batch, with its key, or find what the same request made before."""
    now = asker.world.stamp
    kept = claim(connection, keyed, asker.world.worker_id, now) if keyed else None
    if kept is not None:
        return kept
    named = list(dict.fromkeys(named))
    _check_theirs(connection, named, asker.scope)
    if upload is None:
        batch_id = request_batch(connection, wish, named, now)
    else:
        batch_id = upload
        request_upload(connection, batch_id, wish, now)
    made = show(connection, batch_id, scope=asker.scope)
    if keyed:
        settle(connection, keyed, 202, msgspec.json.encode(made), batch_id)
    return made


def _check_theirs(connection: Connection, named: list[str], scope: Scope) -> None:
    """Raise `NotThere` when a prospect that is named is nobody's, or another tenant's."""
    p = scope.of(prospects_table)
    theirs: set[str] = set()
    for start in range(0, len(named), PAGE):
        theirs.update(connection.execute(select(p.c.id).where(p.c.id.in_(named[start : start + PAGE]))).scalars())
    if missing := [prospect_id for prospect_id in named if prospect_id not in theirs]:
        raise NotThere(f"there is no prospect {missing[0]!r}")


def _as_kept(asker: Asker, kept: Kept) -> Response:
    """Answer a request what the same one was answered before."""
    if kept.status is None:
        check_unfinished(asker.world.store, kept)
    headers = {"Location": f"/api/v1/batches/{kept.batch_id}"} if kept.status == 202 else {}
    return Response(kept.answer, kept.status or 200, headers, media_type="application/json")


async def _price(asked: BatchAsked, asker: Asker) -> Price:
    """Say what a batch would do, without keeping anything of it."""
    wish = asked.wish(asker, "price", selection=asked.filter.selection() if asked.filter is not None else None)
    check = partial(_check_theirs, scope=asker.scope)
    world = asker.world
    return _as_price(*await estimate(world.store, world.price, wish, asked.prospects, asked.upload, check))


def _as_price(seen: int, sources: dict[str, SourceEstimate]) -> Price:
    costs = [each.usd_micros for each in sources.values()]
    shown = {
        name: PriceOfSource(e.provider, e.ask, e.held, dict(e.skipped), dict(e.credits), e.usd_micros)
        for name, e in sources.items()
    }
    return Price(seen, shown, None if None in costs else sum(cost or 0 for cost in costs))


PREFER: Final = "`wait=20` waits so many seconds (60 at most) for the prospect to be done."


@router.post(
    "/prospects/{prospect_id}/enrich",
    name="enrich_prospect",
    **answers(
        ShownProspect,
        200,
        problems=[404, 409],
        also={202: ShownBatch},
        description="Done: the prospect (200); or not done in the time one waits, or nobody waits: the batch (202).",
    ),
)
async def enrich_one(
    prospect_id: str,
    request: Request,
    asker: Spender,
    asked: HowAsked | None = None,
    key: IdempotencyKey = None,
    prefer: Annotated[str | None, Header(description=PREFER, max_length=200)] = None,
) -> Response:
    """Enrich one prospect, before others; with `Prefer: wait=20` the answer is the enriched prospect itself."""
    prospect = await asker.world.read(of_prospects.one, prospect_id, asker)
    wait_s = waits(prefer)
    asker = msgspec.structs.replace(asker, scope=Scope(prospect.tenant_id))
    wish = (asked or HowAsked()).wish(asker, "one prospect", interactive=wait_s > 0)
    keyed = await key_of(request, asker, key)
    made = await asker.world.write(_make, wish=wish, named=[prospect_id], upload=None, keyed=keyed, asker=asker)
    if isinstance(made, Kept):
        return await _waited(asker, prospect_id, made.batch_id or "", wait_s)
    asker.world.runner.wake(made.id)
    return await _waited(asker, prospect_id, made.id, wait_s)


async def _waited(asker: Asker, prospect_id: str, batch_id: str, wait_s: float) -> Response:
    """Answer with the prospect if its batch ends in time, else with the batch."""
    over = asyncio.create_task(asker.world.runner.over(batch_id, wait_s))
    batch = await asker.world.read(show, batch_id, scope=asker.scope)
    if batch.state not in ENDED and await over:
        batch = await asker.world.read(show, batch_id, scope=asker.scope)
    over.cancel()
    if wait_s and batch.state in ENDED:
        return Json(await asker.world.read(of_prospects.one, prospect_id, asker), 200, _APPLIED)
    return Json(batch, 202, {"Location": f"/api/v1/batches/{batch_id}"})


_APPLIED: Final = {"Preference-Applied": "wait"}


def waits(prefer: str | None) -> float:
    """Return the seconds that a `Prefer` header says to wait."""
    for part in (prefer or "").split(","):
        name, _, value = part.strip().partition("=")
        if name.strip().lower() == "wait" and value.strip().isdecimal() and len(value) < 10:
            return min(float(value), _LONGEST_WAIT_S)
    return 0.0
