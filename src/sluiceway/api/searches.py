"""Searches: looking for people at a provider, and importing those who were found as prospects."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Final, Literal

import msgspec
from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import Connection

from sluiceway import activity
from sluiceway.activity import Action
from sluiceway.api.answers import Json, answers
from sluiceway.api.caller import Asker, who_may
from sluiceway.api.idempotency import IdempotencyKey, key_of
from sluiceway.api.problems import problem
from sluiceway.errors import StoreUnavailable
from sluiceway.outcome import ChargeKind, parse_timestamp
from sluiceway.pipeline.caller import Obtained
from sluiceway.pipeline.gate import Exhausted, Held
from sluiceway.pipeline.importing import Became, Imported, import_people
from sluiceway.pipeline.once import Kept, Key, check_unfinished, claim, release, settle
from sluiceway.pipeline.search import ask, page_in, searcher
from sluiceway.pipeline.turns import Behalf
from sluiceway.prospect import Person
from sluiceway.sources import FoundPage, FoundPerson, Search, Source
from sluiceway.tenancy.roles import Permission

router = APIRouter(tags=["searches"])

Searcher = Annotated[Asker, who_may(Permission.SEARCH)]
Writer = Annotated[Asker, who_may(Permission.WRITE_PROSPECTS)]

_MOST_IMPORTED: Final = 100
Words = Annotated[str, Field(min_length=1, max_length=100)]
Seniority = Literal[
    "owner", "founder", "c_suite", "partner", "vp", "head", "director", "manager", "senior", "entry", "intern"
]


# What is asked for.


class Employees(BaseModel):
    """How many people an employer has: from `least` to `most`."""

    model_config = ConfigDict(extra="forbid")

    least: int = Field(1, ge=1, le=10**7)
    most: int = Field(10**7, ge=1, le=10**7)


class SearchAsked(BaseModel):
    """Whom to look for: people who are everything that is said here, and of each list at least one."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {
                    "titles": ["chief financial officer"],
                    "organization_locations": ["Netherlands"],
                    "employees": [{"least": 200, "most": 2000}],
                    "per_page": 10,
                }
            ]
        },
    )

    titles: list[Words] = Field([], max_length=20)
    similar_titles: bool = Field(True, description="Also people whose titles are like these.")
    keywords: str = Field("", max_length=200, description="Words from anywhere in what is known of somebody.")
    locations: list[Words] = Field([], max_length=20, description="Where people live.")
    seniorities: list[Seniority] = Field([], max_length=11)
    organization_locations: list[Words] = Field([], max_length=20, description="Where their employer has its seat.")
    organization_domains: list[Words] = Field([], max_length=50, description="Their employer's domain, without `www.`")
    employees: list[Employees] = Field([], max_length=10)
    page: int = Field(1, ge=1, le=500)
    per_page: int = Field(25, ge=1, le=100)

    def search(self) -> Search:
        """Return what sources understand."""
        return msgspec.convert(self.model_dump(), Search)


class PersonFound(BaseModel):
    """Somebody whom a search found, as it was answered; the half of a last name and what they `have` are not kept."""

    model_config = ConfigDict(extra="forbid")

    apollo_id: str = Field(pattern=r"^[0-9A-Za-z_-]{1,64}$", description="By what Apollo knows them.")
    first_name: str = Field("", max_length=200)
    last_name_obfuscated: str = Field("", max_length=200)
    title: str = Field("", max_length=200)
    company: str = Field("", max_length=200)
    domain: str = Field("", max_length=200, description="Their employer's, where you know it.")
    has_email: bool | None = None
    has_direct_phone: bool | None = None
    refreshed_at: str | None = Field(None, max_length=200)

    def person(self) -> Person:
        """Return who is meant. No last name: half of one would pass for a name."""
        return Person(
            first_name=self.first_name,
            company=self.company,
            domain=self.domain,
            title=self.title,
            apollo_id=self.apollo_id,
        )


class ImportAsked(BaseModel):
    """People to make prospects of."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {
                    "people": [
                        {
                            "apollo_id": "66f0a1b2c3d4e5f60718293a",
                            "first_name": "Ines",
                            "title": "Chief Financial Officer",
                            "company": "Harbourline Robotics",
                        }
                    ]
                }
            ]
        },
    )

    people: list[PersonFound] = Field(min_length=1, max_length=_MOST_IMPORTED)


# What is answered.


class ShownSearch(msgspec.Struct, frozen=True):
    """One page of people. `total` is how many there are on all pages; `null` where the provider did not say.

    `attempt_id` is the call in the ledger; it is free.
    """

    attempt_id: str
    source: str
    total: int | None
    page: int
    per_page: int
    people: tuple[FoundPerson, ...]


class ShownImport(msgspec.Struct, frozen=True):
    """What became of one person: `imported`, `known` before, or `suppressed`, who is not stored."""

    apollo_id: str
    outcome: Became
    prospect_id: str | None


class ShownImports(msgspec.Struct, frozen=True):
    """What became of everybody who was to be imported, in the same order."""

    people: list[ShownImport]


_EXAMPLE: Final = {
    "attempt_id": "01a219e438f874d2b7c3",
    "source": "apollo",
    "total": 1204,
    "page": 1,
    "per_page": 1,
    "people": [
        {
            "apollo_id": "66f0a1b2c3d4e5f60718293a",
            "first_name": "Ines",
            "last_name_obfuscated": "Ok***d",
            "title": "Chief Financial Officer",
            "company": "Harbourline Robotics",
            "has_email": True,
            "has_direct_phone": None,
            "refreshed_at": "2026-09-30T08:12:44.101+00:00",
        }
    ],
}


# Searching.


@router.post("/searches", **answers(ShownSearch, problems=[409, 429], description="What was found.", example=_EXAMPLE))
async def search(asked: SearchAsked, request: Request, asker: Searcher, key: IdempotencyKey = None) -> Response:
    """Look for people at Apollo: one call, which costs nothing and brings no contact data.

    A day's or a cycle's limit of ours that is used up is a 429. What keeps the call from being sent or answered now is
    a 503, with `retry_at` where that is known.
    """
    world = asker.world
    own = world.own(asker.tenant_id)
    source, wanted = searcher(asked.search(), world.sources, world.unusable, own)
    keyed = await key_of(request, asker, key)
    kept = await _claimed(asker, keyed) if keyed else None
    if kept is not None:
        return _as_kept(asker, kept)
    try:
        obtained = await ask(
            source,
            wanted,
            _behalf(asker),
            named=asked.keywords,
            caller=world.caller(),
            writer=world.writer,
            clock=world.store.clock,
        )
    except (Held, Exhausted) as reason:
        await _give_back(asker, keyed)
        return _not_sent(asker, reason)
    return await _ended(asker, keyed, source, asked, obtained)


async def _claimed(asker: Asker, keyed: Key) -> Kept | None:
    """Take a key; one that could not be taken in time is given back when it is, for nothing is sent under it."""
    world, now = asker.world, asker.world.stamp
    try:
        return await world.write(claim, keyed, world.worker_id, now)
    except StoreUnavailable:
        world.post(partial(release, key=keyed, taken_at=now))
        raise


def _behalf(asker: Asker) -> Behalf:
    principal = asker.principal
    return Behalf(asker.trigger, asker.tenant_id, user_id=principal.user_id, api_key_id=principal.key_id)


async def _ended(asker: Asker, keyed: Key | None, source: Source, asked: SearchAsked, obtained: Obtained) -> Response:
    """Answer a search that was sent; its answer is kept under its key, unless it came to nothing and cost nothing."""
    page = page_in(obtained)
    if page is not None:
        found = _shown(page, source, asked, obtained)
        done = asker.did(Action.SEARCH_EXECUTED)
        await asker.world.write(_keep, keyed, 200, msgspec.json.encode(found), [done])
        return Json(found)
    refusal = _refused(asker, source, obtained)
    if obtained.reading.charge.kind is ChargeKind.UNKNOWN:
        await asker.world.write(_keep, keyed, refusal.status_code, bytes(refusal.body), [])
    else:
        await _give_back(asker, keyed)
    return refusal


def _shown(page: FoundPage, source: Source, asked: SearchAsked, obtained: Obtained) -> ShownSearch:
    return ShownSearch(obtained.finish.id, source.name, page.total, asked.page, asked.per_page, page.people)


def _keep(connection: Connection, keyed: Key | None, status: int, answer: bytes, done: list[activity.Event]) -> None:
    """Keep what a search was answered, and that it was made."""
    if keyed:
        settle(connection, keyed, status, answer)
    activity.record(connection, done)


async def _give_back(asker: Asker, keyed: Key | None) -> None:
    if keyed:
        await asker.world.write(release, keyed)


def _as_kept(asker: Asker, kept: Kept) -> Response:
    """Answer a search what the same one was answered before."""
    if kept.status is None:
        check_unfinished(asker.world.store, kept)
    status = kept.status or 200
    kind = "application/json" if status < 400 else "application/problem+json"
    return Response(kept.answer, status, media_type=kind)


def _not_sent(asker: Asker, reason: Held | Exhausted) -> Response:
    """Say why a search was not sent, and when to ask again."""
    if isinstance(reason, Exhausted):
        return _later(asker, 429, f"not sent: {reason}", reason.retry_at)
    return _later(asker, 503, f"not sent: {reason}", reason.wake_at)


def _refused(asker: Asker, source: Source, obtained: Obtained) -> Response:
    """Say what a provider said instead of whom it found."""
    reading, finish = obtained.reading, obtained.finish
    said = f"{source.title} did not find anybody: {reading.error} (attempt {finish.id})"
    if reading.status == "failed" and finish.http_status in (400, 422):
        return problem(422, said)
    return _later(asker, 503, said, obtained.retry_at)


def _later(asker: Asker, status: int, detail: str, retry_at: str | None) -> Response:
    """Return a problem that passes, with the time at which it will have where that is known."""
    moment = parse_timestamp(retry_at) if retry_at else None
    if moment is None:
        return problem(status, detail)
    seconds = max(1, int((moment - asker.world.now).total_seconds()) + 1)
    return problem(status, detail, {"Retry-After": str(seconds)}, retry_at=retry_at)


# Importing.


@router.post(
    "/prospects/import", name="import_prospects", **answers(ShownImports, 201, description="What became of each.")
)
async def import_found(asked: ImportAsked, asker: Writer) -> Json:
    """Make prospects of people whom a search found. Nobody is asked; enriching them asks Apollo by its id."""
    people = [found.person() for found in asked.people]
    done = await asker.world.write(partial(_import, people=people, asker=asker))
    return Json(ShownImports([ShownImport(each.person.apollo_id, each.became, each.prospect_id) for each in done]), 201)


def _import(connection: Connection, *, people: list[Person], asker: Asker) -> list[Imported]:
    """Import people, and record who did it; may be run again where a commit failed."""
    world, tenant_id = asker.world, asker.tenant_id
    done = import_people(connection, tenant_id, people, world.suppressions, world.stamp)
    new = [each.prospect_id for each in done if each.became is Became.IMPORTED]
    activity.record(connection, [asker.did(Action.PROSPECT_IMPORTED, prospect_id, tenant_id) for prospect_id in new])
    return done
